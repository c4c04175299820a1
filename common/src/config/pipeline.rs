//! The phases and what each needs (`conf/pipeline.yaml`), and the clocks of the cluster.

use super::arch::ModelSize;
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
    pub placement: PlacementSpec,
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
    /// Memory asked of a device before any run was measured.
    pub memory_mib: MemoryBySize,
    /// In what company this phase runs on a device.
    pub placement: PlacementPolicy,
    /// An attempt that runs longer is ended and retried.
    pub time_limit_minutes: u32,
    /// An attempt that reports no progress for so long is ended and retried.
    pub no_progress_minutes: u32,
}

impl PhaseSpec {
    /// Memory that networks of this size ask of a device with this profile.
    pub fn memory_on(&self, size: ModelSize, profile: &str) -> Mib {
        let by_profile = self.memory_mib.of(size);
        let need = by_profile.get(profile).or_else(|| by_profile.get(ANY_PROFILE));
        // The defaults have the entry and a later layer can only change it, never take it away.
        *need.expect("a resolved phase has a default memory need")
    }
}

/// By the size of the networks, then by the name of the device's GPU profile; `cpu` counts main memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryBySize {
    pub large: BTreeMap<String, Mib>,
    pub small: BTreeMap<String, Mib>,
}

impl MemoryBySize {
    pub fn of(&self, size: ModelSize) -> &BTreeMap<String, Mib> {
        match size {
            ModelSize::Large => &self.large,
            ModelSize::Small => &self.small,
        }
    }
}

/// Which of the devices with room a job gets, and whether others may join it there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlacementPolicy {
    /// The device with the fewest jobs: each goes as fast as it can.
    #[default]
    Spread,
    /// The device with the most jobs that still has room: whole devices stay free for what needs them.
    Compact,
    /// An empty device, which it keeps for itself.
    Exclusive,
}

/// How devices are chosen and needs are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacementSpec {
    /// Added to a measured peak: so many percent of it, and so much at least.
    pub margin_percent: u32,
    pub margin_min_mib: Mib,
    /// Longest wait for the node that holds the parent's result, when its device is about to be free.
    pub locality_wait_s: u32,
}

impl Default for PlacementSpec {
    fn default() -> Self {
        PlacementSpec { margin_percent: 15, margin_min_mib: Mib(256), locality_wait_s: 15 }
    }
}

impl PlacementSpec {
    /// A measured peak with its margin.
    pub fn with_margin(&self, peak: Mib) -> Mib {
        let share = Mib(peak.0.saturating_mul(u64::from(self.margin_percent)).div_ceil(100));
        peak.saturating_add(share.max(self.margin_min_mib))
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
    /// A store that refused the result until the agent's patience was over: somebody has to mend it first.
    pub store: u32,
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
    /// A job that finds no place for so long fails. 0 = it waits for ever.
    pub queue_minutes: u32,
    /// Time a trainer has to save a checkpoint when asked to stop.
    pub stop_grace_s: u32,
    /// Time an attempt has to save a checkpoint when its device is asked back (drain, pause, preemption).
    pub yield_grace_s: u32,
    /// Whether a job of higher priority takes the place of one of lower priority.
    pub preemption: bool,
    /// A trainer that fails within this time after its start speaks against its node.
    pub fast_failure_s: u32,
    /// So many distinct jobs that failed fast, with no success between, quarantine a node. 0 = never.
    pub quarantine_after: u32,
    /// First wait before a retry; doubled each time.
    pub backoff_s: u32,
    pub backoff_max_s: u32,
}

/// Patience and disk limits of each node-agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// A store that refuses (access, read-only, full, no such bucket) may be mended for so long.
    pub store_refused_s: u32,
    /// A store that does not answer may come back for so long before a finished result is given up.
    pub upload_s: u32,
    /// Captures, parents' files and the checkpoint must be here within this time.
    pub fetch_s: u32,
    /// From the trainer's start to its first word.
    pub start_s: u32,
    /// A training whose rate of steps stays below this share of its own median, in percent, ...
    pub stall_percent: u32,
    /// ... for so long is hung: it is ended and retried. 0 = never.
    pub stall_s: u32,
    /// Largest sizes on the agent's disk; what was used longest ago goes first.
    pub prepared_cache_gib: u32,
    pub parents_cache_gib: u32,
    pub process_logs_mib: u32,
    pub kept_results_gib: u32,
    /// So much of one attempt's log is sent and archived; what is beyond stays on the node and is counted.
    pub attempt_log_mib: u32,
}

impl Default for AgentSpec {
    fn default() -> Self {
        AgentSpec {
            store_refused_s: 180,
            upload_s: 6 * 3600,
            fetch_s: 3600,
            start_s: 600,
            stall_percent: 20,
            stall_s: 600,
            prepared_cache_gib: 50,
            parents_cache_gib: 20,
            process_logs_mib: 2048,
            kept_results_gib: 20,
            attempt_log_mib: 64,
        }
    }
}

impl Default for ClusterSpec {
    fn default() -> Self {
        ClusterSpec {
            lease_s: 30,
            beat_s: 5,
            unreachable_s: 15,
            offer_s: 10,
            queue_minutes: 0,
            stop_grace_s: 20,
            yield_grace_s: 60,
            preemption: true,
            fast_failure_s: 60,
            quarantine_after: 3,
            backoff_s: 2,
            backoff_max_s: 300,
        }
    }
}

impl Default for RetryBudgets {
    fn default() -> Self {
        RetryBudgets {
            infrastructure: 5,
            preemption: 10,
            out_of_memory: 3,
            diverged: 1,
            user_error: 0,
            store: 0,
        }
    }
}

impl Default for PipelineSpec {
    fn default() -> Self {
        let by_profile = |mib, cpu_mib| -> BTreeMap<String, Mib> {
            [(ANY_PROFILE, mib), ("cpu", cpu_mib)].map(|(k, v)| (k.to_owned(), Mib(v))).into()
        };
        let phase = |depends_on: &[Phase], minutes, mib, cpu_mib| PhaseSpec {
            depends_on: depends_on.to_vec(),
            expected_minutes: minutes,
            memory_mib: MemoryBySize { large: by_profile(mib, cpu_mib), small: by_profile(mib, cpu_mib) },
            placement: PlacementPolicy::default(),
            time_limit_minutes: 24 * 60,
            no_progress_minutes: 30,
        };
        PipelineSpec {
            phases: Phases {
                teacher: phase(&[], 45, 8192, 2048),
                student: phase(&[Phase::Teacher], 35, 6144, 1536),
                fusion: phase(&[Phase::Student], 60, 10_240, 1024),
            },
            placement: PlacementSpec::default(),
            retries: RetryBudgets::default(),
        }
    }
}
