//! Children that end badly, slots that are lost, agents that restart or stop.

use crate::support::{PID, World, done, id, key, offer, place};
use agent_core::{AttemptState, Change, ChildExit, Effect, Event, Inputs, PhaseLimits, StopWhy};
use common::digest::Digest;
use common::ids::{Incarnation, Phase, Revision};
use common::slot::{Cause, Slot, SlotState};
use common::trainer_protocol::{EpochReport, FailureKind, FromTrainer, Stage, exit_code};
use common::units::{Mib, Millis, UnixMs};

fn ended(last: Option<FromTrainer>, exit: ChildExit, missing: &[&str]) -> (Cause, String) {
    let mut world = World::new();
    world.running(1);
    if let Some(last) = last {
        world.frame(1, last);
    }
    world.exit_missing(1, exit, "line one\nline two\n", missing);
    let failure = world.failure();
    assert!(!failure.checkpointed && world.reserved() == Mib(0));
    (failure.cause, failure.message)
}

#[test]
fn each_end_of_a_child_has_its_cause() {
    let failed = |kind| Some(FromTrainer::Failed { kind, message: "told".into() });
    let code = ChildExit::Code;
    let of = |last, exit| ended(last, exit, &[]).0;
    assert_eq!(of(failed(FailureKind::UserError), code(exit_code::FAILED)), Cause::UserError);
    assert_eq!(of(failed(FailureKind::Diverged), code(exit_code::FAILED)), Cause::Diverged);
    assert_eq!(of(failed(FailureKind::OutOfMemory), code(exit_code::FAILED)), Cause::OutOfMemory);
    assert_eq!(of(failed(FailureKind::Internal), code(exit_code::FAILED)), Cause::Infrastructure);
    assert_eq!(of(None, code(exit_code::FAILED)), Cause::Infrastructure);
    assert_eq!(of(None, code(exit_code::OUT_OF_MEMORY)), Cause::OutOfMemory);
    assert_eq!(of(Some(FromTrainer::Yielded), code(exit_code::YIELDED)), Cause::Preemption);
    assert_eq!(of(Some(done()), ChildExit::Signal(9)), Cause::Infrastructure);
    assert_eq!(of(None, code(139)), Cause::Infrastructure);
}

#[test]
fn a_failure_brings_the_childs_last_lines() {
    let (_, message) = ended(None, ChildExit::Signal(11), &[]);
    assert!(message.contains("signal 11") && message.contains("line two"), "{message}");
}

#[test]
fn exit_0_is_not_believed_without_output() {
    for (last, missing) in [(None, vec![]), (Some(done()), vec!["model"])] {
        let (cause, message) = ended(last, ChildExit::Code(0), &missing);
        assert_eq!(cause, Cause::Infrastructure);
        assert!(message.starts_with("exit 0 without output"), "{message}");
    }
}

#[test]
fn a_long_message_is_cut_in_the_middle() {
    let mut world = World::new();
    world.running(1);
    world.exit(1, ChildExit::Signal(6), &format!("{}the end", "x".repeat(50_000)));
    let message = world.failure().message;
    assert!(message.chars().count() <= 2_000 && message.ends_with("the end"));
}

#[test]
fn the_last_checkpoint_is_stored_before_the_failure_is_told() {
    let mut world = World::new();
    world.running(1);
    world.checkpoint(1, 3);
    world.asked.clear();
    world.exit(1, ChildExit::Signal(9), "");
    assert!(matches!(world.slot(), SlotState::Held { .. }));
    assert!(world.asked_for(|e| matches!(e, Effect::StoreCheckpoint { .. })));
    world.tell(Event::CheckpointStored { run: id(1), seq: 1 });
    world.settle();
    assert!(world.failure().checkpointed);
}

#[test]
fn a_checkpoint_that_can_not_be_stored_does_not_hold_up_the_failure() {
    let mut world = World::new();
    world.running(1);
    world.checkpoint(1, 3);
    world.exit(1, ChildExit::Signal(9), "");
    world.pass(120_000);
    assert!(!world.failure().checkpointed);
}

