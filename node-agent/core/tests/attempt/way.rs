//! The way of one attempt: taking, renewing, checkpoints, the result, the end.

use crate::support::{World, cpu, done, id, offer, place};
use agent_core::{AttemptState, Change, ChildExit, Effect, Event, Nature, Problem, beat};
use common::digest::Digest;
use common::ids::Incarnation;
use common::messages::JobOffer;
use common::slot::{Cause, SlotState};
use common::trainer_protocol::{FromTrainer, Stage};
use common::units::Mib;

#[test]
fn an_offer_is_taken_by_reserving_first() {
    let mut world = World::new();
    world.offer(1, 1);
    assert!(matches!(world.slot(), SlotState::Held { beat: 0, stage: Stage::Fetching, .. }));
    assert_eq!(world.reserved(), Mib(1_000));
    assert!(world.asked_for(|e| matches!(e, Effect::Fetch { .. })));
}

#[test]
fn a_whole_life() {
    let mut world = World::new();
    world.running(1);
    world.frame(1, FromTrainer::Stage(Stage::Training));
    world.pass(10_000);
    assert!(matches!(world.slot(), SlotState::Held { beat: 1, stage: Stage::Training, .. }));
    world.frame(1, done());
    world.exit(1, ChildExit::Code(0), "");
    assert_eq!(world.reserved(), Mib(0), "the memory is free while the result is uploaded");
    assert!(world.asked_for(|e| matches!(e, Effect::StoreResult(_))));
    world.pass(10_000);
    assert!(matches!(world.slot(), SlotState::Held { beat: 2, stage: Stage::Uploading, .. }));
    let manifest = Digest::of(b"manifest");
    world.tell(Event::ResultStored { run: id(1), manifest });
    world.settle();
    assert!(matches!(world.slot(), SlotState::Finished { manifest: told, .. } if *told == manifest));
    assert!(world.asked_for(|e| matches!(e, Effect::Clean { .. })));
    world.tell(Event::Cleaned { run: id(1) });
    assert!(world.state.runs.is_empty());
    assert!(matches!(world.news.last(), Some(Change::Gone { .. })));
}

