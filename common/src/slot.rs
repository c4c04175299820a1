//! The slot of a job: who may run it now. Bucket `slots`, key = job key, changed by compare-and-swap only.
//!
//! ```text
//!             coordinator                agent: takes it           agent: every third of the lease
//!   (none) ---------------> Offered ---------------------> Held --------------------> Held (beat + 1)
//!                           |  ^  \                         |  \     (coordinator: Held with `yields`)
//!           agent: no room  |  |   \ coordinator: lease ran |   \ agent: ended
//!                           v  |    \ out, cancelled        |    v
//!                        Declined    `------> Closed <------'    Finished | Failed | Yielded
//!                                               |                       |
//!                                               `--- next attempt: Offered (coordinator) ---'
//! ```
//!
//! One slot per job, not one per attempt. Every write names the attempt it belongs to; both sides read
//! before they write and write against the revision they read. A holder that finds its slot changed by
//! somebody else has been fenced: it stops its child and frees the memory.

use crate::digest::Digest;
use crate::ids::{Attempt, DeviceId, Incarnation, JobId, NodeId};
use crate::trainer_protocol::Stage;
use crate::units::Mib;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    pub job: JobId,
    pub attempt: Attempt,
    /// Counts the offers of this attempt; a message that names an older one is void.
    pub offer: u32,
    pub state: SlotState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// Coordinator: this node may take it.
    Offered { place: Place },
    /// Agent: can not take it now.
    Declined { place: Place, reason: String },
    /// Agent: it runs here. A raised `beat` renews the lease.
    Held {
        place: Place,
        incarnation: Incarnation,
        beat: u64,
        stage: Stage,
        /// Coordinator: make way. The holder keeps it in its renewals.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        yields: Option<Yield>,
        /// A whole checkpoint of this attempt lies in the store.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        checkpointed: bool,
    },
    /// Agent: all files are in the store, the manifest was written last. A claim until it is verified.
    Finished { place: Place, manifest: Digest, duration_ms: u64 },
    /// Agent: this attempt is over without a result.
    Failed { place: Place, failure: Failure },
    /// Coordinator: nobody may run this attempt any more.
    Closed { because: String },
}

/// A request to save a checkpoint and give the device back: a drain, a pause, or a job of higher priority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yield {
    pub because: String,
    /// From when the holder reads it until its child is killed.
    pub grace_ms: u64,
}

/// Where an attempt runs and what it may use there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub node: NodeId,
    pub device: DeviceId,
    pub reserve_mib: Mib,
}

/// Why an attempt ended without a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub cause: Cause,
    pub message: String,
    /// A whole checkpoint of this attempt lies in the store.
    pub checkpointed: bool,
    /// How long its trainer ran; `None` = none was started, so it says nothing about the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_ms: Option<u64>,
}

impl Failure {
    pub fn new(cause: Cause, message: impl Into<String>) -> Failure {
        Failure { cause, message: message.into(), checkpointed: false, trained_ms: None }
    }
}

/// Whose fault it was; each has its own retry budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", from = "String")]
pub enum Cause {
    /// Machine, network, driver, disk, store, a killed process, a lease that ran out.
    Infrastructure,
    /// It had to yield: a drain or a job of higher priority.
    Preemption,
    OutOfMemory,
    /// NaN or infinite loss.
    Diverged,
    /// Captures or configuration can not be used; trying again will not help.
    UserError,
    /// The store refused the finished result (access, read-only, full) until the agent gave up. The files are kept
    /// on the node, and a later run goes on with them.
    Store,
}

/// A record with a cause that only a newer version knows stays readable.
impl From<String> for Cause {
    fn from(name: String) -> Cause {
        match name.as_str() {
            "preemption" => Cause::Preemption,
            "out_of_memory" => Cause::OutOfMemory,
            "diverged" => Cause::Diverged,
            "user_error" => Cause::UserError,
            "store" => Cause::Store,
            _ => Cause::Infrastructure,
        }
    }
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Infrastructure => "infrastructure",
            Cause::Preemption => "preemption",
            Cause::OutOfMemory => "out of memory",
            Cause::Diverged => "diverged",
            Cause::UserError => "user error",
            Cause::Store => "store",
        }
    }
}

impl SlotState {
    /// Held, with nothing asked of the holder and no checkpoint stored yet.
    pub fn held(place: Place, incarnation: Incarnation, beat: u64, stage: Stage) -> SlotState {
        SlotState::Held { place, incarnation, beat, stage, yields: None, checkpointed: false }
    }

    pub fn place(&self) -> Option<&Place> {
        match self {
            SlotState::Offered { place }
            | SlotState::Declined { place, .. }
            | SlotState::Held { place, .. }
            | SlotState::Finished { place, .. }
            | SlotState::Failed { place, .. } => Some(place),
            SlotState::Closed { .. } => None,
        }
    }

    /// The memory this state keeps from others.
    pub fn reserved(&self) -> Option<&Place> {
        match self {
            SlotState::Offered { place } | SlotState::Held { place, .. } => Some(place),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn causes_are_told_by_name_and_a_newer_one_is_readable() {
        for cause in [
            Cause::Infrastructure,
            Cause::Preemption,
            Cause::OutOfMemory,
            Cause::Diverged,
            Cause::UserError,
            Cause::Store,
        ] {
            assert_eq!(wire::decode::<Cause>(&wire::encode(&cause).unwrap()).unwrap(), cause);
        }
        let newer = wire::encode(&"sunspots").unwrap();
        assert_eq!(wire::decode::<Cause>(&newer).unwrap(), Cause::Infrastructure);
    }
}
