//! Finished attempts: ask the store, then commit.

use super::OpenJob;
use crate::effect::{Effect, Note};
use crate::state::{State, Verified};
use crate::transition::{self, Ended};
use common::chain::ChainRecord;
use common::registry::CommittedRef;
use common::slot::{Cause, SlotState};
use common::units::Millis;

/// Asks the store about every finished attempt that has no answer yet.
pub(super) fn verify(state: &State, now: Millis, waiting: &[OpenJob<'_>]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for job in waiting {
        let Some(seen) = state.slots.get(&job.key) else { continue };
        let SlotState::Finished { manifest, .. } = &seen.slot.state else { continue };
        if seen.slot.attempt != job.attempt {
            continue;
        }
        let ask = match state.verified.get(&(job.key, job.attempt)) {
            None => true,
            Some(Verified::Unavailable { at, .. }) => now.since(*at) >= state.options.verify_pause,
            Some(Verified::Whole | Verified::Broken(_)) => false,
        };
        if ask {
            effects.push(Effect::Verify {
                job: job.chain.record.job_id(job.phase),
                key: job.key,
                attempt: job.attempt,
                manifest: *manifest,
                traceparent: job.chain.record.traceparent.clone(),
            });
        }
    }
    effects
}

/// The record after a finished attempt of the open number was found whole, or broken.
pub(super) fn of_finished(state: &State, job: &OpenJob<'_>) -> Option<(ChainRecord, Vec<Note>)> {
    let seen = state.slots.get(&job.key)?;
    let SlotState::Finished { place, manifest, duration_ms } = &seen.slot.state else { return None };
    if seen.slot.attempt != job.attempt || seen.slot.job.plan != job.chain.record.id.plan {
        return None;
    }
    let node = Some(place.node.clone());
    match state.verified.get(&(job.key, job.attempt))? {
        Verified::Whole => {
            let committed = CommittedRef { key: job.key, attempt: job.attempt, manifest: *manifest };
            Some(transition::commit(&job.chain.record, job.phase, committed, node, *duration_ms))
        }
        Verified::Broken(what) => {
            let message = format!("result is not whole: {what}");
            let ended = Ended { cause: Cause::Infrastructure, message, node, progress: false };
            transition::retry(&job.chain.record, job.phase, ended, &state.options)
        }
        Verified::Unavailable { .. } => None,
    }
}
