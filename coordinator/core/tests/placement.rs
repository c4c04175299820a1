//! Which device a job gets: policies, order, waiting for a node, and that nothing is ever over-committed.

mod support;

use common::config::PlacementPolicy;
use common::ids::Phase;
use common::messages::{Ceiling, DeviceKind, DeviceReport, ForeignUse, NodeBeat, RunningReport};
use common::plan::{ModelNeed, Plan};
use common::slot::{Cause, Failure, Place, SlotState};
use common::trainer_protocol::Stage;
use common::units::{Mib, Millis};
use coordinator_core::explain::Reason;
use coordinator_core::placement::{Blocker, Fleet};
use coordinator_core::planner::{Request, plan};
use coordinator_core::{Event, due, explain, invariants};
use proptest::prelude::*;
use support::*;

fn need(request: &mut Request, dataset: usize, phase: Phase) -> &mut common::plan::MemoryNeed {
    &mut request.datasets[dataset].phases.get_mut(&phase).unwrap().need
}

/// Places of the teachers, in the order of names.
fn places(world: &World, plan: &Plan) -> Vec<Option<String>> {
    let mut names: Vec<String> = plan.jobs.iter().map(|j| j.spec.name.to_string()).collect();
    names.retain(|n| n.ends_with("teacher"));
    names.sort();
    let place = |name: &String| {
        let seen = world.state.slots.get(&world.key(plan, name))?;
        let place = seen.slot.state.reserved()?;
        Some(format!("{} {}", place.node, place.device))
    };
    names.iter().map(place).collect()
}

fn world_of(request: &Request, nodes: Vec<(&str, Vec<DeviceReport>)>) -> (World, Plan) {
    let beats = nodes.into_iter().map(|(node, devices)| beat(node, 1, devices)).collect();
    let mut world = World::new(beats);
    let plan = plan(request, &Default::default()).unwrap();
    world.apply_plan(&plan);
    (world, plan)
}

