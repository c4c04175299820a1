//! A plan: which jobs are to run, and why. Written once to the bucket `plans`, never changed.

use crate::config::{PlacementPolicy, Tuning};
use crate::digest::Digest;
use crate::ids::{BadName, DatasetId, JobName, Phase, PlanId};
use crate::job_key::{JobInputs, JobKey};
use crate::messages::DeviceKind;
use crate::registry::CommittedRef;
use crate::units::{Mib, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub id: PlanId,
    /// Taken out of the id, so that planning twice gives the same plan.
    pub created: UnixMs,
    /// Digest of the registry and of the running chains this plan was computed against.
    pub base_revision: Digest,
    /// In the order in which they would be placed.
    pub jobs: Vec<PlannedJob>,
    /// Where the captures are: a folder URL that every agent can read.
    pub data_url: String,
    pub options: PlanOptions,
    pub traceparent: Option<String>,
}

/// What the admin asked for, kept for the record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanOptions {
    pub datasets: Vec<DatasetId>,
    pub only: Vec<Phase>,
    pub force: Vec<String>,
    pub downstream: bool,
    pub priority_datasets: Vec<DatasetId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedJob {
    pub spec: JobSpec,
    pub decision: Decision,
    /// Usual length of this phase and where that is known from.
    pub expected_ms: u64,
    pub expected_basis: String,
}

/// A job as it is handed to an agent, all but the placement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    pub name: JobName,
    pub inputs: JobInputs,
    /// Where and how fast; the agent completes it with the profile of its device.
    pub tuning: Tuning,
    pub need: MemoryNeed,
    /// Higher runs first.
    pub priority: i32,
}

/// What a job takes of a device: how much memory, and in what company.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryNeed {
    /// Of a card whose model is not in `on`.
    pub gpu_mib: Mib,
    /// Of a machine whose processor is not in `on`.
    pub cpu_mib: Mib,
    /// Where these two figures are from.
    pub basis: String,
    /// What is known of single models of devices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<ModelNeed>,
    #[serde(default)]
    pub policy: PlacementPolicy,
}

/// The need on one model of device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelNeed {
    pub kind: DeviceKind,
    /// As the driver names it.
    pub model: String,
    pub mib: Mib,
    /// The configuration, or peaks measured in manifests.
    pub basis: String,
    /// Most graphs at once, when an earlier run ran out of memory with more.
    #[serde(default)]
    pub micro_batch_max: Option<u32>,
}

impl MemoryNeed {
    /// The same on every model.
    pub fn flat(gpu_mib: Mib, cpu_mib: Mib, basis: impl Into<String>) -> MemoryNeed {
        let policy = PlacementPolicy::default();
        MemoryNeed { gpu_mib, cpu_mib, basis: basis.into(), on: Vec::new(), policy }
    }

