//! Attempts that ended without a result, told by the agent or by silence, and holders that must stop.

use super::OpenJob;
use crate::effect::{Effect, Note, NoteKind};
use crate::index::because_to_fence;
use crate::state::{SlotSeen, State};
use crate::transition::{self, Ended};
use common::chain::ChainRecord;
use common::ids::{Attempt, ChainId, JobId};
use common::job_key::JobKey;
use common::slot::{Cause, Slot, SlotState};
use common::units::Millis;

/// The record after the open attempt ended without a result.
pub(super) fn ended(state: &State, now: Millis, job: &OpenJob<'_>) -> Option<(ChainRecord, Vec<Note>)> {
    let seen = state.slots.get(&job.key);
    if let Some(used) = used_unseen(state, now, job, seen) {
        return transition::raise_attempt(&job.chain.record, job.phase, used.next());
    }
    let Some(seen) = seen else { return waited(state, now, job) };
    let slot = &seen.slot;
    let other_plan = slot.job.plan != job.chain.record.id.plan;
    if slot.attempt > job.attempt && !other_plan && is_taken(&slot.state) {
        // Records come before their offers: this one has lost its newest writes, and the attempt is ours.
        return transition::raise_attempt(&job.chain.record, job.phase, slot.attempt);
    }
    if slot.attempt > job.attempt || (slot.attempt == job.attempt && other_plan) {
        // Numbers of a key never repeat, not even over plans: an old holder must not pass for a new one.
        return transition::raise_attempt(&job.chain.record, job.phase, slot.attempt.next());
    }
    if slot.attempt < job.attempt {
        return waited(state, now, job);
    }
    let record = &job.chain.record;
    match &slot.state {
        SlotState::Failed { place, failure } => {
            let node = Some(place.node.clone());
            let (cause, message) = (failure.cause, failure.message.clone());
            let ended = Ended { cause, message, node, progress: failure.checkpointed };
            transition::retry(record, job.phase, ended, &state.options)
        }
        SlotState::Held { place, checkpointed, .. } if now.since(seen.seen_at) > state.options.lease => {
            let message = format!("lease ran out: {} did not renew for {}", place.node, state.options.lease);
            let (node, progress) = (Some(place.node.clone()), *checkpointed);
            let ended = Ended { cause: Cause::Infrastructure, message, node, progress };
            transition::retry(record, job.phase, ended, &state.options)
        }
        SlotState::Offered { .. } | SlotState::Declined { .. } => waited(state, now, job),
        SlotState::Closed { .. } => transition::raise_attempt(record, job.phase, slot.attempt.next()),
        _ => None,
    }
}

/// An attempt, this one or a later one, that has left something in the store though its slot says that nobody
/// runs it: the bus has lost the slot's newest writes. A number that was used is not offered again.
///
/// Not before every node in reach has had time to say that it works for the key: then it writes its slot anew.
fn used_unseen(state: &State, now: Millis, job: &OpenJob<'_>, seen: Option<&SlotSeen>) -> Option<Attempt> {
    if now.since(state.loaded_at) <= state.options.unreachable {
        return None;
    }
    let used = state.used.get(&job.key).copied().filter(|used| *used >= job.attempt)?;
    let runs = seen.is_some_and(|s| s.slot.attempt >= job.attempt && is_taken(&s.slot.state));
    (!runs).then_some(used)
}

/// Somebody took it: it runs, or has come to its end.
fn is_taken(state: &SlotState) -> bool {
    matches!(state, SlotState::Held { .. } | SlotState::Finished { .. } | SlotState::Failed { .. })
}

/// The record after a job found no place for longer than it may wait. Counted from when this coordinator saw the
/// record as it is: another one that takes over begins anew.
fn waited(state: &State, now: Millis, job: &OpenJob<'_>) -> Option<(ChainRecord, Vec<Note>)> {
    let limit = state.options.queue_timeout;
    if limit == Millis(0)
        || job.job.paused.is_some()
        || now.since(job.chain.seen_at) < limit.plus(job.backoff)
    {
        return None;
    }
    let name = &job.job.spec.name;
    let message = format!(
        "no place was found for {limit} (cluster.queue_minutes); `coord explain {name}` tells why, a later run \
         tries again"
    );
    transition::give_up(&job.chain.record, job.phase, message)
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
