//! A job as people see it: its record and its slot together.

use crate::state::{State, Verified};
use common::chain::{ChainRecord, JobRecord, JobState};
use common::ids::{Attempt, JobId, Phase};
use common::registry::CommittedRef;
use common::slot::{Cause, Place, Slot, SlotState};
use common::trainer_protocol::Stage;
use serde::Serialize;
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum JobView {
    Blocked,
    /// By hand, until it is resumed.
    Paused {
        reason: String,
    },
    Ready {
        attempt: Attempt,
    },
    Offered {
        attempt: Attempt,
        place: Place,
    },
    Running {
        attempt: Attempt,
        place: Place,
        stage: Stage,
    },
    Verifying {
        attempt: Attempt,
    },
    /// The attempt ended, the next one follows.
    Retrying {
        attempt: Attempt,
        message: String,
    },
    Committed {
        committed: CommittedRef,
        duration_ms: u64,
    },
    UpToDate {
        committed: CommittedRef,
    },
    Failed {
        cause: Cause,
        message: String,
    },
    Skipped {
        because: String,
    },
    Cancelled {
        reason: String,
    },
}

impl JobView {
    pub fn of(record: &ChainRecord, phase: Phase, job: &JobRecord, slot: Option<&Slot>) -> JobView {
        let attempt = match &job.state {
            JobState::Open { attempt, .. } => *attempt,
            JobState::Blocked => {
                let paused = |reason: &String| JobView::Paused { reason: reason.clone() };
                return job.paused.as_ref().map_or(JobView::Blocked, paused);
            }
            JobState::Committed { committed, duration_ms } => {
                return JobView::Committed { committed: committed.clone(), duration_ms: *duration_ms };
            }
            JobState::UpToDate { committed } => return JobView::UpToDate { committed: committed.clone() },
            JobState::Failed { cause, message } => {
                return JobView::Failed { cause: *cause, message: message.clone() };
            }
            JobState::Skipped { because } => return JobView::Skipped { because: because.to_string() },
            JobState::Cancelled { reason } => return JobView::Cancelled { reason: reason.clone() },
        };
        let id = record.job_id(phase);
        let Some(slot) = slot.filter(|s| s.attempt == attempt && s.job == id) else {
            return waits(job, attempt);
        };
        match &slot.state {
            SlotState::Offered { place } => JobView::Offered { attempt, place: place.clone() },
            SlotState::Held { place, stage, .. } => {
                JobView::Running { attempt, place: place.clone(), stage: *stage }
            }
            SlotState::Finished { .. } => JobView::Verifying { attempt },
            SlotState::Failed { failure, .. } => {
                JobView::Retrying { attempt, message: failure.message.clone() }
            }
            SlotState::Declined { .. } | SlotState::Closed { .. } => waits(job, attempt),
        }
    }

    /// One word for a table.
    pub fn word(&self) -> &'static str {
        match self {
            JobView::Blocked => "blocked",
            JobView::Paused { .. } => "paused",
            JobView::Ready { .. } => "ready",
            JobView::Offered { .. } => "offered",
            JobView::Running { stage, .. } => stage.as_str(),
            JobView::Verifying { .. } => "verifying",
            JobView::Retrying { .. } => "retrying",
            JobView::Committed { .. } => "committed",
            JobView::UpToDate { .. } => "up to date",
            JobView::Failed { .. } => "failed",
            JobView::Skipped { .. } => "skipped",
            JobView::Cancelled { .. } => "cancelled",
        }
    }
}

/// Of an open job that nobody runs.
fn waits(job: &JobRecord, attempt: Attempt) -> JobView {
    match &job.paused {
        Some(reason) => JobView::Paused { reason: reason.clone() },
        None => JobView::Ready { attempt },
    }
}

impl fmt::Display for JobView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The view of one job of the state.
pub fn view(state: &State, id: &JobId) -> Option<JobView> {
    let chain_id = common::ids::ChainId { plan: id.plan.clone(), dataset: id.name.dataset.clone() };
    let chain = state.chains.get(&chain_id)?;
    let job = chain.record.jobs.get(&id.name.phase)?;
    let slot = chain.keys.get(&id.name.phase).and_then(|key| state.slots.get(key)).map(|s| &s.slot);
    Some(JobView::of(&chain.record, id.name.phase, job, slot))
}

/// What the store last said about a finished attempt that could not be verified yet.
pub fn verify_trouble(state: &State, id: &JobId) -> Option<String> {
    let chain_id = common::ids::ChainId { plan: id.plan.clone(), dataset: id.name.dataset.clone() };
    let chain = state.chains.get(&chain_id)?;
    let attempt = chain.record.jobs.get(&id.name.phase)?.open_attempt()?;
    match state.verified.get(&(*chain.keys.get(&id.name.phase)?, attempt))? {
        Verified::Unavailable { message, .. } => Some(message.clone()),
        Verified::Whole | Verified::Broken(_) => None,
    }
}
