//! Decisions of operators about nodes, and what the coordinator makes of them.

mod support;

use common::chain::JobState;
use common::ids::{Attempt, NodeId, Phase};
use common::job_key::JobKey;
use common::node::{DecidedBy, NodeRecord, NodeStanding};
use common::plan::Plan;
use common::slot::{Cause, Failure, SlotState};
use common::units::{Millis, UnixMs};
use coordinator_core::explain::Reason;
use coordinator_core::placement::Blocker;
use coordinator_core::planner::plan;
use coordinator_core::{Event, explain};
use support::*;

fn decide(world: &mut World, node: &str, standing: NodeStanding) {
    let node: NodeId = node.parse().unwrap();
    let record =
        NodeRecord { node, standing, reason: "new driver".into(), by: DecidedBy::Operator, since: UnixMs(1) };
    let revision = world.revision();
    world.tell(Event::NodeDecided { record: Box::new(record), revision });
    world.settle();
}

const DRAIN: NodeStanding = NodeStanding::Draining { after_ms: 0, grace_ms: None };

fn two_nodes(datasets: &[&str]) -> (World, Plan) {
    let nodes = ["n1", "n2"].map(|node| beat(node, 1, vec![gpu("GPU-0", 22_000)]));
    let mut world = World::new(nodes.into());
    let plan = plan(&request(datasets), &Default::default()).unwrap();
    world.apply_plan(&plan);
    (world, plan)
}

fn node_of(world: &World, key: JobKey) -> String {
    world.slot(key).state.place().unwrap().node.to_string()
}

fn other(node: &str) -> &'static str {
    if node == "n1" { "n2" } else { "n1" }
}

fn asked(world: &World, key: JobKey) -> Option<(String, u64)> {
    match world.slot(key).state {
        SlotState::Held { yields, .. } => yields.map(|y| (y.because, y.grace_ms)),
        other => panic!("{other:?}"),
    }
}

fn fail(world: &mut World, key: JobKey, failure: Failure) {
    world.agent(key, |place| SlotState::Failed { place, failure });
}

#[test]
fn an_offer_to_a_node_that_was_closed_goes_elsewhere_at_once() {
    let (mut world, plan) = two_nodes(&["a"]);
    let key = world.key(&plan, "a/teacher");
    let first = node_of(&world, key);
    decide(&mut world, &first, NodeStanding::Cordoned);
    assert_eq!(node_of(&world, key), other(&first));
    assert_eq!((world.slot(key).attempt, world.slot(key).offer), (Attempt(1), 2));
}

#[test]
fn a_closed_node_is_told_as_the_reason_and_takes_jobs_again_after_uncordon() {
    let (mut world, plan) = two_nodes(&["a"]);
    let key = world.key(&plan, "a/teacher");
    let here = node_of(&world, key);
    for closed in [NodeStanding::Cordoned, NodeStanding::Quarantined, DRAIN] {
        decide(&mut world, "n1", closed);
        decide(&mut world, "n2", closed);
        world.agent(key, |place| SlotState::Declined { place, reason: "gone".into() });
        world.pass(Millis::from_secs(20));
        assert!(matches!(world.slot(key).state, SlotState::Declined { .. }), "nothing is offered");
        let why = explain(&world.state, world.now, &id(&plan, "a/teacher")).unwrap();
        let [Reason::NoRoomNow { devices, .. }] = &why.reasons[..] else { panic!("{:?}", why.reasons) };
        let told = format!("{closed}: new driver");
        assert!(devices.iter().all(|d| d.blocker == Blocker::NodeClosed { because: told.clone() }));
        decide(&mut world, &here, NodeStanding::Open);
        assert_eq!(node_of(&world, key), here);
        assert!(matches!(world.slot(key).state, SlotState::Offered { .. }));
    }
}

#[test]
fn a_drained_attempt_yields_and_moves_and_only_the_budget_of_preemption_pays() {
    let (mut world, plan) = two_nodes(&["a"]);
    let key = world.key(&plan, "a/teacher");
    world.hold(key, 0);
    let first = node_of(&world, key);
    decide(&mut world, &first, NodeStanding::Cordoned);
    assert_eq!(asked(&world, key), None, "what runs on a cordoned node goes on");
    decide(&mut world, &first, DRAIN);
    let (because, grace_ms) = asked(&world, key).unwrap();
    assert_eq!((because, grace_ms), (format!("{first} is draining: new driver"), 60_000));
    let why = explain(&world.state, world.now, &id(&plan, "a/teacher")).unwrap();
    assert!(matches!(&why.reasons[..], [Reason::AskedToYield { .. }]), "{:?}", why.reasons);
    let yielded = Failure { checkpointed: true, ..Failure::new(Cause::Preemption, "asked to yield") };
    fail(&mut world, key, yielded);
    world.pass(Millis::from_secs(5));
    assert_eq!((node_of(&world, key), world.slot(key).attempt), (other(&first).to_owned(), Attempt(2)));
    let record = &world.record(&plan, "a").jobs[&Phase::Teacher];
    assert_eq!(record.retries, [(Cause::Preemption, 1)].into());
}

