//! The coordinator asks for the device back: a checkpoint is saved, the slot is told, nothing counts as a failure
//! of the job.

use crate::support::{World, id};
use agent_core::{AttemptState, Change, ChildExit, Effect, Event, StopWhy};
use common::slot::{Cause, SlotState, Yield};
use common::trainer_protocol::{FromTrainer, exit_code};

/// Longer than the time between two renewals.
const RENEWAL_MS: u64 = 11_000;

/// As the coordinator writes it over the slot that it saw.
fn ask(world: &mut World, grace_ms: u64) {
    let mut state = world.slot().clone();
    let SlotState::Held { yields, .. } = &mut state else { panic!("not held: {state:?}") };
    *yields = Some(Yield { because: "draining: new driver".into(), grace_ms });
    world.write_slot(state, 1, 1);
}

fn asked_to_stop(world: &World) -> usize {
    world.asked.iter().filter(|e| matches!(e, Effect::AskStop { checkpoint: true, .. })).count()
}

#[test]
fn a_running_child_saves_and_yields_and_its_slot_tells_so() {
    let mut world = World::new();
    world.running(1);
    ask(&mut world, 60_000);
    world.pass(RENEWAL_MS);
    assert!(matches!(world.run(1), AttemptState::Stopping { why: StopWhy::Asked { .. }, .. }));
    let asked = world.asked.iter().find_map(|e| match e {
        Effect::AskStop { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    assert_eq!(asked.as_deref(), Some("asked to yield: draining: new driver"));
    world.tell(Event::StopAsked { run: id(1) });
    world.pass(RENEWAL_MS);
    assert!(matches!(world.slot(), SlotState::Held { yields: Some(_), .. }), "renewals keep the request");
    world.checkpoint(1, 3);
    world.frame(1, FromTrainer::Yielded);
    world.exit(1, ChildExit::Code(exit_code::YIELDED), "");
    world.tell(Event::CheckpointStored { run: id(1), seq: 1 });
    world.settle();
    let failure = world.failure();
    assert_eq!((failure.cause, failure.checkpointed), (Cause::Preemption, true));
    assert!(failure.message.contains("new driver"), "{}", failure.message);
}

#[test]
fn a_deaf_child_is_killed_when_the_grace_is_over() {
    let mut world = World::new();
    world.running(1);
    ask(&mut world, 20_000);
    world.pass(RENEWAL_MS);
    world.tell(Event::StopAsked { run: id(1) });
    world.asked.clear();
    world.pass(19_000);
    assert!(!world.asked_for(|e| matches!(e, Effect::Kill { .. })));
    world.pass(2_000);
    assert!(world.asked_for(|e| matches!(e, Effect::Kill { fenced: false, .. })));
    world.exit(1, ChildExit::Signal(9), "");
    assert_eq!(world.failure().cause, Cause::Preemption);
}

#[test]
fn it_is_asked_once_however_often_the_slot_is_read() {
    let mut world = World::new();
    world.running(1);
    ask(&mut world, 60_000);
    world.pass(RENEWAL_MS);
    world.tell(Event::StopAsked { run: id(1) });
    world.asked.clear();
    // Somebody writes over the slot again, so that it is read once more.
    let again = world.slot().clone();
    world.write_slot(again, 1, 1);
    world.pass(RENEWAL_MS);
    assert_eq!(asked_to_stop(&world), 0);
    let stops = world.news.iter().filter(|c| matches!(c, Change::Stopping { .. })).count();
    assert_eq!(stops, 1);
}

#[test]
fn what_is_being_stored_is_stored_to_its_end() {
    let mut world = World::new();
    world.running(1);
    world.frame(1, crate::support::done());
    world.exit(1, ChildExit::Code(exit_code::DONE), "");
    assert!(matches!(world.run(1), AttemptState::Uploading { .. }));
    ask(&mut world, 1_000);
    world.pass(RENEWAL_MS);
    assert!(matches!(world.run(1), AttemptState::Uploading { .. }));
}

#[test]
fn the_slot_tells_of_stored_checkpoints() {
    let mut world = World::new();
    world.running(1);
    world.checkpoint(1, 3);
    world.pass(RENEWAL_MS);
    assert!(matches!(world.slot(), SlotState::Held { checkpointed: false, .. }));
    world.tell(Event::CheckpointStored { run: id(1), seq: 1 });
    world.pass(RENEWAL_MS);
    assert!(matches!(world.slot(), SlotState::Held { checkpointed: true, .. }));
}
