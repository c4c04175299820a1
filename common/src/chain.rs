//! State of the jobs of one dataset of a plan: bucket `chains`, one record, compare-and-swap.
//!
//! Commit of a job and unlock of its dependents are one write of this record. What a running attempt does
//! at the moment is not here but in its [slot](crate::slot): two truths of one thing would part.

use crate::ids::{Attempt, ChainId, JobId, JobName, NodeId, Phase};
use crate::job_key::{JobKey, ParentResult};
use crate::plan::{Decision, JobSpec, Plan};
use crate::registry::CommittedRef;
use crate::slot::Cause;
use crate::units::UnixMs;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChainRecord {
    pub id: ChainId,
    pub plan_created: UnixMs,
    pub data_url: String,
    pub jobs: BTreeMap<Phase, JobRecord>,
    /// Trace context of the apply.
    pub traceparent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// `inputs.parents` is filled in as the parents are committed.
    pub spec: JobSpec,
    pub state: JobState,
    /// Attempts that ended without a result, the newest [`PAST_MAX`] of them.
    pub past: Vec<PastAttempt>,
    /// All of them, by cause: what the retry budgets are held against.
    pub retries: BTreeMap<Cause, u32>,
    pub expected_ms: u64,
    /// Set by hand: not to be run until it is resumed, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
}

/// More past attempts than any retry budget allows by default; a record stays small.
pub const PAST_MAX: usize = 32;

/// Durable state of a job.
///
/// ```text
///   Blocked --all parents have results--> Open --verified--> Committed
///      |                                  |  ^ `--no budget left--> Failed
///      |                                  `--' attempt + 1
///      |`--same result exists--> UpToDate
///      `--parent failed--> Skipped            (any but the last four) --cancel--> Cancelled
///   Failed, Skipped, Cancelled --retry, by hand--> Blocked or Open
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// A parent has no result yet.
    Blocked,
    /// To be run: the slot tells whether it waits, is offered, or runs. `attempt` is the only one whose
    /// result may be committed.
    Open {
        attempt: Attempt,
        /// Pause before the next offer, counted from when a coordinator first saw this record.
        backoff_ms: u64,
    },
    Committed {
        committed: CommittedRef,
        duration_ms: u64,
    },
    /// The very same result had been committed before.
    UpToDate {
        committed: CommittedRef,
    },
    Failed {
        cause: Cause,
        message: String,
    },
    /// Its parent ended without a result.
    Skipped {
        because: JobName,
    },
    Cancelled {
        reason: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastAttempt {
    pub attempt: Attempt,
    pub node: Option<NodeId>,
    pub cause: Cause,
    pub message: String,
}

impl JobState {
    pub fn is_terminal(&self) -> bool {
        !matches!(self, JobState::Blocked | JobState::Open { .. })
    }

    /// The result a dependent may build on.
    pub fn result(&self) -> Option<&CommittedRef> {
        match self {
            JobState::Committed { committed, .. } | JobState::UpToDate { committed } => Some(committed),
            _ => None,
        }
    }
}

impl JobRecord {
    pub fn key(&self) -> Option<JobKey> {
        self.spec.inputs.key()
    }

    pub fn open_attempt(&self) -> Option<Attempt> {
        match self.state {
            JobState::Open { attempt, .. } => Some(attempt),
            _ => None,
        }
    }
}

impl ChainRecord {
    /// The chain of one dataset as it starts. `None` when the plan has nothing to run there.
    pub fn from_plan(plan: &Plan, id: &ChainId) -> Option<ChainRecord> {
        let planned = plan.jobs.iter().filter(|j| j.spec.name.dataset == id.dataset);
        let mut jobs = BTreeMap::new();
        let mut any_to_run = false;
        for job in planned {
            let state = match &job.decision {
                Decision::Run { .. } => {
                    any_to_run = true;
                    let pending = job.spec.inputs.parents.values().any(|p| *p == ParentResult::Pending);
                    if pending {
                        JobState::Blocked
                    } else {
                        JobState::Open { attempt: Attempt::FIRST, backoff_ms: 0 }
                    }
                }
                Decision::UpToDate { committed } | Decision::Excluded { committed: Some(committed), .. } => {
                    JobState::UpToDate { committed: committed.clone() }
                }
                Decision::Blocked { .. } | Decision::Excluded { committed: None, .. } => continue,
            };
            let record = JobRecord {
                spec: job.spec.clone(),
                state,
                past: Vec::new(),
                retries: BTreeMap::new(),
                expected_ms: job.expected_ms,
                paused: None,
            };
            jobs.insert(job.spec.name.phase, record);
        }
        any_to_run.then(|| ChainRecord {
            id: id.clone(),
            plan_created: plan.created,
            data_url: plan.data_url.clone(),
            jobs,
            traceparent: plan.traceparent.clone(),
        })
    }

    pub fn is_finished(&self) -> bool {
        self.jobs.values().all(|j| j.state.is_terminal())
    }

    pub fn job_id(&self, phase: Phase) -> JobId {
        self.id.job(phase)
    }
}
