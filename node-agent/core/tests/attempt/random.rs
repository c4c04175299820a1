//! Any order of facts, true or not: the invariants hold, and nothing starts that is not ours.

use crate::support::{PID, World, cpu, done, finished, id, key, offer, place};
use agent_core::{ChildExit, Effect, Event, Inputs, Nature, Problem, ReadOutcome, WriteOutcome, due};
use common::digest::Digest;
use common::ids::{Attempt, Incarnation, Revision};
use common::slot::{Cause, Slot, SlotState};
use common::trainer_protocol::{FromTrainer, Stage};
use common::units::UnixMs;
use proptest::prelude::*;

fn slot() -> impl Strategy<Value = Slot> {
    let state = prop_oneof![
        3 => Just(SlotState::Offered { place: place(1_000) }),
        3 => (1..3u64, 0..5u64).prop_map(|(life, beat)| SlotState::held(
            place(1_000),
            Incarnation(life),
            beat,
            Stage::Training
        )),
        1 => Just(SlotState::Closed { because: "cancelled".into() }),
        1 => Just(SlotState::Finished { place: place(1_000), manifest: Digest::of(b"m"), duration_ms: 1 }),
    ];
    (1..4u32, 1..3u32, state).prop_map(|(attempt, offer_count, state)| Slot {
        job: offer(1, 1).job,
        attempt: Attempt(attempt),
        offer: offer_count,
        state,
    })
}

fn frame() -> impl Strategy<Value = FromTrainer> {
    prop_oneof![
        Just(FromTrainer::Stage(Stage::Training)),
        Just(done()),
        Just(FromTrainer::Yielded),
        (1..9u32).prop_map(|epoch| FromTrainer::Checkpoint { dir: "/c".into(), model: "gat".into(), epoch }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let run = || (1..4u32).prop_map(id);
    let revision = || (0..40u64).prop_map(Revision);
    let problem = |nature| Problem { nature, cause: Cause::Infrastructure, message: "no".into() };
    let nature = || prop_oneof![Just(Nature::Away), Just(Nature::Refused), Just(Nature::Final)];
    prop_oneof![
        4 => (1..4u32, 1..3u32).prop_map(|(attempt, count)| Event::Offer(Box::new(offer(attempt, count)))),
        4 => (slot(), revision()).prop_map(|(slot, revision)| Event::SlotRead {
            key: key(),
            outcome: ReadOutcome::Found { revision, slot: Box::new(slot) },
        }),
        1 => Just(Event::SlotRead { key: key(), outcome: ReadOutcome::Absent }),
        4 => (slot(), revision()).prop_map(|(slot, revision)| Event::SlotWritten {
            key: key(),
            wrote: Box::new(slot),
            outcome: WriteOutcome::Written { revision },
        }),
        2 => slot().prop_map(|slot| Event::SlotWritten {
            key: key(),
            wrote: Box::new(slot),
            outcome: WriteOutcome::Conflict,
        }),
        4 => run().prop_map(|run| Event::Fetched { run, inputs: Inputs::default() }),
        1 => run().prop_map(|run| Event::FoundFinished { run, result: finished() }),
        1 => (run(), nature()).prop_map(move |(run, t)| Event::FetchFailed { run, problem: problem(t) }),
        4 => run().prop_map(|run| Event::Spawned { run, pid: PID, at: UnixMs(1), resumed_from_epoch: None }),
        1 => run().prop_map(|run| Event::SpawnFailed { run, message: "no".into() }),
        6 => (run(), frame()).prop_map(|(run, frame)| Event::Frame { run, frame }),
        4 => (run(), prop_oneof![Just(ChildExit::Code(0)), Just(ChildExit::Signal(9)), Just(ChildExit::NeverStarted)])
            .prop_map(|(run, exit)| Event::Exited { run, exit, stderr_tail: String::new(), missing: vec![] }),
        2 => (run(), 1..4u32).prop_map(|(run, seq)| Event::CheckpointStored { run, seq }),
        3 => run().prop_map(|run| Event::ResultStored { run, manifest: Digest::of(b"m") }),
        1 => (run(), nature()).prop_map(move |(run, t)| Event::ResultFailed { run, problem: problem(t) }),
        2 => run().prop_map(|run| Event::Cleaned { run }),
        3 => Just(Event::Tick),
        1 => (0..2_000u64).prop_map(|used| Event::Devices { taken_at: Default::default(), devices: vec![cpu(3_000, Some(used))] }),
        1 => Just(Event::Shutdown),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn any_order_of_facts_keeps_the_invariants(events in proptest::collection::vec((event(), 0..20_000u64), 1..60)) {
        let mut world = World::new();
        for (event, wait_ms) in events {
            world.now = world.now.plus(common::units::Millis(wait_ms));
            world.tell(event); // checks the invariants
            let effects = due(&world.state, world.now);
            for effect in &effects {
                let works_for = match effect {
                    Effect::Spawn { run, .. } | Effect::StoreCheckpoint { run, .. } => Some(*run),
                    Effect::StoreResult(saved) => Some(saved.run),
                    _ => None,
                };
                if let Some(run) = works_for {
                    prop_assert!(world.state.runs[&run].state.claim().is_some(), "{effect:?} without a claim");
                }
            }
            // Level-triggered: asked again at the same moment, the same is due.
            prop_assert_eq!(effects, due(&world.state, world.now));
        }
    }
}
