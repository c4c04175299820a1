//! The store away, slow or refusing: what is tried again, told, given up, and what is never lost.

use crate::support::{World, done, finished, id};
use agent_core::{AttemptState, Change, ChildExit, Effect, Event, Nature, Problem, beat};
use common::digest::Digest;
use common::messages::{Waits, WaitsFor};
use common::slot::{Cause, SlotState};
use common::units::Mib;

fn problem(nature: Nature, cause: Cause, message: &str) -> Problem {
    Problem { nature, cause, message: message.into() }
}

fn read_only() -> Problem {
    problem(Nature::Refused, Cause::Store, "/store: the store refuses access (read-only file system)")
}

fn waits(world: &World) -> Option<Waits> {
    beat(&world.state, world.now, 1).running[0].waits.clone()
}

#[test]
fn only_the_newest_checkpoint_is_stored_and_a_failure_is_told_and_tried_again() {
    let mut world = World::new();
    world.running(1);
    world.checkpoint(1, 1);
    world.checkpoint(1, 2);
    let newest =
        |e: &Effect| matches!(e, Effect::StoreCheckpoint { checkpoint, .. } if checkpoint.epoch == 2);
    assert!(world.asked_for(newest));
    let slow = problem(Nature::Away, Cause::Infrastructure, "slow");
    world.tell(Event::CheckpointFailed { run: id(1), seq: 2, problem: slow });
    world.settle();
    assert!(!world.asked_for(newest), "not at once");
    assert_eq!(waits(&world).map(|w| w.to_string()).as_deref(), Some("checkpoint waits: slow, retry 1"));
    world.pass(5_000);
    assert!(world.asked_for(newest));
    world.tell(Event::CheckpointStored { run: id(1), seq: 2 });
    world.pass(5_000);
    assert!(!world.asked_for(newest));
    assert_eq!(waits(&world), None);
}

#[test]
fn a_store_that_is_away_is_waited_for_until_the_time_is_over() {
    let mut world = World::new();
    world.running(1);
    world.finish(1);
    let mut tries = 0;
    for _ in 0..7 * 60 {
        if world.asked_for(|e| matches!(e, Effect::StoreResult(_))) {
            tries += 1;
            let away = problem(Nature::Away, Cause::Infrastructure, "503");
            world.tell(Event::ResultFailed { run: id(1), problem: away });
        }
        world.pass(60_000);
    }
    assert!(tries > 100, "tried {tries} times in 6 h");
    let failure = world.failure();
    assert_eq!(failure.cause, Cause::Store);
    assert!(failure.message.contains("could not be stored within 6 h"), "{}", failure.message);
}

#[test]
fn a_store_that_refuses_is_told_and_given_up_after_minutes_and_the_result_is_kept() {
    let mut world = World::new();
    world.running(1);
    world.finish(1);
    for _ in 0..180 {
        if world.asked_for(|e| matches!(e, Effect::StoreResult(_))) {
            world.tell(Event::ResultFailed { run: id(1), problem: read_only() });
            let told = waits(&world).unwrap();
            assert_eq!(told.what, WaitsFor::Upload);
            assert!(told.to_string().contains("read-only file system), retry"), "{told}");
        }
        world.pass(1_000);
    }
    assert!(world.asked_for(|e| matches!(e, Effect::StoreResult(_))), "the last try, when patience is over");
    world.pass(30_000);
    assert!(matches!(world.run(1), AttemptState::Uploading { .. }), "and it is waited for");
    world.tell(Event::ResultFailed { run: id(1), problem: read_only() });
    world.pass(1_000);
    let failure = world.failure();
    assert_eq!(failure.cause, Cause::Store);
    for told in ["/store", "for 3 min", "kept on this node", "run again"] {
        assert!(failure.message.contains(told), "{}", failure.message);
    }
    assert!(world.asked_for(|e| matches!(e, Effect::Clean { keep: true, .. })));
}

#[test]
fn a_store_that_was_mended_in_time_gets_the_result() {
    let mut world = World::new();
    world.running(1);
    world.finish(1);
    world.tell(Event::ResultFailed { run: id(1), problem: read_only() });
    world.pass(60_000);
    world.asked.clear();
    world.settle();
    assert!(world.asked_for(|e| matches!(e, Effect::StoreResult(_))));
    world.tell(Event::ResultStored { run: id(1), manifest: Digest::of(b"m") });
    world.settle();
    assert!(matches!(world.slot(), SlotState::Finished { .. }));
    assert!(world.asked_for(|e| matches!(e, Effect::Clean { keep: false, .. })), "nothing to be kept");
}

#[test]
fn what_an_earlier_attempt_finished_here_is_stored_without_training() {
    let mut world = World::new();
    world.offer(2, 1);
    world.asked.clear();
    world.tell(Event::FoundFinished { run: id(2), result: finished() });
    world.settle();
    assert_eq!(world.reserved(), Mib(0), "storing needs no memory of the device");
    assert!(world.news.iter().any(|c| matches!(c, Change::FoundFinished { .. })));
    let stored = |e: &Effect| matches!(e, Effect::StoreResult(saved) if saved.result == finished());
    assert!(world.asked.iter().any(stored) && !world.asked_for(|e| matches!(e, Effect::Spawn { .. })));
    world.tell(Event::ResultStored { run: id(2), manifest: Digest::of(b"m") });
    world.settle();
    assert!(matches!(world.slot(), SlotState::Finished { .. }));
}

#[test]
fn every_try_makes_the_same_manifest() {
    let mut world = World::new();
    world.running(1);
    world.finish(1);
    let result_of = |world: &mut World| {
        let found = world.asked.drain(..).find_map(|e| match e {
            Effect::StoreResult(saved) => Some(saved.result),
            _ => None,
        });
        found.unwrap()
    };
    let first = result_of(&mut world);
    world.tell(Event::ResultFailed { run: id(1), problem: read_only() });
    world.tell(Event::Devices { taken_at: world.now, devices: vec![] });
    world.pass(30_000);
    assert_eq!(result_of(&mut world), first);
    assert_eq!(first.device_model, "test");
}

#[test]
fn inputs_that_are_refused_are_told_and_given_up_with_their_cause() {
    let mut world = World::new();
    world.offer(1, 1);
    let full = problem(Nature::Refused, Cause::Infrastructure, "/work: no space left");
    world.tell(Event::FetchFailed { run: id(1), problem: full.clone() });
    assert!(waits(&world).unwrap().to_string().starts_with("inputs waits: /work: no space left"));
    world.pass(180_000);
    world.tell(Event::FetchFailed { run: id(1), problem: full });
    world.pass(1_000);
    assert_eq!(world.failure().cause, Cause::Infrastructure);
    assert!(world.failure().message.starts_with("/work: no space left"));
    assert_eq!(world.reserved(), Mib(0));
}

#[test]
fn a_fenced_attempt_with_a_live_child_is_still_in_the_beat() {
    let mut world = World::new();
    world.running(1);
    world.frame(1, done());
    world.write_slot(SlotState::Closed { because: "cancelled".into() }, 1, 1);
    world.pass(10_000);
    let told = beat(&world.state, world.now, 1);
    assert_eq!(told.running[0].progress.as_deref(), Some("fenced, stopping"));
    assert!(told.running[0].pid.is_some());
    world.exit(1, ChildExit::Signal(9), "");
    assert!(beat(&world.state, world.now, 1).running.is_empty());
}
