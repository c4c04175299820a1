//! Open jobs to devices: which slots to offer, and which offers to say (again).

use super::OpenJob;
use crate::effect::{Effect, Note, NoteKind};
use crate::placement::queue;
use crate::state::{SlotSeen, State};
use common::job_key::shape_of;
use common::messages::{Ceiling, JobOffer};
use common::plan::JobSpec;
use common::slot::{Place, Slot, SlotState};
use common::units::Millis;
use std::collections::BTreeSet;

/// Offers for all that waits, best first; a job that fits nowhere now holds up nobody behind it. Also those that
/// got none.
pub(super) fn offers<'a>(
    state: &State,
    now: Millis,
    waiting: &[OpenJob<'a>],
) -> (Vec<Effect>, Vec<OpenJob<'a>>) {
    let mut effects = Vec::new();
    let mut unplaced = Vec::new();
    for job in waiting.iter().filter(|job| job.job.paused.is_none()) {
        let slot = state.slots.get(&job.key);
        match slot.map(|seen| judge(state, now, job, seen)).unwrap_or(Standing::Free) {
            Standing::Taken => {}
            Standing::Say => effects.extend(publish(state, job, slot)),
            Standing::Free => {
                let rested = now.since(job.chain.seen_at) >= job.backoff;
                if rested && state.holder_heard(&job.key, job.attempt, now).is_none() {
                    unplaced.push(*job);
                }
            }
        }
    }
    if unplaced.is_empty() {
        return (effects, unplaced);
    }
    let mut placed = BTreeSet::new();
    for (at, place) in queue::place(state, now, &unplaced) {
        let job = &unplaced[at];
        effects.push(write_offer(job, state.slots.get(&job.key), place));
        placed.insert(at);
    }
    let left = unplaced.into_iter().enumerate().filter(|(at, _)| !placed.contains(at));
    (effects, left.map(|(_, job)| job).collect())
}

enum Standing {
    /// Somebody runs it, or it is being verified.
    Taken,
    /// Offered, not taken yet: see that the node has the message.
    Say,
    /// To be offered (again).
    Free,
}

fn judge(state: &State, now: Millis, job: &OpenJob<'_>, seen: &SlotSeen) -> Standing {
    if seen.slot.attempt < job.attempt {
        return Standing::Free;
    }
    let stale = seen.is_stale_offer(now, &state.options);
    match &seen.slot.state {
        // A node that was closed since is not waited for.
        SlotState::Offered { place } if stale || state.is_closed_by_decision(&place.node) => Standing::Free,
        SlotState::Offered { .. } => Standing::Say,
        SlotState::Declined { .. } => Standing::Free,
        _ => Standing::Taken,
    }
}

fn write_offer(job: &OpenJob<'_>, slot: Option<&SlotSeen>, place: Place) -> Effect {
    let again = slot.filter(|s| s.slot.attempt == job.attempt);
    let offer = again.map_or(1, |s| s.slot.offer.saturating_add(1));
    let id = job.chain.record.job_id(job.phase);
    let text = format!("offer {offer}: {} on {}", place.reserve_mib, place.device);
    let note = Note::of(&job.chain.record, job.phase, NoteKind::Offered, text);
    let note = note.attempt(job.attempt).node(Some(place.node.clone()));
    Effect::WriteSlot {
        key: job.key,
        slot: Slot { job: id, attempt: job.attempt, offer, state: SlotState::Offered { place } },
        expected: slot.map(|s| s.revision),
        notes: vec![note],
    }
}

fn publish(state: &State, job: &OpenJob<'_>, slot: Option<&SlotSeen>) -> Option<Effect> {
    let seen = slot?;
    let SlotState::Offered { place } = &seen.slot.state else { return None };
    if state.published.get(&job.key) == Some(&(job.attempt, seen.slot.offer)) {
        return None;
    }
    let record = &job.chain.record;
    let parents = job.job.spec.inputs.parents.keys();
    let parents = parents.filter_map(|p| Some((*p, record.jobs.get(p)?.state.result()?.clone()))).collect();
    let offer = JobOffer {
        job: record.job_id(job.phase),
        key: job.key,
        attempt: job.attempt,
        offer: seen.slot.offer,
        spec: job.job.spec.clone(),
        place: place.clone(),
        data_url: record.data_url.clone(),
        parents,
        traceparent: record.traceparent.clone(),
        lease_ms: state.options.lease.0,
        micro_batch_max: micro_batch_max(state, &job.job.spec, place),
    };
    Some(Effect::PublishOffer { offer: Box::new(offer) })
}

/// What is known to run out of memory on this model of device: told by the nodes, and by manifests when the plan was
/// made.
fn micro_batch_max(state: &State, spec: &JobSpec, place: &Place) -> Option<u32> {
    let devices = state.nodes.get(&place.node).map(|node| &node.beat.devices)?;
    let model = &devices.iter().find(|device| device.id == place.device)?.model;
    let shape = shape_of(&spec.inputs.semantic);
    let is_like = |c: &&Ceiling| c.phase == spec.name.phase && c.shape == shape && c.device_model == *model;
    let told =
        state.nodes.values().flat_map(|node| &node.beat.ceilings).filter(is_like).map(|c| c.micro_batch);
    let planned =
        spec.need.on.iter().filter(|need| need.model == *model).filter_map(|need| need.micro_batch_max);
    told.chain(planned).min()
}