#[test]
fn no_room_is_declined_with_the_reason() {
    let mut world = World::new();
    world.tell(Event::Devices { taken_at: world.now, devices: vec![cpu(1_500, Some(900))] });
    world.offer(1, 1);
    match world.slot() {
        SlotState::Declined { reason, .. } => assert!(reason.contains("other processes 900 MiB"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(world.state.runs.is_empty());
    // The same attempt, offered again when there is room, is taken.
    world.tell(Event::Devices { taken_at: world.now, devices: vec![cpu(1_500, Some(0))] });
    world.offer(1, 2);
    assert!(matches!(world.slot(), SlotState::Held { .. }));
}

#[test]
fn a_closed_agent_declines() {
    let mut world = World::new();
    world.tell(Event::Cordon(Some("disk full".into())));
    world.offer(1, 1);
    assert!(matches!(world.slot(), SlotState::Declined { reason, .. } if reason == "disk full"));
    assert_eq!(beat(&world.state, world.now, 1).closed_because.as_deref(), Some("disk full"));
}

#[test]
fn an_offer_that_the_slot_does_not_confirm_is_void() {
    let mut world = World::new();
    world.write_slot(SlotState::Offered { place: place(1_000) }, 1, 2);
    world.tell(Event::Offer(Box::new(offer(1, 1))));
    world.settle();
    assert!(world.state.runs.is_empty() && world.reserved() == Mib(0));
    assert!(matches!(world.slot(), SlotState::Offered { .. }), "nothing was written");
}

#[test]
fn a_doubled_offer_changes_nothing() {
    let mut world = World::new();
    world.running(1);
    world.tell(Event::Offer(Box::new(offer(1, 1))));
    world.settle();
    assert!(matches!(world.run(1), AttemptState::Running { .. }));
    assert_eq!(world.state.runs.len(), 1);
}

#[test]
fn a_lost_answer_to_taking_is_adopted() {
    let mut world = World::new();
    world.mute = true;
    world.offer(1, 1);
    world.mute = false;
    assert!(matches!(world.run(1), AttemptState::Taking(_)));
    assert_eq!(world.reserved(), Mib(1_000), "it may be ours");
    world.pass(1_000);
    assert!(matches!(world.run(1), AttemptState::Fetching { .. }));
}

#[test]
fn an_offer_is_dropped_when_the_bus_stays_away() {
    let mut world = World::new();
    world.away = true;
    world.offer(1, 1);
    for _ in 0..31 {
        world.pass(1_000);
    }
    assert!(world.state.runs.is_empty() && world.reserved() == Mib(0));
}

#[test]
fn a_slot_that_may_be_ours_is_never_walked_away_from() {
    let mut world = World::new();
    world.mute = true;
    world.offer(1, 1);
    (world.mute, world.away) = (false, true);
    for _ in 0..120 {
        world.pass(1_000);
    }
    assert!(matches!(world.run(1), AttemptState::Taking(_)), "longer than the time for taking");
    assert_eq!(world.reserved(), Mib(1_000));
    world.away = false;
    world.pass(1_000);
    assert!(matches!(world.run(1), AttemptState::Fetching { .. }));
}

#[test]
fn a_slot_that_is_ours_and_has_no_room_is_told_failed() {
    let mut world = World::new();
    world.write_slot(SlotState::held(place(9_000), Incarnation(1), 0, Stage::Fetching), 1, 1);
    let mut large = offer(1, 1);
    large.place = place(9_000);
    world.tell(Event::Offer(Box::new(large)));
    world.settle();
    assert_eq!(world.failure().cause, Cause::Infrastructure);
    assert!(world.failure().message.contains("9000 MiB asked"), "{}", world.failure().message);
}

#[test]
fn the_lease_of_the_offer_decides_how_often_is_renewed() {
    let mut world = World::new();
    world.write_slot(SlotState::Offered { place: place(1_000) }, 1, 1);
    let short = JobOffer { lease_ms: 15_000, ..offer(1, 1) };
    world.tell(Event::Offer(Box::new(short)));
    world.settle();
    let told = |c: &Change| matches!(c, Change::Trouble { message, .. } if message.contains("lease"));
    assert!(world.news.iter().any(told), "two leases are told: {:?}", world.news);
    world.pass(5_000);
    assert!(matches!(world.slot(), SlotState::Held { beat: 1, .. }), "{:?}", world.slot());
}

#[test]
fn a_lost_answer_to_a_renewal_costs_nothing() {
    let mut world = World::new();
    world.running(1);
    world.mute = true;
    world.pass(10_000);
    world.mute = false;
    world.pass(1_000);
    assert!(matches!(world.slot(), SlotState::Held { beat: 2, .. }), "{:?}", world.slot());
    assert!(matches!(world.run(1), AttemptState::Running { .. }));
}

#[test]
fn training_outlives_the_bus() {
    let mut world = World::new();
    world.running(1);
    world.away = true;
    for _ in 0..600 {
        world.pass(1_000);
        world.frame(1, FromTrainer::Stage(Stage::Training));
    }
    world.frame(1, done());
    world.exit(1, ChildExit::Code(0), "");
    world.tell(Event::ResultStored { run: id(1), manifest: Digest::of(b"m") });
    world.pass(1_000);
    assert!(matches!(world.run(1), AttemptState::Closing { .. }), "it waits to tell");
    world.away = false;
    world.pass(1_000);
    assert!(matches!(world.slot(), SlotState::Finished { .. }));
}

#[test]
fn a_lost_answer_to_the_last_word_is_recognised() {
    let mut world = World::new();
    world.running(1);
    world.frame(1, done());
    world.exit(1, ChildExit::Code(0), "");
    world.mute = true;
    world.tell(Event::ResultStored { run: id(1), manifest: Digest::of(b"m") });
    world.settle();
    world.mute = false;
    world.pass(1_000);
    assert!(matches!(world.slot(), SlotState::Finished { .. }));
    assert!(matches!(world.run(1), AttemptState::Cleaning { keep: false }));
}

#[test]
fn missing_captures_are_the_users() {
    let mut world = World::new();
    world.offer(1, 1);
    let problem =
        Problem { nature: Nature::Final, cause: Cause::UserError, message: "no folder /data/d".into() };
    world.tell(Event::FetchFailed { run: id(1), problem });
    world.settle();
    assert_eq!(world.failure().cause, Cause::UserError);
    assert_eq!(world.reserved(), Mib(0));
}
