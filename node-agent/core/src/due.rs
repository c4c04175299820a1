//! What should happen now, from the state alone. May be asked again and again: see [`Effect::key`].

use crate::attempt::{AttemptState, Claim, Run, StopWhy, Take, Verdict};
use crate::effect::{Effect, SavedRun};
use crate::fence::record;
use crate::state::State;
use common::slot::{Cause, Failure, SlotState};
use common::units::Millis;

/// Every effect that is due at `now`, in a fixed order.
pub fn due(state: &State, now: Millis) -> Vec<Effect> {
    let mut effects = Vec::new();
    for run in state.runs.values() {
        of_run(state, run, now, &mut effects);
    }
    for (key, orphan) in &state.orphans {
        let Some(place) = orphan.slot.state.place().filter(|_| now >= orphan.retry_at) else { continue };
        let message = "agent restarted".to_owned();
        let failure = Failure::new(Cause::Infrastructure, message);
        let mut slot = orphan.slot.clone();
        slot.state = SlotState::Failed { place: place.clone(), failure };
        effects.push(Effect::WriteSlot { key: *key, expected: orphan.revision, slot: Box::new(slot) });
    }
    effects
}

fn of_run(state: &State, run: &Run, now: Millis, effects: &mut Vec<Effect>) {
    let id = run.id;
    if let Some(claim) = run.state.claim() {
        claim_work(state, run, claim, now, effects);
    }
    match &run.state {
        AttemptState::Taking(take) => effects.extend(taking(state, run, take, now)),
        AttemptState::Fetching { tries, .. } if now >= tries.retry_at => {
            effects.push(Effect::Fetch { run: id, offer: Box::new(run.offer.clone()) });
        }
        AttemptState::Starting { inputs, .. } => {
            effects.push(Effect::Spawn {
                run: id,
                offer: Box::new(run.offer.clone()),
                inputs: inputs.clone(),
            });
        }
        AttemptState::Stopping { why, asked, kill_at, .. } => {
            if now >= *kill_at {
                let fenced = matches!(why, StopWhy::Fenced { .. });
                effects.push(Effect::Kill { run: id, fenced, hung: matches!(why, StopWhy::Stuck { .. }) });
            } else if !asked {
                effects.push(Effect::AskStop { run: id, reason: why.to_string(), checkpoint: true });
            }
        }
        AttemptState::Uploading { result, tries, .. } if now >= tries.retry_at => {
            let (offer, result) = (run.offer.clone(), result.clone());
            effects.push(Effect::StoreResult(Box::new(SavedRun { run: id, offer, result })));
        }
        AttemptState::Cleaning { keep } => effects.push(Effect::Clean { run: id, keep: *keep }),
        _ => {}
    }
    effects.extend(checkpoint(run, now));
}

/// Renewal, the last word, or a look at who holds the slot.
fn claim_work(state: &State, run: &Run, claim: &Claim, now: Millis, effects: &mut Vec<Effect>) {
    let key = run.id.key;
    if let Some(read_at) = claim.read_at {
        if now >= read_at {
            effects.push(Effect::ReadSlot { key });
        }
        return;
    }
    if now < claim.write_at {
        return;
    }
    let place = run.offer.place.clone();
    let told = match &run.state {
        AttemptState::Closing { verdict: Verdict::Finished { manifest, duration_ms }, .. } => {
            SlotState::Finished { place, manifest: *manifest, duration_ms: *duration_ms }
        }
        AttemptState::Closing { verdict: Verdict::Failed(failure), .. } => {
            SlotState::Failed { place, failure: failure.clone() }
        }
        going_on => SlotState::Held {
            place,
            incarnation: state.options.incarnation,
            beat: claim.beat.saturating_add(1),
            stage: going_on.stage(),
            yields: claim.yields.clone(),
            checkpointed: going_on.saves().is_some_and(|saves| saves.stored.is_some()),
        },
    };
    let slot = Box::new(record(&run.offer, told));
    effects.push(Effect::WriteSlot { key, expected: claim.revision, slot });
}

fn taking(state: &State, run: &Run, take: &Take, now: Millis) -> Option<Effect> {
    let key = run.id.key;
    let place = run.offer.place.clone();
    match take {
        Take::Read { retry_at, .. } => (now >= *retry_at).then_some(Effect::ReadSlot { key }),
        Take::Hold { revision } => {
            let held = SlotState::held(place, state.options.incarnation, 0, run.state.stage());
            Some(Effect::WriteSlot { key, expected: *revision, slot: Box::new(record(&run.offer, held)) })
        }
        Take::Decline { revision, reason, retry_at } => (now >= *retry_at).then(|| {
            let declined = SlotState::Declined { place, reason: reason.clone() };
            Effect::WriteSlot { key, expected: *revision, slot: Box::new(record(&run.offer, declined)) }
        }),
    }
}

/// The newest checkpoint that the store lacks, while the attempt is still ours.
fn checkpoint(run: &Run, now: Millis) -> Option<Effect> {
    run.state.claim()?;
    let saves = match &run.state {
        AttemptState::Running { saves, .. }
        | AttemptState::Stopping { saves, .. }
        | AttemptState::Saving { saves, .. } => saves,
        _ => return None,
    };
    let unsaved = saves.unsaved().filter(|_| now >= saves.tries.retry_at)?;
    Some(Effect::StoreCheckpoint { run: run.id, checkpoint: unsaved.clone() })
}
