//! Why a job is not running: every reason, per node and device, and whether waiting can help.

use crate::due::{OpenJob, open_jobs, owners};
use crate::placement::{DeviceBlocked, Fleet, declined, queue};
use crate::state::State;
use crate::view::{JobView, verify_trouble, view};
use common::chain::PastAttempt;
use common::ids::{ChainId, JobId, JobName, NodeId, PlanId};
use common::messages::{DeviceKind, Waits};
use common::slot::SlotState;
use common::units::{Mib, Millis};
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Why {
    pub job: JobId,
    pub view: JobView,
    pub reasons: Vec<Reason>,
    pub past: Vec<PastAttempt>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A parent has no result yet.
    WaitsForParent {
        parent: JobName,
        view: JobView,
    },
    /// Another plan runs the very same job; its result will serve.
    SameJobRunsIn {
        plan: PlanId,
    },
    /// By hand, until it is resumed.
    Paused {
        reason: String,
    },
    BackOff {
        left_ms: u64,
    },
    /// The bus has lost the slot; the node that works for it is about to write it anew.
    SlotLost {
        holder: NodeId,
    },
    /// No agent was ever heard.
    NoNodes,
    /// No device of the fleet will ever take it; the nearest one is named.
    Impossible {
        need_mib: Mib,
        kind: DeviceKind,
        nearest: Option<(String, Mib)>,
    },
    /// Every device of the right kind, with what keeps it.
    NoRoomNow {
        need_mib: Mib,
        devices: Vec<DeviceBlocked>,
    },
    /// Room is there: the offer goes out with the next decision.
    AboutToBeOffered,
    /// Room is there, and a device of the node that holds what it builds on is about to be free.
    WaitsForNode {
        place: String,
        at_most_ms: u64,
    },
    OfferedTo {
        place: String,
        since_ms: u64,
    },
    /// It runs, and something outside keeps it from going on.
    AttemptWaits {
        waits: Waits,
    },
    /// It runs, and was asked to save a checkpoint and give its device back.
    AskedToYield {
        because: String,
    },
    /// Finished; the store has not confirmed it yet.
    BeingVerified {
        trouble: Option<String>,
    },
    /// The coordinator can not reach the bus.
    BusAway,
}

/// `None` for a job that no chain holds.
pub fn explain(state: &State, now: Millis, id: &JobId) -> Option<Why> {
    let current = view(state, id)?;
    let chain_id = ChainId { plan: id.plan.clone(), dataset: id.name.dataset.clone() };
    let chain = state.chains.get(&chain_id)?;
    let past = chain.record.jobs.get(&id.name.phase)?.past.clone();
    let mut reasons = Vec::new();
    if !state.bus_up {
        reasons.push(Reason::BusAway);
    }
    match &current {
        JobView::Blocked => {
            let parents = chain.record.jobs.get(&id.name.phase)?.spec.inputs.parents.keys();
            for parent in parents {
                let parent_id = chain_id.job(*parent);
                if let Some(view) = view(state, &parent_id)
                    && !matches!(view, JobView::Committed { .. } | JobView::UpToDate { .. })
                {
                    reasons.push(Reason::WaitsForParent { parent: parent_id.name, view });
                }
            }
        }
        JobView::Ready { .. } | JobView::Retrying { .. } => {
            let job = open_jobs(chain).find(|j| j.phase == id.name.phase)?;
            reasons.extend(why_waiting(state, now, &job));
        }
        JobView::Offered { place, .. } => {
            let since_ms = open_jobs(chain)
                .find(|j| j.phase == id.name.phase)
                .and_then(|j| state.slots.get(&j.key))
                .map_or(0, |s| now.since(s.seen_at).0);
            reasons.push(Reason::OfferedTo { place: format!("{} {}", place.node, place.device), since_ms });
        }
        JobView::Paused { reason } => reasons.push(Reason::Paused { reason: reason.clone() }),
        JobView::Running { attempt, .. } => {
            let slot = chain.keys.get(&id.name.phase).and_then(|key| state.slots.get(key));
            if let Some(SlotState::Held { yields: Some(order), .. }) = slot.map(|seen| &seen.slot.state) {
                reasons.push(Reason::AskedToYield { because: order.because.clone() });
            }
            let reports = state.nodes.values().flat_map(|n| &n.beat.running);
            let ours = reports.filter(|r| r.job == *id && r.attempt == *attempt);
            reasons.extend(ours.filter_map(|r| r.waits.clone()).map(|waits| Reason::AttemptWaits { waits }));
        }
        JobView::Verifying { .. } => {
            reasons.push(Reason::BeingVerified { trouble: verify_trouble(state, id) });
        }
        _ => {}
    }
    Some(Why { job: id.clone(), view: current, reasons, past })
}

fn why_waiting(state: &State, now: Millis, job: &OpenJob<'_>) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if let Some(owner) = owners(&state.active_chains()).get(&job.key)
        && **owner != job.chain.record.id
    {
        reasons.push(Reason::SameJobRunsIn { plan: owner.plan.clone() });
        return reasons;
    }
    let waited = now.since(job.chain.seen_at);
    if waited < job.backoff {
        reasons.push(Reason::BackOff { left_ms: job.backoff.0 - waited.0 });
    }
    if let Some(holder) = state.holder_heard(&job.key, job.attempt, now) {
        reasons.push(Reason::SlotLost { holder: holder.clone() });
        return reasons;
    }
    let fleet = Fleet::of(state, now);
    if fleet.rooms.is_empty() {
        reasons.push(Reason::NoNodes);
        return reasons;
    }
    let spec = &job.job.spec;
    let declined = declined(state, &job.key, now);
    let (kind, need_mib, nearest) = fleet.nearest(spec);
    let blocked = fleet.blockers(spec, &declined);
    if blocked.len() < fleet.rooms.len() {
        if reasons.is_empty() {
            reasons.push(match queue::waits_at(state, now, job) {
                Some(place) => Reason::WaitsForNode {
                    place: format!("{} {}", place.node, place.device),
                    at_most_ms: state.options.locality_wait.0.saturating_sub(waited.0),
                },
                None => Reason::AboutToBeOffered,
            });
        }
    } else if blocked.iter().all(|b| b.blocker.is_never()) {
        reasons.push(Reason::Impossible { need_mib, kind, nearest });
    } else {
        let devices = blocked.into_iter().filter(|b| !b.blocker.is_never()).collect();
        reasons.push(Reason::NoRoomNow { need_mib, devices });
    }
    reasons
}
