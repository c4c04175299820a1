//! What travels on the bus besides the records: offers to nodes, beats of nodes, events for people.

use crate::digest::Digest;
use crate::ids::{Attempt, DeviceId, Incarnation, JobId, NodeId, Phase};
use crate::job_key::JobKey;
use crate::plan::JobSpec;
use crate::registry::CommittedRef;
use crate::slot::Place;
use crate::trainer_protocol::Stage;
use crate::units::{Mib, Millis, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Invitation to take a slot. Holds all that the attempt needs; the right to run is the slot alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobOffer {
    pub job: JobId,
    pub key: JobKey,
    pub attempt: Attempt,
    pub offer: u32,
    pub spec: JobSpec,
    pub place: Place,
    pub data_url: String,
    /// Committed results this job builds on.
    pub parents: BTreeMap<Phase, CommittedRef>,
    pub traceparent: Option<String>,
    /// The coordinator's lease: whoever holds the slot renews it by this clock, whatever its own configuration
    /// says. 0 = not told.
    #[serde(default)]
    pub lease_ms: u64,
    /// Most graphs that went onto a device of this model at once without running out of memory, as far as nodes and
    /// manifests tell. Nothing tells = the device's profile decides.
    #[serde(default)]
    pub micro_batch_max: Option<u32>,
}

impl JobOffer {
    /// `Nats-Msg-Id`: saying the same offer twice leaves one message.
    pub fn message_id(&self) -> String {
        format!("{}.{}.{}", self.key, self.attempt, self.offer)
    }
}

/// Everything a node is at this moment. Whole each time, so that one beat is enough.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeBeat {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub seq: u64,
    pub agent_version: String,
    /// Why the node takes nothing new, if so (cordoned, quarantined, disk full …).
    pub closed_because: Option<String>,
    pub devices: Vec<DeviceReport>,
    pub running: Vec<RunningReport>,
    /// What ran out of memory here, so that nobody has to find out again.
    #[serde(default)]
    pub ceilings: Vec<Ceiling>,
}

/// Most graphs at once that jobs of one kind may begin with on a model of device: half of what ran out of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceiling {
    pub phase: Phase,
    /// [`shape_of`](crate::job_key::shape_of) the networks.
    pub shape: Digest,
    pub device_model: String,
    pub micro_batch: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceReport {
    pub id: DeviceId,
    pub kind: DeviceKind,
    pub model: String,
    pub total_mib: Mib,
    /// What the ledger may give away at most: total × cap.
    pub budget_mib: Mib,
    pub reserved_mib: Mib,
    /// Used by processes that are none of ours; `None` = can not be told (and then nothing is placed).
    pub foreign_mib: Option<Mib>,
    pub foreign: Vec<ForeignUse>,
    /// Most attempts side by side.
    pub max_jobs: u32,
    pub utilization_percent: Option<u32>,
    /// Why nothing may be placed here, if so (lost GPU, Xid, no driver …).
    pub fault: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    Gpu,
    Cpu,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignUse {
    pub pid: u32,
    pub used_mib: Option<Mib>,
}

/// News of a running attempt, for people; nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunningReport {
    pub job: JobId,
    pub key: JobKey,
    pub attempt: Attempt,
    pub place: Place,
    pub pid: Option<u32>,
    pub stage: Stage,
    /// `gat 3/10`.
    pub progress: Option<String>,
    /// 0 to 1 of the current model's epochs.
    pub fraction: Option<f64>,
    pub loss: Option<f64>,
    pub graphs_per_s: Option<f64>,
    pub eta_ms: Option<u64>,
    pub used_mib: Option<Mib>,
    pub resumed_from_epoch: Option<u32>,
    /// What the attempt can not do at this moment and tries again, if so.
    #[serde(default)]
    pub waits: Option<Waits>,
}

/// Something that an attempt tries again until it works or is given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waits {
    pub what: WaitsFor,
    /// What was said at the last try.
    pub why: String,
    /// Failed tries so far.
    pub tries: u32,
    /// Given up when this time is over.
    #[serde(default)]
    pub left_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitsFor {
    /// Captures, parents' files, the checkpoint to resume from.
    Inputs,
    /// A checkpoint to be stored; training goes on meanwhile.
    Checkpoint,
    /// The finished result to be stored.
    Upload,
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            WaitsFor::Inputs => "inputs",
            WaitsFor::Checkpoint => "checkpoint",
            WaitsFor::Upload => "upload",
        };
        write!(f, "{what} waits: {}, retry {}", self.why, self.tries)?;
        match self.left_ms {
            Some(left_ms) => write!(f, ", given up in {}", Millis(left_ms)),
            None => Ok(()),
        }
    }
}

/// One line of the audit stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: UnixMs,
    pub job: Option<JobId>,
    pub attempt: Option<Attempt>,
    pub node: Option<NodeId>,
    /// `offered`, `leased`, `committed`, `retried`, `failed`, `cancelled`, `node_lost` …
    pub kind: String,
    pub text: String,
    pub traceparent: Option<String>,
}
