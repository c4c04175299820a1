//! The phases and what each needs (`conf/pipeline.yaml`), and the clocks of the cluster.

use crate::ids::Phase;
use crate::units::Mib;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Key of [`PhaseSpec::memory_mib`] that stands for every profile not named.
pub const ANY_PROFILE: &str = "default";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipelineSpec {
    pub phases: Phases,
    pub retries: RetryBudgets,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    pub teacher: PhaseSpec,
    pub student: PhaseSpec,
    pub fusion: PhaseSpec,
}

impl Phases {
    pub fn get(&self, phase: Phase) -> &PhaseSpec {
        match phase {
            Phase::Teacher => &self.teacher,
            Phase::Student => &self.student,
            Phase::Fusion => &self.fusion,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseSpec {
    /// Phases of the same dataset whose committed results this one reads.
    pub depends_on: Vec<Phase>,
    /// First guess of the duration, until history knows better.
    pub expected_minutes: u32,
    /// Memory asked of a device, by the name of its GPU profile; `cpu` counts main memory.
    pub memory_mib: BTreeMap<String, Mib>,
    /// An attempt that runs longer is ended and retried.
    pub time_limit_minutes: u32,
    /// An attempt that reports no progress for so long is ended and retried.
    pub no_progress_minutes: u32,
}

impl PhaseSpec {
    /// Memory to ask of a device with this profile.
    pub fn memory_on(&self, profile: &str) -> Mib {
        let need = self.memory_mib.get(profile).or_else(|| self.memory_mib.get(ANY_PROFILE));
        // Validation refuses a phase without the default entry.
        *need.expect("a resolved phase has a default memory need")
    }
}

/// How often a job may be tried again, by the cause of its failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryBudgets {
    /// Lost node, crash, disk, network.
    pub infrastructure: u32,
    /// Made way for a more urgent job, or drained.
    pub preemption: u32,
    pub out_of_memory: u32,
    /// The loss became infinite or NaN.
    pub diverged: u32,
    /// Captures or configuration that can not be used: another try changes nothing.
    pub user_error: u32,
}

/// Clocks of the cluster, in seconds of the receiver's own clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// A slot not renewed for so long is free again; renewed each third of it.
    pub lease_s: u32,
    /// Between two beats of a node.
    pub beat_s: u32,
    /// A node not heard of for so long is told as unreachable (which ends nothing by itself).
    pub unreachable_s: u32,
    /// An offer nobody takes up for so long is made again.
    pub offer_s: u32,
    /// Time a trainer has to save a checkpoint when asked to stop.
    pub stop_grace_s: u32,
    /// First wait before a retry; doubled each time.
    pub backoff_s: u32,
    pub backoff_max_s: u32,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        ClusterSpec {
            lease_s: 30,
            beat_s: 5,
            unreachable_s: 15,
            offer_s: 10,
            stop_grace_s: 20,
            backoff_s: 2,
            backoff_max_s: 300,
        }
    }
}

impl Default for RetryBudgets {
    fn default() -> Self {
        RetryBudgets { infrastructure: 5, preemption: 20, out_of_memory: 3, diverged: 1, user_error: 0 }
    }
}

impl Default for PipelineSpec {
    fn default() -> Self {
        let phase = |depends_on: &[Phase], minutes, mib, cpu_mib| PhaseSpec {
            depends_on: depends_on.to_vec(),
            expected_minutes: minutes,
            memory_mib: [(ANY_PROFILE, mib), ("cpu", cpu_mib)].map(|(k, v)| (k.to_owned(), Mib(v))).into(),
            time_limit_minutes: 24 * 60,
            no_progress_minutes: 30,
        };
        PipelineSpec {
            phases: Phases {
                teacher: phase(&[], 45, 8192, 2048),
                student: phase(&[Phase::Teacher], 35, 6144, 1536),
                fusion: phase(&[Phase::Student], 60, 10_240, 1024),
            },
            retries: RetryBudgets::default(),
        }
    }
}