#[test]
fn the_deadline_of_a_drain_is_waited_for() {
    let (mut world, plan) = two_nodes(&["a"]);
    let key = world.key(&plan, "a/teacher");
    world.hold(key, 0);
    let node = node_of(&world, key);
    decide(&mut world, &node, NodeStanding::Draining { after_ms: 120_000, grace_ms: Some(5_000) });
    for beat in 1..=11 {
        world.pass(Millis::from_secs(10));
        assert_eq!(asked(&world, key), None, "after {beat}0 s");
        world.hold(key, beat);
    }
    world.pass(Millis::from_secs(10));
    assert_eq!(asked(&world, key).unwrap().1, 5_000);
}

fn fast() -> Failure {
    Failure { trained_ms: Some(900), ..Failure::new(Cause::Infrastructure, "signal 11\nstack") }
}

fn quarantined(world: &World) -> Vec<&str> {
    let closed = world.state.standings.values().filter(|s| s.record.standing == NodeStanding::Quarantined);
    closed.map(|s| s.record.node.as_str()).collect()
}

/// Fails the first attempts of these jobs on n1, the others are taken away from there.
fn fail_on_n1(world: &mut World, plan: &Plan, jobs: &[&str], failure: &Failure) {
    for name in jobs {
        let key = world.key(plan, name);
        let slot = world.slot(key);
        assert!(matches!(slot.state, SlotState::Offered { .. }), "{slot:?}");
        world.agent(key, |place| {
            SlotState::held(
                common::slot::Place { node: "n1".parse().unwrap(), ..place },
                common::ids::Incarnation(1),
                0,
                common::trainer_protocol::Stage::Fetching,
            )
        });
        fail(world, key, failure.clone());
    }
}

#[test]
fn three_fast_failures_of_distinct_jobs_quarantine_a_node_and_uncordon_lifts_it() {
    let (mut world, plan) = two_nodes(&["a", "b", "c"]);
    fail_on_n1(&mut world, &plan, &["a/teacher", "b/teacher"], &fast());
    assert_eq!(quarantined(&world), [""; 0]);
    fail_on_n1(&mut world, &plan, &["c/teacher"], &fast());
    assert_eq!(quarantined(&world), ["n1"]);
    let reason = &world.state.standings.values().next().unwrap().record.reason;
    assert_eq!(
        reason,
        "3 jobs in a row failed soon after their start: a/teacher: signal 11; b/teacher: signal 11; c/teacher: signal 11"
    );
    world.pass(Millis::from_secs(10));
    let slots = ["a/teacher", "b/teacher", "c/teacher"].map(|name| world.slot(world.key(&plan, name)).state);
    let offered: Vec<&str> = slots.iter().filter_map(|s| Some(s.reserved()?.node.as_str())).collect();
    assert_eq!(offered, ["n2", "n2"], "it has room for two");
    decide(&mut world, "n1", NodeStanding::Open);
    assert_eq!(quarantined(&world), [""; 0], "and what was held against it is forgotten");
}

#[test]
fn what_says_nothing_about_the_node_does_not_quarantine_it() {
    let harmless = [
        Failure { trained_ms: Some(61_000), ..fast() },
        Failure { trained_ms: None, ..fast() },
        Failure { cause: Cause::UserError, ..fast() },
        Failure { cause: Cause::Preemption, ..fast() },
    ];
    for failure in harmless {
        let (mut world, plan) = two_nodes(&["a", "b", "c"]);
        fail_on_n1(&mut world, &plan, &["a/teacher", "b/teacher", "c/teacher"], &failure);
        assert_eq!(quarantined(&world), [""; 0], "{failure:?}");
    }
}

#[test]
fn one_job_that_always_fails_and_a_success_between_do_not_quarantine() {
    let (mut world, plan) = two_nodes(&["a", "b", "c"]);
    for _ in 0..4 {
        fail_on_n1(&mut world, &plan, &["a/teacher"], &fast());
        world.pass(Millis::from_secs(30));
    }
    fail_on_n1(&mut world, &plan, &["b/teacher"], &fast());
    assert_eq!(quarantined(&world), [""; 0], "two distinct jobs");
    let key = world.key(&plan, "c/teacher");
    world.agent(key, |place| {
        SlotState::held(
            common::slot::Place { node: "n1".parse().unwrap(), ..place },
            common::ids::Incarnation(1),
            0,
            common::trainer_protocol::Stage::Training,
        )
    });
    world.finish(key);
    fail_on_n1(&mut world, &plan, &["c/student"], &fast());
    assert_eq!(quarantined(&world), [""; 0], "the success between clears it");
}

#[test]
fn the_only_node_that_can_run_the_jobs_is_never_quarantined() {
    let large = beat("n1", 1, vec![gpu("GPU-0", 40_000)]);
    let mut world = World::new(vec![large, beat("n2", 1, vec![gpu("GPU-0", 10_000)])]);
    let plan = plan(&request(&["a", "b", "c"]), &Default::default()).unwrap();
    world.apply_plan(&plan);
    fail_on_n1(&mut world, &plan, &["a/teacher", "b/teacher", "c/teacher"], &fast());
    assert_eq!(quarantined(&world), [""; 0]);
    assert!(matches!(world.job_state(&plan, "a/teacher"), JobState::Open { .. }));
}
