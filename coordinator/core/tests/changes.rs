//! Pause, resume and another try, by hand.

mod support;

use common::chain::JobState;
use common::ids::{Attempt, Phase};
use common::plan::Plan;
use common::slot::{Cause, Failure, SlotState};
use common::units::Millis;
use coordinator_core::explain::Reason;
use coordinator_core::planner::plan;
use coordinator_core::view::{JobView, view};
use coordinator_core::{Event, by_hand, explain, transition};
use support::*;

fn world() -> (World, Plan) {
    let mut world = World::new(vec![beat("n1", 1, vec![gpu("GPU-0", 22_000)])]);
    let plan = plan(&request(&["a"]), &Default::default()).unwrap();
    world.apply_plan(&plan);
    (world, plan)
}

fn write(world: &mut World, record: common::chain::ChainRecord) {
    let revision = world.revision();
    world.tell(Event::ChainSeen { record: Box::new(record), revision });
    world.settle();
}

fn pause(world: &mut World, plan: &Plan, phases: &[Phase]) {
    let (paused, _) = by_hand::pause(world.record(plan, "a"), phases, "card needed").unwrap();
    write(world, paused);
}

fn resume(world: &mut World, plan: &Plan) {
    let (resumed, _) = by_hand::resume(world.record(plan, "a"), &Phase::ALL).unwrap();
    write(world, resumed);
}

fn fail(world: &mut World, plan: &Plan, name: &str, failure: Failure) {
    let key = world.key(plan, name);
    world.agent(key, |place| SlotState::Failed { place, failure });
}

fn user_error(world: &mut World, plan: &Plan, name: &str) {
    let key = world.key(plan, name);
    world.hold(key, 0);
    fail(world, plan, name, Failure::new(Cause::UserError, "no captures"));
}

#[test]
fn a_paused_job_is_asked_to_yield_is_offered_no_more_and_goes_on_when_resumed() {
    let (mut world, plan) = world();
    let (key, job_id) = (world.key(&plan, "a/teacher"), id(&plan, "a/teacher"));
    world.hold(key, 0);
    pause(&mut world, &plan, &[Phase::Teacher]);
    let SlotState::Held { yields: Some(order), .. } = world.slot(key).state else { panic!("asked") };
    assert_eq!(order.because, "paused: card needed");
    assert!(matches!(view(&world.state, &job_id), Some(JobView::Running { .. })), "until it has yielded");
    fail(&mut world, &plan, "a/teacher", Failure::new(Cause::Preemption, "yielded"));
    world.pass(Millis::from_secs(600));
    assert_eq!(world.slot(key).attempt, Attempt(1), "nothing is offered");
    assert_eq!(view(&world.state, &job_id), Some(JobView::Paused { reason: "card needed".into() }));
    let why = explain(&world.state, world.now, &job_id).unwrap();
    assert_eq!(why.reasons, [Reason::Paused { reason: "card needed".into() }]);
    resume(&mut world, &plan);
    world.pass(Millis::from_secs(5));
    assert_eq!(world.slot(key).attempt, Attempt(2));
}

#[test]
fn what_is_paused_before_it_is_unlocked_waits_too() {
    let (mut world, plan) = world();
    pause(&mut world, &plan, &[Phase::Student]);
    assert!(by_hand::pause(world.record(&plan, "a"), &[Phase::Student], "again").is_none());
    let teacher = world.key(&plan, "a/teacher");
    world.hold(teacher, 0);
    world.finish(teacher);
    let student = world.key(&plan, "a/student");
    world.pass(Millis::from_secs(60));
    assert!(!world.state.slots.contains_key(&student));
    resume(&mut world, &plan);
    assert!(matches!(world.slot(student).state, SlotState::Offered { .. }));
    assert!(by_hand::resume(world.record(&plan, "a"), &Phase::ALL).is_none());
}

#[test]
fn another_try_takes_along_what_was_skipped_and_never_repeats_a_number() {
    let (mut world, plan) = world();
    user_error(&mut world, &plan, "a/teacher");
    assert!(matches!(world.job_state(&plan, "a/teacher"), JobState::Failed { .. }));
    assert!(matches!(world.job_state(&plan, "a/fusion"), JobState::Skipped { .. }));
    let (reopened, notes) = by_hand::reopen(world.record(&plan, "a"), &[Phase::Teacher]).unwrap().unwrap();
    assert_eq!(notes.len(), 3, "teacher, student and fusion");
    write(&mut world, reopened);
    let key = world.key(&plan, "a/teacher");
    assert_eq!(world.slot(key).attempt, Attempt(2));
    assert!(world.record(&plan, "a").jobs[&Phase::Teacher].retries.is_empty());
    assert_eq!(world.job_state(&plan, "a/student"), JobState::Blocked);
    for name in ["a/teacher", "a/student", "a/fusion"] {
        let key = world.key(&plan, name);
        world.hold(key, 0);
        world.finish(key);
    }
    assert!(world.record(&plan, "a").is_finished());
    assert_eq!(by_hand::reopen(world.record(&plan, "a"), &Phase::ALL), Ok(None), "a result is final");
}

