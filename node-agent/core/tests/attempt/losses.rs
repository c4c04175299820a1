//! What the bus has lost, its holder writes anew; what somebody else wrote since, it leaves alone.

use crate::support::{PID, World, done, id, key};
use agent_core::{AttemptState, Change, ChildExit, Event};
use common::digest::Digest;
use common::ids::Attempt;
use common::slot::SlotState;
use common::units::Millis;

/// Longer than the time between two renewals.
const RENEWAL_MS: u64 = 11_000;

fn goes_on(world: &World, attempt: u32) {
    assert!(matches!(world.run(attempt), AttemptState::Running { child, .. } if child.pid == PID));
    let (_, slot) = &world.slots[&key()];
    assert!(matches!(slot.state, SlotState::Held { .. }) && slot.attempt == Attempt(attempt), "{slot:?}");
}

#[test]
fn a_lost_slot_is_made_anew_by_its_holder() {
    let mut world = World::new();
    world.running(3);
    world.slots.clear();
    world.pass(RENEWAL_MS);
    goes_on(&world, 3);
    assert!(
        world.news.iter().any(|c| matches!(c, Change::Trouble { message, .. } if message.contains("lost")))
    );
    world.pass(RENEWAL_MS);
    goes_on(&world, 3);
}

#[test]
fn a_result_is_told_though_the_slot_was_lost() {
    let mut world = World::new();
    world.running(1);
    world.frame(1, done());
    world.slots.clear();
    world.exit(1, ChildExit::Code(0), "");
    let manifest = Digest::of(b"m");
    world.tell(Event::ResultStored { run: id(1), manifest });
    world.settle();
    assert!(matches!(world.slot(), SlotState::Finished { manifest: told, .. } if *told == manifest));
}

#[test]
fn a_slot_that_went_back_in_time_is_written_over() {
    let mut world = World::new();
    world.running(3);
    world.write_slot(SlotState::Closed { because: "a later attempt follows".into() }, 2, 1);
    world.pass(RENEWAL_MS);
    goes_on(&world, 3);
}

#[test]
fn a_lost_slot_that_somebody_else_made_anew_fences() {
    let mut world = World::new();
    world.running(3);
    world.slots.clear();
    world.write_slot(SlotState::Closed { because: "cancelled".into() }, 4, 1);
    world.pass(RENEWAL_MS);
    assert!(matches!(world.run(3), AttemptState::Stopping { claim: None, .. }));
    assert_eq!(world.slots[&key()].1.attempt, Attempt(4));
}

#[test]
fn an_offer_whose_slot_is_gone_leads_to_nothing() {
    let mut world = World::new();
    world.tell(Event::Offer(Box::new(crate::support::offer(1, 1))));
    world.settle();
    assert!(world.state.runs.is_empty() && world.slots.is_empty());
    world.now = world.now.plus(Millis(1));
    assert!(matches!(world.news.last(), Some(Change::Dropped { .. })));
}
