//! Open jobs to devices: which slots to offer, and which offers to say (again).

use super::OpenJob;
use crate::effect::{Effect, Note, NoteKind};
use crate::placement::{Fleet, declined};
use crate::state::{SlotSeen, State};
use common::ids::{JobId, Phase};
use common::messages::JobOffer;
use common::slot::{Place, Slot, SlotState};
use common::units::Millis;

/// Offers for all that waits, best first; a job that fits nowhere now holds up nobody behind it.
pub(super) fn offers(state: &State, now: Millis, waiting: &[OpenJob<'_>]) -> Vec<Effect> {
    let mut effects = Vec::new();
    let mut unplaced = Vec::new();
    for job in waiting {
        let slot = state.slots.get(&job.key);
        match slot.map(|seen| judge(state, now, job, seen)).unwrap_or(Standing::Free) {
            Standing::Taken => {}
            Standing::Say => effects.extend(publish(state, job, slot)),
            Standing::Free => {
                if now.since(job.chain.seen_at) >= job.backoff {
                    unplaced.push(*job);
                }
            }
        }
    }
    unplaced.sort_by_cached_key(order);
    let mut fleet = Fleet::of(state, now);
    for job in unplaced {
        let slot = state.slots.get(&job.key);
        if let Some(place) = fleet.place(&job.job.spec, &declined(state, &job.key, now)) {
            fleet.take(&place, &job.chain.record.job_id(job.phase));
            effects.push(write_offer(&job, slot, place));
        }
    }
    effects
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
        SlotState::Offered { .. } if stale => Standing::Free,
        SlotState::Offered { .. } => Standing::Say,
        SlotState::Declined { .. } => Standing::Free,
        _ => Standing::Taken,
    }
}

/// Highest priority, then the longest chain still ahead, then the oldest plan, then by name.
type Order = (std::cmp::Reverse<i32>, std::cmp::Reverse<u64>, u64, JobId, Phase);

fn order(job: &OpenJob<'_>) -> Order {
    let ahead = remaining_ms(job);
    let record = &job.chain.record;
    (
        std::cmp::Reverse(job.job.spec.priority),
        std::cmp::Reverse(ahead),
        record.plan_created.0,
        record.job_id(job.phase),
        job.phase,
    )
}

/// Expected time of this job and of the longest line of jobs that wait for it.
fn remaining_ms(job: &OpenJob<'_>) -> u64 {
    fn longest(jobs: &std::collections::BTreeMap<Phase, common::chain::JobRecord>, phase: Phase) -> u64 {
        let own = jobs.get(&phase).map_or(0, |j| j.expected_ms);
        let behind = jobs
            .iter()
            .filter(|(p, j)| {
                **p > phase && !j.state.is_terminal() && j.spec.inputs.parents.contains_key(&phase)
            })
            .map(|(p, _)| longest(jobs, *p))
            .max();
        own.saturating_add(behind.unwrap_or(0))
    }
    longest(&job.chain.record.jobs, job.phase)
}

fn write_offer(job: &OpenJob<'_>, slot: Option<&SlotSeen>, place: Place) -> Effect {
    let again = slot.filter(|s| s.slot.attempt == job.attempt);
    let offer = again.map_or(1, |s| s.slot.offer.saturating_add(1));
    let id = job.chain.record.job_id(job.phase);
    let note = Note {
        job: id.clone(),
        attempt: Some(job.attempt),
        node: Some(place.node.clone()),
        kind: NoteKind::Offered,
        text: format!("offer {offer}: {} on {}", place.reserve_mib, place.device),
    };
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
    };
    Some(Effect::PublishOffer { offer: Box::new(offer) })
}