#[test]
fn a_fenced_child_is_killed_at_once_and_nothing_more_is_stored() {
    let mut world = World::new();
    world.running(1);
    world.checkpoint(1, 3);
    world.write_slot(SlotState::Closed { because: "cancelled".into() }, 1, 1);
    world.pass(10_000);
    world.asked.clear(); // what was due before the slot was read
    world.settle();
    assert!(matches!(world.news.last(), Some(Change::Fenced { by, .. }) if by == "closed: cancelled"));
    assert!(world.asked.contains(&Effect::Kill { run: id(1), fenced: true, hung: false }));
    assert!(!world.asked_for(|e| matches!(e, Effect::StoreCheckpoint { .. })));
    world.exit(1, ChildExit::Signal(9), "");
    assert!(matches!(world.run(1), AttemptState::Cleaning { keep: true }));
    assert!(matches!(world.slot(), SlotState::Closed { .. }), "nothing was written");
    assert_eq!(world.reserved(), Mib(0));
}

#[test]
fn another_attempt_or_another_life_fences() {
    for slot in [
        (SlotState::Offered { place: place(1_000) }, 2),
        (held_by(2), 1), // another incarnation of this node
    ] {
        let mut world = World::new();
        world.running(1);
        world.write_slot(slot.0, slot.1, 1);
        world.pass(10_000);
        assert!(matches!(world.run(1), AttemptState::Stopping { claim: None, .. }));
    }
}

#[test]
fn a_newer_attempt_offered_here_fences_the_older_one_at_once() {
    let mut world = World::new();
    world.running(1);
    world.offer(2, 1);
    assert!(matches!(world.run(1), AttemptState::Stopping { claim: None, .. }));
    assert!(matches!(world.slot(), SlotState::Declined { .. }), "1,000 of 1,500 MiB are still in use");
    world.exit(1, ChildExit::Signal(9), "");
    world.offer(2, 2);
    assert!(matches!(world.run(2), AttemptState::Fetching { .. }));
}

#[test]
fn a_fence_while_the_child_starts_ends_the_child() {
    let mut world = World::new();
    world.offer(1, 1);
    world.tell(Event::Fetched { run: id(1), inputs: Inputs::default() });
    world.write_slot(SlotState::Closed { because: "cancelled".into() }, 1, 1);
    world.pass(10_000);
    assert!(world.asked_for(|e| matches!(e, Effect::Kill { fenced: true, .. })));
    world.tell(Event::Spawned { run: id(1), pid: PID, at: UnixMs(1), resumed_from_epoch: None });
    world.settle();
    assert!(world.asked_for(|e| matches!(e, Effect::Kill { .. })));
    assert_eq!(world.reserved(), Mib(1_000), "the child may still use it");
    world.exit(1, ChildExit::Signal(9), "");
    assert_eq!(world.reserved(), Mib(0));
}

#[test]
fn an_offer_that_came_back_after_a_loss_of_the_bus_is_held_again() {
    let mut world = World::new();
    world.running(1);
    world.write_slot(SlotState::Offered { place: place(1_000) }, 1, 1);
    world.pass(10_000);
    assert!(matches!(world.slot(), SlotState::Held { .. }));
    assert!(matches!(world.run(1), AttemptState::Running { .. }));
}

#[test]
fn a_silent_child_is_killed_by_stage() {
    let mut world = World::new();
    let limits = PhaseLimits {
        no_progress: Millis::from_secs(60),
        no_progress_preparing: Millis::from_secs(600),
        total: Millis::from_secs(86_400),
    };
    world.state.options.limits.insert(Phase::Teacher, limits);
    world.running(1);
    world.pass(599_000);
    assert!(matches!(world.run(1), AttemptState::Running { .. }), "preparing may take its time");
    world.frame(1, FromTrainer::Stage(Stage::Training));
    world.pass(60_000);
    assert!(matches!(world.run(1), AttemptState::Stopping { why: StopWhy::Stuck { .. }, .. }));
    assert!(world.asked_for(|e| matches!(e, Effect::Kill { fenced: false, .. })));
    world.exit(1, ChildExit::Signal(9), "stuck here");
    let failure = world.failure();
    assert_eq!(failure.cause, Cause::Infrastructure);
    assert!(failure.message.starts_with("no progress for 1 min 00 s while training"), "{}", failure.message);
}