    /// The need on a device, with its basis.
    pub fn on_device(&self, kind: DeviceKind, model: &str) -> (Mib, &str) {
        if let Some(known) = self.on.iter().find(|n| n.kind == kind && n.model == model) {
            return (known.mib, &known.basis);
        }
        match kind {
            DeviceKind::Gpu => (self.gpu_mib, &self.basis),
            DeviceKind::Cpu => (self.cpu_mib, &self.basis),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    Run {
        reasons: Vec<RunReason>,
    },
    UpToDate {
        committed: CommittedRef,
    },
    /// Left out by `--only`; what it would have run for. Its present result serves its dependents.
    Excluded {
        committed: Option<CommittedRef>,
        reasons: Vec<RunReason>,
    },
    /// Not in this plan, and why (an excluded parent was never trained, the job runs already …).
    Blocked {
        reason: BlockedReason,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunReason {
    NeverTrained,
    ConfigChanged {
        key: String,
        old: Option<String>,
        new: Option<String>,
    },
    DataChanged {
        old: Digest,
        new: Digest,
    },
    CodeChanged {
        old: u32,
        new: u32,
    },
    /// The parent runs in this plan, or has another committed result than the one this was built on.
    ParentChanged {
        parent: Phase,
    },
    /// Made from exactly these inputs before, but another version is in use: put back without training.
    CommittedBefore {
        manifest: Digest,
    },
    ArtifactMissing {
        key: String,
    },
    Forced {
        selector: String,
    },
}

impl fmt::Display for RunReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_unset = |v: &Option<String>| v.clone().unwrap_or_else(|| "unset".into());
        match self {
            RunReason::NeverTrained => write!(f, "never trained"),
            RunReason::ConfigChanged { key, old, new } => {
                write!(f, "config {key} changed {} -> {}", or_unset(old), or_unset(new))
            }
            RunReason::DataChanged { old, new } => {
                write!(f, "data changed {} -> {}", old.short(), new.short())
            }
            RunReason::CodeChanged { old, new } => write!(f, "mathematics changed v{old} -> v{new}"),
            RunReason::ParentChanged { parent } => write!(f, "parent {parent} changed"),
            RunReason::CommittedBefore { manifest } => {
                write!(f, "committed before as {}: put back in use without training", manifest.short())
            }
            RunReason::ArtifactMissing { key } => write!(f, "artifact missing: {key}"),
            RunReason::Forced { selector } => write!(f, "forced by {selector}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockedReason {
    /// `--only` leaves out a parent that has no committed result.
    ParentNotTrained { parent: Phase },
    /// The same dataset is being retrained by another plan.
    RunningIn { plan: PlanId },
    /// No capture of the dataset can be read.
    NoData { message: String },
}

impl fmt::Display for BlockedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockedReason::ParentNotTrained { parent } => {
                write!(f, "its {parent} was never trained and is not part of this plan")
            }
            BlockedReason::RunningIn { plan } => write!(f, "already running in plan {plan}"),
            BlockedReason::NoData { message } => write!(f, "no data: {message}"),
        }
    }
}

impl Plan {
    /// An id from the content: the same inputs give the same plan (and a retried apply the same key).
    pub fn derive_id(base: Digest, jobs: &[PlannedJob], data_url: &str) -> Result<PlanId, BadName> {
        let mut text = format!("base={base}\ndata={data_url}\n");
        for job in jobs {
            let key = job.spec.inputs.key().map_or_else(|| "pending".to_owned(), |k: JobKey| k.to_string());
            let verb = match &job.decision {
                Decision::Run { .. } => "run",
                Decision::UpToDate { .. } => "keep",
                Decision::Excluded { .. } => "excluded",
                Decision::Blocked { .. } => "blocked",
            };
            text += &format!(
                "{}={verb} {key} force={} prio={}\n",
                job.spec.name, job.spec.inputs.force_generation, job.spec.priority
            );
            let tree = crate::job_key::flatten(&job.spec.inputs.semantic);
            tree.iter().for_each(|(k, v)| text += &format!(" {k}={v}\n"));
        }
        PlanId::new(format!("p{}", &Digest::of(text.as_bytes()).to_string()[..10]))
    }

    pub fn job(&self, name: &JobName) -> Option<&PlannedJob> {
        self.jobs.iter().find(|j| j.spec.name == *name)
    }

    pub fn to_run(&self) -> impl Iterator<Item = &PlannedJob> {
        self.jobs.iter().filter(|j| matches!(j.decision, Decision::Run { .. }))
    }

    /// Jobs by dataset, in the order of phases.
    pub fn by_dataset(&self) -> BTreeMap<&DatasetId, BTreeMap<Phase, &PlannedJob>> {
        let mut sets: BTreeMap<&DatasetId, BTreeMap<Phase, &PlannedJob>> = BTreeMap::new();
        for job in &self.jobs {
            sets.entry(&job.spec.name.dataset).or_default().insert(job.spec.name.phase, job);
        }
        sets
    }
}