#[test]
fn a_job_is_not_tried_again_without_its_parent() {
    let (mut world, plan) = world();
    user_error(&mut world, &plan, "a/teacher");
    let refused = by_hand::reopen(world.record(&plan, "a"), &[Phase::Student]).unwrap_err();
    assert_eq!(refused.to_string(), "a/student builds on a/teacher, which has no result");
}

/// The holder of a cancelled attempt may not have noticed yet when the job is tried again.
#[test]
fn a_cancelled_job_that_is_tried_again_has_one_holder() {
    let (mut world, plan) = world();
    let key = world.key(&plan, "a/teacher");
    world.hold(key, 0);
    let (cancelled, _) = transition::cancel(world.record(&plan, "a"), &Phase::ALL, "oops").unwrap();
    write(&mut world, cancelled);
    assert!(matches!(world.slot(key).state, SlotState::Closed { .. }), "fenced");
    let (reopened, _) = by_hand::reopen(world.record(&plan, "a"), &Phase::ALL).unwrap().unwrap();
    write(&mut world, reopened);
    assert_eq!(world.slot(key).attempt, Attempt(2), "its number is not used twice");
    assert!(matches!(world.slot(key).state, SlotState::Offered { .. }));
}

#[test]
fn progress_fills_the_budgets_of_bad_luck_up_and_no_others() {
    let (mut world, plan) = world();
    let retries = |world: &World| world.record(&plan, "a").jobs[&Phase::Teacher].retries.clone();
    let attempt = |world: &mut World, cause, checkpointed| {
        world.pass(Millis::from_secs(300));
        let key = world.key(&plan, "a/teacher");
        world.hold(key, 0);
        fail(world, &plan, "a/teacher", Failure { checkpointed, ..Failure::new(cause, "x") });
    };
    attempt(&mut world, Cause::OutOfMemory, false);
    for _ in 0..5 {
        attempt(&mut world, Cause::Infrastructure, false);
    }
    attempt(&mut world, Cause::Preemption, false);
    assert_eq!(
        retries(&world),
        [(Cause::Infrastructure, 5), (Cause::Preemption, 1), (Cause::OutOfMemory, 1)].into()
    );
    attempt(&mut world, Cause::Infrastructure, true);
    assert_eq!(retries(&world), [(Cause::Infrastructure, 1), (Cause::OutOfMemory, 1)].into());
    for _ in 0..5 {
        assert!(matches!(world.job_state(&plan, "a/teacher"), JobState::Open { .. }));
        attempt(&mut world, Cause::Infrastructure, false);
    }
    assert!(matches!(
        world.job_state(&plan, "a/teacher"),
        JobState::Failed { cause: Cause::Infrastructure, .. }
    ));
}

#[test]
fn a_lease_that_ran_out_after_a_checkpoint_is_progress_too() {
    let (mut world, plan) = world();
    let key = world.key(&plan, "a/teacher");
    world.hold(key, 0);
    fail(&mut world, &plan, "a/teacher", Failure::new(Cause::Infrastructure, "x"));
    world.pass(Millis::from_secs(5));
    world.agent(key, |place| {
        match SlotState::held(
            place,
            common::ids::Incarnation(1),
            3,
            common::trainer_protocol::Stage::Training,
        ) {
            SlotState::Held { place, incarnation, beat, stage, yields, .. } => {
                SlotState::Held { place, incarnation, beat, stage, yields, checkpointed: true }
            }
            other => other,
        }
    });
    world.pass(Millis::from_secs(31));
    assert_eq!(world.record(&plan, "a").jobs[&Phase::Teacher].retries, [(Cause::Infrastructure, 1)].into());
}

#[test]
fn jobs_that_failed_together_part_and_the_pause_follows_from_key_and_attempt() {
    let pauses = |datasets: &[&str]| -> Vec<u64> {
        let mut world = World::new(vec![beat("n1", 1, vec![gpu("GPU-0", 80_000), gpu("GPU-1", 80_000)])]);
        let plan = plan(&request(datasets), &Default::default()).unwrap();
        world.apply_plan(&plan);
        let pause_of = |name: &&str| {
            let record = world.record(&plan, name);
            let ended = transition::Ended {
                cause: Cause::Infrastructure,
                message: "x".into(),
                node: None,
                progress: false,
            };
            let (next, _) = transition::retry(record, Phase::Teacher, ended, &world.state.options).unwrap();
            let JobState::Open { backoff_ms, .. } = next.jobs[&Phase::Teacher].state else { panic!("open") };
            backoff_ms
        };
        datasets.iter().map(pause_of).collect()
    };
    let first = pauses(&["a", "b", "c", "d"]);
    assert_eq!(first, pauses(&["a", "b", "c", "d"]), "a restarted coordinator draws the same");
    assert!(first.iter().all(|ms| (1_000..1_250).contains(ms)), "{first:?}");
    assert!(first.iter().any(|ms| *ms != first[0]), "{first:?}");
}
