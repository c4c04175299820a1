//! Attempts that ended without a result, told by the agent or by silence, and holders that must stop.

use super::OpenJob;
use crate::effect::{Effect, Note, NoteKind};
use crate::state::State;
use crate::transition::{self, Ended};
use common::chain::ChainRecord;
use common::slot::{Cause, Slot, SlotState};
use common::units::Millis;

/// The record after the open attempt ended without a result.
pub(super) fn ended(state: &State, now: Millis, job: &OpenJob<'_>) -> Option<(ChainRecord, Vec<Note>)> {
    let seen = state.slots.get(&job.key)?;
    let slot = &seen.slot;
    let other_plan = slot.job.plan != job.chain.record.id.plan;
    if slot.attempt > job.attempt || (slot.attempt == job.attempt && other_plan) {
        // Numbers of a key never repeat, not even over plans: an old holder must not pass for a new one.
        return transition::raise_attempt(&job.chain.record, job.phase, slot.attempt.next());
    }
    if slot.attempt < job.attempt {
        return None;
    }
    let record = &job.chain.record;
    match &slot.state {
        SlotState::Failed { place, failure } => {
            let node = Some(place.node.clone());
            let ended = Ended { cause: failure.cause, message: failure.message.clone(), node };
            transition::retry(record, job.phase, ended, &state.options)
        }
        SlotState::Held { place, .. } if now.since(seen.seen_at) > state.options.lease => {
            let message = format!("lease ran out: {} did not renew for {}", place.node, state.options.lease);
            let ended = Ended { cause: Cause::Infrastructure, message, node: Some(place.node.clone()) };
            transition::retry(record, job.phase, ended, &state.options)
        }
        SlotState::Closed { .. } => transition::raise_attempt(record, job.phase, slot.attempt.next()),
        _ => None,
    }
}

/// Closes slots whose holder has no business any more: the job is over, was cancelled, or is at a later
/// attempt that waits for room. The holder notices at its next renewal.
pub(super) fn fence(state: &State) -> Vec<Effect> {
    let mut effects = Vec::new();
    for (key, seen) in &state.slots {
        if seen.slot.state.reserved().is_none() {
            continue;
        }
        let chain_id = common::ids::ChainId {
            plan: seen.slot.job.plan.clone(),
            dataset: seen.slot.job.name.dataset.clone(),
        };
        let Some(chain) = state.chains.get(&chain_id) else { continue };
        let Some(job) = chain.record.jobs.get(&seen.slot.job.name.phase) else { continue };
        let because = match job.open_attempt() {
            Some(attempt) if attempt > seen.slot.attempt => "a later attempt follows",
            Some(_) => continue,
            None => "the job is over",
        };
        let slot = Slot { state: SlotState::Closed { because: because.into() }, ..seen.slot.clone() };
        let note = Note {
            job: seen.slot.job.clone(),
            attempt: Some(seen.slot.attempt),
            node: seen.slot.state.place().map(|p| p.node.clone()),
            kind: NoteKind::Fenced,
            text: because.into(),
        };
        effects.push(Effect::WriteSlot { key: *key, slot, expected: Some(seen.revision), notes: vec![note] });
    }
    effects
}
