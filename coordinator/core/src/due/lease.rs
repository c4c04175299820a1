//! Attempts that ended without a result, told by the agent or by silence, and holders that must stop.

use super::OpenJob;
use crate::effect::{Effect, Note, NoteKind};
use crate::index::because_to_fence;
use crate::state::State;
use crate::transition::{self, Ended};
use common::chain::ChainRecord;
use common::ids::{ChainId, JobId};
use common::job_key::JobKey;
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

/// Closes slots whose holder has no business any more. The holder notices at its next renewal.
pub(super) fn fence(state: &State) -> Vec<Effect> {
    state.index.to_fence.iter().filter_map(|key| close(state, key)).collect()
}

fn close(state: &State, key: &JobKey) -> Option<Effect> {
    let because = because_to_fence(state, key)?;
    let seen = state.slots.get(key)?;
    let JobId { plan, name } = seen.slot.job.clone();
    let chain = state.chains.get(&ChainId { plan, dataset: name.dataset })?;
    let slot = Slot { state: SlotState::Closed { because: because.into() }, ..seen.slot.clone() };
    let note = Note::of(&chain.record, name.phase, NoteKind::Fenced, because);
    let note = note.attempt(seen.slot.attempt).node(seen.slot.state.place().map(|p| p.node.clone()));
    Some(Effect::WriteSlot { key: *key, slot, expected: Some(seen.revision), notes: vec![note] })
}