fn epoch(at: f64) -> FromTrainer {
    FromTrainer::Epoch(EpochReport {
        model: "gat".into(),
        epoch: at as u32 + 1,
        epochs: 100,
        fraction: at.fract(),
        loss: Some(0.5),
        metrics: std::collections::BTreeMap::new(),
        graphs_per_s: 10.0,
        eta_ms: None,
    })
}

#[test]
fn a_training_far_below_its_own_median_rate_is_killed_and_one_that_evaluates_is_not() {
    let mut world = World::new();
    world.state.options.stall_for = Millis::from_secs(40);
    world.running(1);
    world.frame(1, FromTrainer::Stage(Stage::Training));
    let mut at = 0.0;
    for _ in 0..100 {
        at += 0.03;
        world.frame(1, epoch(at));
        world.pass(1_000);
    }
    world.frame(1, FromTrainer::Stage(Stage::Evaluating));
    world.pass(600_000);
    assert!(matches!(world.run(1), AttemptState::Running { .. }), "only training is measured");
    world.frame(1, FromTrainer::Stage(Stage::Training));
    for _ in 0..60 {
        // It speaks, but hardly moves.
        at += 0.0003;
        world.frame(1, epoch(at));
        world.pass(1_000);
    }
    assert!(matches!(world.run(1), AttemptState::Stopping { why: StopWhy::Stuck { .. }, .. }));
    assert!(world.asked_for(|e| matches!(e, Effect::Kill { fenced: false, hung: true, .. })));
    world.exit(1, ChildExit::Signal(9), "its last line");
    let failure = world.failure();
    assert_eq!(failure.cause, Cause::Infrastructure, "tried again");
    assert!(failure.message.starts_with("hung: for 40 s its training went at 1 %"), "{}", failure.message);
    assert!(failure.message.contains("its last line"));
}

#[test]
fn a_child_without_a_first_word_is_killed() {
    let mut world = World::new();
    world.offer(1, 1);
    world.tell(Event::Fetched { run: id(1), inputs: Inputs::default() });
    world.settle();
    world.tell(Event::Spawned { run: id(1), pid: 1, at: UnixMs(1), resumed_from_epoch: None });
    world.pass(599_000);
    assert!(matches!(world.run(1), AttemptState::Running { .. }));
    world.pass(1_000);
    assert!(world.asked_for(|e| matches!(e, Effect::Kill { hung: true, .. })));
    world.exit(1, ChildExit::Signal(9), "");
    assert!(world.failure().message.contains("said nothing for 10 min"), "{}", world.failure().message);
}

#[test]
fn what_ran_out_of_memory_is_told_in_the_beat_and_with_the_result() {
    let mut world = World::new();
    world.running(1);
    let ran_out = |micro_batch| FromTrainer::OutOfMemory {
        micro_batch,
        recovered: true,
        message: "out of memory".into(),
    };
    world.frame(1, ran_out(64));
    world.frame(1, ran_out(32));
    assert_eq!(world.state.ceilings.most(&offer(1, 1), "test"), Some(16));
    assert_eq!(world.state.ceilings.most(&offer(1, 1), "another card"), None);
    let told = agent_core::beat(&world.state, world.now, 1).ceilings;
    assert_eq!(told.iter().map(|c| c.micro_batch).collect::<Vec<u32>>(), [16]);
    world.finish(1);
    let stored = world.asked.iter().find_map(|effect| match effect {
        Effect::StoreResult(saved) => Some(saved.result.done.tuning_used.clone()),
        _ => None,
    });
    assert_eq!(stored.unwrap()[common::manifest::CEILING_USED], "16");
}

#[test]
fn a_child_of_another_protocol_is_not_used() {
    let mut world = World::new();
    world.running(1);
    world.tell(Event::Garbage { run: id(1), message: "frame of 1 GB".into() });
    world.settle();
    assert!(world.asked_for(|e| matches!(e, Effect::Kill { .. })));
    world.exit(1, ChildExit::Signal(9), "");
    assert!(world.failure().message.contains("no frame"));
}