fn with_policy(sets: &[&str], policy: PlacementPolicy) -> Request {
    let mut request = request(sets);
    (0..sets.len()).for_each(|at| need(&mut request, at, Phase::Teacher).policy = policy);
    request
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn spread_takes_the_emptiest_card_and_compact_the_fullest() {
    let nodes = || vec![("n1", vec![gpu("GPU-0", 22_000), gpu("GPU-1", 22_000)])];
    let (world, plan) = world_of(&with_policy(&["a", "b"], PlacementPolicy::Spread), nodes());
    assert_eq!(places(&world, &plan), [some("n1 GPU-0"), some("n1 GPU-1")]);
    let (world, plan) = world_of(&with_policy(&["a", "b", "c"], PlacementPolicy::Compact), nodes());
    assert_eq!(places(&world, &plan), [some("n1 GPU-0"), some("n1 GPU-0"), some("n1 GPU-1")]);
}

#[test]
fn an_exclusive_job_wants_an_empty_card_and_keeps_it() {
    let mut request = request(&["a", "b", "c"]);
    need(&mut request, 0, Phase::Teacher).policy = PlacementPolicy::Exclusive;
    let (mut world, plan) = world_of(&request, vec![("n1", vec![gpu("GPU-0", 22_000)])]);
    assert_eq!(places(&world, &plan), [some("n1 GPU-0"), None, None]);
    let why = explain(&world.state, world.now, &id(&plan, "b/teacher")).unwrap();
    let [Reason::NoRoomNow { devices, .. }] = &why.reasons[..] else { panic!("{:?}", why.reasons) };
    assert_eq!(devices[0].blocker.to_string(), "kept whole by a/teacher 8192 MiB");
    // It runs on for as long as it likes; nobody joins it.
    let key = world.key(&plan, "a/teacher");
    world.hold(key, 0);
    world.pass(Millis::from_secs(5));
    assert_eq!(places(&world, &plan), [some("n1 GPU-0"), None, None]);
    world.finish(key);
    assert_eq!(places(&world, &plan), [None, some("n1 GPU-0"), some("n1 GPU-0")]);
}

#[test]
fn an_exclusive_job_waits_while_others_are_there() {
    let mut request = request(&["a", "b"]);
    request.datasets[1].priority = 5;
    need(&mut request, 0, Phase::Teacher).policy = PlacementPolicy::Exclusive;
    let (world, plan) = world_of(&request, vec![("n1", vec![gpu("GPU-0", 22_000)])]);
    assert_eq!(places(&world, &plan), [None, some("n1 GPU-0")]);
    let why = explain(&world.state, world.now, &id(&plan, "a/teacher")).unwrap();
    let [Reason::NoRoomNow { devices, .. }] = &why.reasons[..] else { panic!("{:?}", why.reasons) };
    assert!(matches!(devices[0].blocker, Blocker::WantsWhole { .. }), "{devices:?}");
}

#[test]
fn a_machines_processor_and_mig_instances_are_devices_like_any_other() {
    let cpu = DeviceReport { kind: DeviceKind::Cpu, max_jobs: 2, ..gpu("cpu", 6_000) };
    let instance = |id: &str| DeviceReport { max_jobs: 1, ..gpu(id, 18_000) };
    let mut request = request(&["a", "b", "c", "d", "e"]);
    for at in [3, 4] {
        let device = common::config::DeviceChoice::Cpu;
        request.datasets[at].phases.get_mut(&Phase::Teacher).unwrap().tuning.device = device;
    }
    let devices = vec![cpu, instance("MIG-1"), instance("MIG-2")];
    let (world, plan) = world_of(&request, vec![("n1", devices)]);
    let expected = [some("n1 MIG-1"), some("n1 MIG-2"), None, some("n1 cpu"), some("n1 cpu")];
    assert_eq!(places(&world, &plan), expected);
}

#[test]
fn the_need_is_that_of_the_cards_model() {
    let small = |id: &str| DeviceReport { model: "Small".into(), ..gpu(id, 4_000) };
    let mut request = request(&["a"]);
    need(&mut request, 0, Phase::Teacher).on = vec![ModelNeed {
        kind: DeviceKind::Gpu,
        model: "Small".into(),
        mib: Mib(3000),
        basis: "measured".into(),
        micro_batch_max: Some(512),
    }];
    let (world, plan) = world_of(&request, vec![("n1", vec![small("GPU-0")])]);
    let place = world.slot(world.key(&plan, "a/teacher")).state.place().cloned().unwrap();
    assert_eq!(place.reserve_mib, Mib(3000));
    request.datasets[0].phases.get_mut(&Phase::Teacher).unwrap().need.on.clear();
    request.datasets[0].phases.get_mut(&Phase::Teacher).unwrap().tuning.device =
        common::config::DeviceChoice::Cuda;
    let (world, plan) = world_of(&request, vec![("n1", vec![small("GPU-0")])]);
    assert_eq!(places(&world, &plan), [None]);
}

#[test]
fn unmanaged_use_is_told_with_its_processes() {
    let foreign = |pid, mib| ForeignUse { pid, used_mib: Some(Mib(mib)) };
    let report = DeviceReport {
        foreign_mib: Some(Mib(18_000)),
        foreign: vec![foreign(7, 500), foreign(4242, 17_500)],
        ..gpu("GPU-0", 22_000)
    };
    let (world, plan) = world_of(&request(&["a"]), vec![("n1", vec![report])]);
    let why = explain(&world.state, world.now, &id(&plan, "a/teacher")).unwrap();
    let [Reason::NoRoomNow { devices, .. }] = &why.reasons[..] else { panic!("{:?}", why.reasons) };
    let told = devices[0].blocker.to_string();
    assert_eq!(told, "needs 8192 MiB, free 4000 MiB; unmanaged 18000 MiB (pids 4242, 7)");
}

fn one_at_a_time(id: &str) -> DeviceReport {
    DeviceReport { max_jobs: 1, ..gpu(id, 22_000) }
}

#[test]
fn priority_goes_before_the_longest_chain_and_that_before_age() {
    let mut request = request(&["a", "b", "c"]);
    request.datasets[1].phases.get_mut(&Phase::Fusion).unwrap().expected_ms *= 5;
    request.datasets[2].priority = 1;
    for (cards, expected) in [(1, vec!["c"]), (2, vec!["b", "c"])] {
        let devices = ["GPU-0", "GPU-1"][..cards].iter().map(|id| one_at_a_time(id)).collect();
        let (world, plan) = world_of(&request, vec![("n1", devices)]);
        let placed = places(&world, &plan);
        let names = ["a", "b", "c"].iter().zip(&placed).filter(|(_, p)| p.is_some()).map(|(n, _)| *n);
        assert_eq!(names.collect::<Vec<_>>(), expected);
    }
}

/// The teacher of `a` ran on n2: n2 has its checkpoint and the prepared graphs.
fn after_a_teacher_on_n2() -> (World, Plan, Place) {
    let nodes = vec![("n2", vec![one_at_a_time("GPU-0")])];
    let (mut world, plan) = world_of(&request(&["a"]), nodes);
    let key = world.key(&plan, "a/teacher");
    world.hold(key, 0);
    let place = world.slot(key).state.place().cloned().unwrap();
    (world, plan, place)
}

/// The beat of n2 in which the teacher still sits on the card.
fn still_running(world: &World, plan: &Plan, place: &Place) -> RunningReport {
    let key = world.key(plan, "a/teacher");
    RunningReport {
        job: id(plan, "a/teacher"),
        key,
        attempt: world.slot(key).attempt,
        place: place.clone(),
        pid: Some(1),
        stage: Stage::Uploading,
        progress: None,
        fraction: None,
        loss: None,
        graphs_per_s: None,
        eta_ms: None,
        used_mib: None,
        resumed_from_epoch: None,
        waits: None,
    }
}

#[test]
fn a_job_goes_where_its_parents_checkpoint_lies() {
    let (mut world, plan, _) = after_a_teacher_on_n2();
    world.tell(Event::Beat { beat: Box::new(beat("n1", 1, vec![one_at_a_time("GPU-0")])) });
    let key = world.key(&plan, "a/teacher");
    world.finish(key);
    let student = world.slot(world.key(&plan, "a/student"));
    assert_eq!(student.state.place().unwrap().node.as_str(), "n2", "n1 is free too and comes first by name");
}

#[test]
fn a_job_waits_a_little_for_that_node_and_not_for_ever() {
    let (mut world, plan, place) = after_a_teacher_on_n2();
    let mut told = beat("n2", 9, vec![one_at_a_time("GPU-0")]);
    told.running.push(still_running(&world, &plan, &place));
    world.tell(Event::Beat { beat: Box::new(told) });
    world.tell(Event::Beat { beat: Box::new(beat("n1", 1, vec![one_at_a_time("GPU-0")])) });
    let key = world.key(&plan, "a/teacher");
    world.finish(key);
    let student = world.key(&plan, "a/student");
    assert!(!world.state.slots.contains_key(&student), "n2 is about to be free");
    let why = explain(&world.state, world.now, &id(&plan, "a/student")).unwrap();
    let waits = Reason::WaitsForNode { place: "n2 GPU-0".into(), at_most_ms: 15_000 };
    assert_eq!(why.reasons, [waits]);
    world.pass(Millis::from_secs(10));
    assert!(!world.state.slots.contains_key(&student));
    world.pass(Millis::from_secs(6));
    assert_eq!(world.slot(student).state.place().unwrap().node.as_str(), "n1");
}

#[test]
fn a_result_that_the_store_refused_is_stored_by_the_node_that_has_it() {
    let (mut world, plan, place) = after_a_teacher_on_n2();
    let key = world.key(&plan, "a/teacher");
    let failure = Failure::new(Cause::Store, "read-only");
    world.agent(key, |_| SlotState::Failed { place, failure });
    world.settle();
    world.tell(Event::Beat { beat: Box::new(beat("n1", 1, vec![one_at_a_time("GPU-0")])) });
    let again = plan_named(&request(&["a"]), "p2");
    world.apply_plan(&again);
    world.settle();
    assert_eq!(places(&world, &again), [some("n2 GPU-0")], "n1 is free too and comes first by name");
}

#[test]
fn nobody_waits_for_a_node_that_is_busy_for_long() {
    let (mut world, plan, _) = after_a_teacher_on_n2();
    // Somebody else's process fills the card, and nobody knows until when.
    let foreign = DeviceReport { foreign_mib: Some(Mib(21_000)), ..one_at_a_time("GPU-0") };
    world.tell(Event::Beat { beat: Box::new(beat("n2", 9, vec![foreign])) });
    world.tell(Event::Beat { beat: Box::new(beat("n1", 1, vec![one_at_a_time("GPU-0")])) });
    let key = world.key(&plan, "a/teacher");
    world.finish(key);
    let student = world.slot(world.key(&plan, "a/student"));
    assert_eq!(student.state.place().unwrap().node.as_str(), "n1");
}

fn plan_named(request: &Request, name: &str) -> Plan {
    let mut plan = plan(request, &Default::default()).unwrap();
    plan.id = name.parse().unwrap();
    plan
}

#[test]
fn explain_and_the_decision_mean_the_same_by_room() {
    let (world, plan) = world_of(&request(&["a", "b"]), vec![("n1", vec![one_at_a_time("GPU-0")])]);
    let fleet = Fleet::of(&world.state, world.now);
    let spec = &plan.job(&job("b/teacher")).unwrap().spec;
    assert_eq!(fleet.blockers(spec, &Default::default()).len(), 1);
    assert!(
        !due(&world.state, world.now).iter().any(|e| matches!(e, coordinator_core::Effect::WriteSlot { .. }))
    );
}

#[derive(Debug, Clone)]
struct Card {
    budget: u64,
    max_jobs: u32,
    foreign: Option<u64>,
}

fn card() -> impl Strategy<Value = Card> {
    (1_000u64..40_000, 1u32..4, proptest::option::weighted(0.9, 0u64..10_000))
        .prop_map(|(budget, max_jobs, foreign)| Card { budget, max_jobs, foreign })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the fleet, the needs and the policies, and whatever ends in between: reservations and foreign
    /// use never exceed a budget, no card has more jobs than it may, and an exclusive job is alone.
    #[test]
    fn no_device_is_ever_over_committed(
        cards in prop::collection::vec(card(), 1..5),
        jobs in prop::collection::vec((500u64..30_000, 0usize..3, -1i32..2), 1..9),
        ends in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let names: Vec<String> = (0..jobs.len()).map(|n| format!("set_{n}")).collect();
        let mut request = request(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let policies = [PlacementPolicy::Spread, PlacementPolicy::Compact, PlacementPolicy::Exclusive];
        for (at, (mib, policy, priority)) in jobs.iter().enumerate() {
            request.datasets[at].priority = *priority;
            for phase in Phase::ALL {
                let need = need(&mut request, at, phase);
                (need.gpu_mib, need.policy) = (Mib(*mib), policies[*policy]);
            }
        }
        let nodes: Vec<_> = cards.iter().enumerate().map(|(n, card)| {
            let foreign_mib = card.foreign.map(Mib);
            let report = DeviceReport { foreign_mib, max_jobs: card.max_jobs, ..gpu("GPU-0", card.budget) };
            beat(&format!("n{n}"), 1, vec![report])
        }).collect();
        let mut world = World::new(nodes);
        let plan = plan(&request, &Default::default()).unwrap();
        world.apply_plan(&plan);
        never_over_committed(&world);
        for end in ends {
            let held: Vec<_> = world.state.slots.iter()
                .filter(|(_, s)| s.slot.state.reserved().is_some()).map(|(key, _)| *key).collect();
            let Some(key) = held.get(end.index(held.len().max(1))) else { break };
            world.hold(*key, 0);
            world.finish(*key);
            never_over_committed(&world);
        }
    }
}

fn never_over_committed(world: &World) {
    assert_eq!(invariants::check_indexes(&world.state), []);
    for room in Fleet::of(&world.state, world.now).rooms {
        let foreign = room.foreign_mib.unwrap_or_default();
        if room.holders.is_empty() {
            continue;
        }
        assert!(room.foreign_mib.is_some(), "placed where foreign use is unknown: {room:?}");
        assert!(room.reserved_mib().saturating_add(foreign) <= room.budget_mib, "{room:?}");
        assert!(room.jobs() <= room.max_jobs, "{room:?}");
        assert!(room.jobs() == 1 || !room.holders.iter().any(|h| h.exclusive), "{room:?}");
    }
}

/// PRODUCT pain 19: a batch that is safe on a card is found once, not by every attempt on every node.
#[test]
fn what_ran_out_of_memory_anywhere_goes_into_the_offers_for_that_model() {
    let mut request = request(&["a"]);
    let (world, _) = world_of(&request, vec![("n1", vec![gpu("GPU-0", 22_000)])]);
    let offer = world.offers.last().unwrap();
    assert_eq!(offer.micro_batch_max, None);
    let told = |model: &str, micro_batch| Ceiling {
        phase: Phase::Teacher,
        shape: common::job_key::shape_of(&offer.spec.inputs.semantic),
        device_model: model.into(),
        micro_batch,
    };
    let other = NodeBeat {
        ceilings: vec![told("Test GPU", 256), told("Small", 8)],
        closed_because: Some("cordoned".into()),
        ..beat("n2", 1, vec![])
    };
    need(&mut request, 0, Phase::Teacher).on = vec![ModelNeed {
        kind: DeviceKind::Gpu,
        model: "Test GPU".into(),
        mib: Mib(3000),
        basis: "measured".into(),
        micro_batch_max: Some(512),
    }];
    let mut world = World::new(vec![other, beat("n1", 1, vec![gpu("GPU-0", 22_000)])]);
    world.apply_plan(&plan(&request, &Default::default()).unwrap());
    assert_eq!(world.offers.last().unwrap().micro_batch_max, Some(256), "the least of what is known");
}
