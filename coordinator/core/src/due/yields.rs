//! Holders that are asked to save a checkpoint and give their device back. The request is part of the slot: the
//! holder finds it at its next renewal, and whoever coordinates then finds it asked already.

use super::OpenJob;
use super::preempt::Victims;
use crate::effect::{Effect, Note, NoteKind};
use crate::standing::drain_asks;
use crate::state::{SlotSeen, State};
use common::slot::{Place, Slot, SlotState, Yield};
use common::units::Millis;

pub(super) fn yields(state: &State, now: Millis, jobs: &[OpenJob<'_>], victims: &Victims) -> Vec<Effect> {
    // Most rounds ask nobody: then no slot is looked up.
    let draining = state.standings.values().any(|seen| seen.record.standing.asks_after().is_some());
    let concerned =
        |job: &&OpenJob<'_>| draining || job.job.paused.is_some() || victims.contains_key(&job.key);
    let asked = jobs.iter().filter(concerned).filter_map(|job| {
        let (seen, place) = running(state, job)?;
        let (because, grace) = paused(state, job)
            .or_else(|| drain_asks(state, now, place))
            .or_else(|| victims.get(&job.key).map(|because| (because.clone(), state.options.yield_grace)))?;
        ask(job, seen, because, grace)
    });
    asked.collect()
}

/// The slot of an attempt that runs and was not asked yet.
pub(super) fn running<'s>(state: &'s State, job: &OpenJob<'_>) -> Option<(&'s SlotSeen, &'s Place)> {
    let seen = state.slots.get(&job.key)?;
    let ours = seen.slot.attempt == job.attempt && seen.slot.job.plan == job.chain.record.id.plan;
    match &seen.slot.state {
        SlotState::Held { place, yields: None, .. } if ours => Some((seen, place)),
        _ => None,
    }
}

fn paused(state: &State, job: &OpenJob<'_>) -> Option<(String, Millis)> {
    let reason = job.job.paused.as_ref()?;
    Some((format!("paused: {reason}"), state.options.yield_grace))
}

fn ask(job: &OpenJob<'_>, seen: &SlotSeen, because: String, grace: Millis) -> Option<Effect> {
    let mut slot: Slot = seen.slot.clone();
    let SlotState::Held { place, yields, .. } = &mut slot.state else { return None };
    *yields = Some(Yield { because: because.clone(), grace_ms: grace.0 });
    let node = Some(place.node.clone());
    let note = Note::of(&job.chain.record, job.phase, NoteKind::AskedToYield, because);
    let notes = vec![note.attempt(job.attempt).node(node)];
    Some(Effect::WriteSlot { key: job.key, slot, expected: Some(seen.revision), notes })
}