fn held_by(incarnation: u64) -> SlotState {
    SlotState::held(place(1_000), Incarnation(incarnation), 7, Stage::Training)
}

#[test]
fn slots_of_an_earlier_life_are_told_failed_at_once() {
    let mut world = World::new();
    world.away = true;
    world.write_slot(held_by(99), 3, 1);
    let (revision, slot): (Revision, Slot) = world.slots[&key()].clone();
    world.tell(Event::SlotsAtStart(vec![(key(), revision, slot)]));
    world.settle();
    assert!(matches!(world.slot(), SlotState::Held { .. }));
    world.away = false;
    world.pass(1_000);
    assert_eq!(world.failure().message, "agent restarted");
    assert_eq!(world.failure().cause, Cause::Infrastructure);
    assert!(world.state.orphans.is_empty());
}

#[test]
fn our_own_slots_and_those_of_others_are_no_orphans() {
    let mut world = World::new();
    world.write_slot(held_by(1), 3, 1);
    let (revision, ours) = world.slots[&key()].clone();
    let mut theirs = ours.clone();
    if let SlotState::Held { place, incarnation, .. } = &mut theirs.state {
        (place.node, *incarnation) = (common::ids::NodeId::new("n2").unwrap(), Incarnation(99));
    }
    world.tell(Event::SlotsAtStart(vec![(key(), revision, ours), (key(), revision, theirs)]));
    assert!(world.state.orphans.is_empty());
}

#[test]
fn shutdown_saves_and_yields() {
    let mut world = World::new();
    world.running(1);
    world.tell(Event::Shutdown);
    world.settle();
    assert!(world.asked_for(|e| matches!(e, Effect::AskStop { checkpoint: true, .. })));
    world.tell(Event::StopAsked { run: id(1) });
    world.checkpoint(1, 5);
    world.frame(1, FromTrainer::Yielded);
    world.exit(1, ChildExit::Code(exit_code::YIELDED), "");
    world.tell(Event::CheckpointStored { run: id(1), seq: 1 });
    world.settle();
    let failure = world.failure();
    assert_eq!((failure.cause, failure.message.as_str()), (Cause::Preemption, "agent stopping"));
    assert!(failure.checkpointed);
    world.tell(Event::Cleaned { run: id(1) });
    assert!(world.state.is_finished());
}

#[test]
fn a_child_that_ignores_the_request_is_killed_after_the_grace() {
    let mut world = World::new();
    world.running(1);
    world.tell(Event::Shutdown);
    world.tell(Event::StopAsked { run: id(1) });
    world.pass(19_000);
    assert!(!world.asked_for(|e| matches!(e, Effect::Kill { .. })));
    world.pass(1_000);
    assert!(world.asked_for(|e| matches!(e, Effect::Kill { .. })));
}

#[test]
fn a_second_signal_kills_at_once() {
    let mut world = World::new();
    world.running(1);
    world.tell(Event::Shutdown);
    world.tell(Event::ShutdownNow);
    world.settle();
    assert!(world.asked_for(|e| matches!(e, Effect::Kill { .. })));
}

#[test]
fn a_child_that_finishes_while_the_agent_stops_is_not_wasted() {
    let mut world = World::new();
    world.running(1);
    world.frame(1, done());
    world.tell(Event::Shutdown);
    world.exit(1, ChildExit::Code(0), "");
    assert!(world.asked_for(|e| matches!(e, Effect::StoreResult(_))));
    world.tell(Event::ResultStored { run: id(1), manifest: Digest::of(b"m") });
    world.settle();
    assert!(matches!(world.slot(), SlotState::Finished { .. }));
}

#[test]
fn a_slot_taken_while_stopping_is_given_back() {
    let mut world = World::new();
    world.mute = true;
    world.offer(1, 1);
    world.tell(Event::Shutdown);
    world.mute = false;
    world.pass(1_000);
    assert_eq!(world.failure().cause, Cause::Preemption);
    assert!(!world.asked_for(|e| matches!(e, Effect::Spawn { .. } | Effect::Fetch { .. })));
}
