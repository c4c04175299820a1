//! A job of higher priority takes the place of lower ones, if it fits only so.

mod support;

use common::chain::JobState;
use common::ids::Phase;
use common::messages::NodeBeat;
use common::plan::Plan;
use common::slot::{Cause, Failure, SlotState};
use common::units::{Mib, Millis};
use coordinator_core::planner::plan;
use support::*;

/// A plan of these datasets, whose teachers ask for so much.
fn plan_of(id: &str, datasets: &[&str], priority: i32, mib: u64) -> Plan {
    let mut request = request(datasets);
    for dataset in &mut request.datasets {
        dataset.priority = priority;
        for asked in dataset.phases.values_mut() {
            asked.need = common::plan::MemoryNeed::flat(Mib(mib), Mib(1), "test");
        }
    }
    Plan { id: id.parse().unwrap(), ..plan(&request, &Default::default()).unwrap() }
}

fn nodes(devices: &[u64]) -> Vec<NodeBeat> {
    let gpus = devices.iter().enumerate().map(|(i, mib)| gpu(&format!("GPU-{i}"), *mib)).collect();
    vec![beat("n1", 1, gpus)]
}

/// Runs the teachers of a plan.
fn run(world: &mut World, plan: &Plan, datasets: &[&str]) {
    world.apply_plan(plan);
    for dataset in datasets {
        let key = world.key(plan, &format!("{dataset}/teacher"));
        world.hold(key, 0);
    }
}

/// Which teachers were asked to make way.
fn asked(world: &World, plans: &[(&Plan, &[&str])]) -> Vec<String> {
    let mut asked = Vec::new();
    for (plan, datasets) in plans {
        for dataset in *datasets {
            let slot = world.state.slots.get(&world.key(plan, &format!("{dataset}/teacher")));
            if let Some(SlotState::Held { yields: Some(_), .. }) = slot.map(|s| &s.slot.state) {
                asked.push((*dataset).to_owned());
            }
        }
    }
    asked
}

/// Longer than a job that has just come waits for room to appear.
const PATIENCE: Millis = Millis::from_secs(11);

#[test]
fn a_lower_priority_makes_way_and_comes_back_after() {
    let mut world = World::new(nodes(&[10_000]));
    let low = plan_of("low", &["a"], 0, 8_000);
    run(&mut world, &low, &["a"]);
    let high = plan_of("high", &["b"], 5, 8_000);
    world.apply_plan(&high);
    assert_eq!(asked(&world, &[(&low, &["a"])]), [""; 0], "room may come by itself");
    world.pass(PATIENCE);
    assert_eq!(asked(&world, &[(&low, &["a"])]), ["a"]);
    let key = world.key(&low, "a/teacher");
    let SlotState::Held { yields: Some(order), .. } = world.slot(key).state else { panic!("asked") };
    assert_eq!(
        (order.because.as_str(), order.grace_ms),
        ("makes way for b/teacher, whose priority is 5", 60_000)
    );
    let yielded = Failure { checkpointed: true, ..Failure::new(Cause::Preemption, order.because) };
    world.agent(key, |place| SlotState::Failed { place, failure: yielded });
    let urgent = world.key(&high, "b/teacher");
    assert!(matches!(world.slot(urgent).state, SlotState::Offered { .. }));
    world.hold(urgent, 0);
    world.pass(Millis::from_secs(20));
    assert!(matches!(world.slot(key).state, SlotState::Failed { .. }), "it waits");
    assert!(matches!(world.job_state(&low, "a/teacher"), JobState::Open { .. }));
    assert_eq!(world.record(&low, "a").jobs[&Phase::Teacher].retries, [(Cause::Preemption, 1)].into());
}

#[test]
fn never_for_equal_priority_and_never_when_it_is_switched_off() {
    for (priority, preemption) in [(0, true), (-1, true), (5, false)] {
        let mut world = World::new(nodes(&[10_000]));
        world.state.options.preemption = preemption;
        let low = plan_of("low", &["a"], 0, 8_000);
        run(&mut world, &low, &["a"]);
        world.apply_plan(&plan_of("high", &["b"], priority, 8_000));
        world.pass(PATIENCE);
        assert_eq!(asked(&world, &[(&low, &["a"])]), [""; 0], "{priority} {preemption}");
    }
}

#[test]
fn not_where_there_is_room_or_where_it_would_not_help() {
    // The second card is free.
    let mut world = World::new(nodes(&[10_000, 10_000]));
    let low = plan_of("low", &["a"], 0, 8_000);
    run(&mut world, &low, &["a"]);
    world.apply_plan(&plan_of("high", &["b"], 5, 8_000));
    world.pass(PATIENCE);
    assert_eq!(asked(&world, &[(&low, &["a"])]), [""; 0]);
    // It fits no card at all.
    let mut world = World::new(nodes(&[10_000]));
    run(&mut world, &low, &["a"]);
    world.apply_plan(&plan_of("high", &["b"], 5, 12_000));
    world.pass(PATIENCE);
    assert_eq!(asked(&world, &[(&low, &["a"])]), [""; 0]);
}

#[test]
fn no_more_than_needed_and_the_lowest_first() {
    // One card, two jobs of 4,000 MiB and priorities 0 and 1; one of 4,000 MiB comes.
    let mut world = World::new(nodes(&[10_000]));
    let (low, mid) = (plan_of("low", &["a"], 0, 4_000), plan_of("mid", &["b"], 1, 4_000));
    run(&mut world, &low, &["a"]);
    run(&mut world, &mid, &["b"]);
    world.apply_plan(&plan_of("high", &["c"], 5, 4_000));
    world.pass(PATIENCE);
    assert_eq!(asked(&world, &[(&low, &["a"]), (&mid, &["b"])]), ["a"]);
    // Another round asks nobody else for the same job.
    world.pass(PATIENCE);
    assert_eq!(asked(&world, &[(&low, &["a"]), (&mid, &["b"])]), ["a"]);
}

#[test]
fn two_urgent_jobs_ask_for_two_places() {
    let mut world = World::new(nodes(&[10_000, 10_000]));
    let low = plan_of("low", &["a", "b"], 0, 8_000);
    run(&mut world, &low, &["a", "b"]);
    world.apply_plan(&plan_of("high", &["c", "d"], 5, 8_000));
    world.pass(PATIENCE);
    assert_eq!(asked(&world, &[(&low, &["a", "b"])]), ["a", "b"]);
}

#[test]
fn what_ends_soon_is_waited_for() {
    let mut world = World::new(nodes(&[10_000]));
    let low = plan_of("low", &["a"], 0, 8_000);
    run(&mut world, &low, &["a"]);
    // 45 minutes are expected, and 269 renewals of 10 s were made.
    let key = world.key(&low, "a/teacher");
    world.hold(key, 269);
    world.apply_plan(&plan_of("high", &["b"], 5, 8_000));
    world.pass(PATIENCE);
    assert_eq!(asked(&world, &[(&low, &["a"])]), [""; 0]);
}
