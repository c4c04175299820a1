//! The way of one attempt on this node.

use crate::options::Options;
use crate::pace::Pace;
use crate::state::RunId;
use crate::tries::Tries;
use common::digest::Digest;
use common::ids::{Phase, Revision};
use common::messages::JobOffer;
use common::slot::{Failure, Yield};
use common::trainer_protocol::{Done, EpochReport, FailureKind, Stage};
use common::units::{Mib, Millis, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// One attempt from the offer until nothing of it is left here.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub id: RunId,
    pub offer: JobOffer,
    /// When the offer came.
    pub since: Millis,
    pub state: AttemptState,
}

impl Run {
    /// Takes the state out, to put another in.
    pub(crate) fn take_state(&mut self) -> AttemptState {
        std::mem::replace(&mut self.state, AttemptState::Cleaning { keep: true })
    }

    /// Between two renewals: a third of the lease of whoever made the offer. Two configurations may differ, and
    /// its clock is the one that ends attempts.
    pub fn renew_every(&self, options: &Options) -> Millis {
        match self.offer.lease_ms {
            0 => options.renew_every,
            lease_ms => Millis((lease_ms / 3).max(1)),
        }
    }
}

/// Where an attempt stands.
///
/// ```text
///   offer --> Taking --declined, void, dropped--------------------------------------.
///               | slot is ours                                                      |
///               v                                                                   |
///            Fetching --inputs missing----------------------------.                 |
///               |  `--finished files of an earlier attempt--> Uploading             |
///               v                                                 |                 |
///            Starting --no child----------------------------------|                 |
///               v                                                 |                 |
///            Running --Done, exit 0, files there--> Uploading --. |                 |
///               |  `---any other end--> Saving (last checkpoint) -+-> Closing ------|
///               |                        ^                                          v
///               `--hang, shutdown--> Stopping --.                                  gone
///                                        |      `--fenced: child gone--> Cleaning --^
///   from every state with a claim: slot lost = fenced --> Stopping (child alive) or Cleaning
/// ```
/// `Closing` ends in `Cleaning` too: gone means that the scratch folder is deleted.
#[derive(Debug, Clone, PartialEq)]
pub enum AttemptState {
    Taking(Take),
    Fetching {
        claim: Claim,
        since: Millis,
        tries: Tries,
    },
    /// A child was asked for.
    Starting {
        claim: Claim,
        inputs: Inputs,
    },
    Running {
        claim: Claim,
        child: Child,
        saves: Saves,
    },
    /// The child is being ended. No claim = fenced: nothing of it is kept.
    Stopping {
        claim: Option<Claim>,
        child: Option<Child>,
        saves: Saves,
        why: StopWhy,
        /// The child got its `Stop` frame (or is not to get one).
        asked: bool,
        kill_at: Millis,
    },
    /// The child is gone without a result; its newest checkpoint goes to the store first.
    Saving {
        claim: Claim,
        saves: Saves,
        failure: Failure,
        until: Millis,
    },
    Uploading {
        claim: Claim,
        result: FinishedChild,
        saves: Saves,
        since: Millis,
        tries: Tries,
    },
    /// The last write of the slot.
    Closing {
        claim: Claim,
        verdict: Verdict,
    },
    /// The scratch folder is being deleted; with `keep`, all but a finished result that nobody has.
    Cleaning {
        keep: bool,
    },
}

/// How far taking a slot got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Take {
    /// The slot is to be read. With `reserved`, a write was sent whose outcome is unknown.
    Read {
        retry_at: Millis,
        reserved: bool,
    },
    /// Memory is reserved; the slot is to be written.
    Hold {
        revision: Revision,
    },
    Decline {
        revision: Revision,
        reason: String,
        retry_at: Millis,
    },
}

/// Our right to run, as far as we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Of our last write; `ABSENT` when the bus has lost the slot and it is to be written anew.
    pub revision: Revision,
    pub beat: u64,
    /// When the slot is written next.
    pub write_at: Millis,
    /// Set when a write was refused: the slot is read to see whose it is.
    pub read_at: Option<Millis>,
    pub held_since: Millis,
    /// The coordinator has asked for the device back.
    pub yields: Option<Yield>,
}

/// What the child needs, on this machine's disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inputs {
    pub captures_dir: PathBuf,
    pub parents: BTreeMap<Phase, PathBuf>,
    pub resume_from: Option<PathBuf>,
    pub resumed_from_epoch: Option<u32>,
}

/// The trainer process, as far as it has spoken.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    pub pid: u32,
    pub started: Millis,
    pub started_at: UnixMs,
    pub last_frame: Millis,
    /// It has said its first word.
    pub ready: bool,
    pub pace: Pace,
    pub stage: Stage,
    pub progress: Option<EpochReport>,
    pub used_mib: Option<Mib>,
    pub resumed_from_epoch: Option<u32>,
    /// What it said of its end. The exit code decides; this explains.
    pub last_word: Option<LastWord>,
    /// Message of the newest `OutOfMemory` frame that it did not recover from.
    pub out_of_memory: Option<String>,
    /// Most graphs at once that were left after it ran out of memory.
    pub ceiling: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum LastWord {
    Done(Done),
    Failed { kind: FailureKind, message: String },
    Yielded,
}

/// Checkpoints of this attempt: on the disk, and in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saves {
    pub local: Option<LocalCheckpoint>,
    /// Number of the newest one that is whole in the store.
    pub stored: Option<u32>,
    pub tries: Tries,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalCheckpoint {
    /// Counted from 1 within the attempt.
    pub seq: u32,
    pub dir: PathBuf,
    pub model: String,
    pub epoch: u32,
}

impl Saves {
    /// The checkpoint that the store does not have yet.
    pub fn unsaved(&self) -> Option<&LocalCheckpoint> {
        self.local.as_ref().filter(|c| self.stored.is_none_or(|stored| stored < c.seq))
    }
}

/// A child that ended well: all that its manifest is made from, so that each try makes the same one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinishedChild {
    pub done: Done,
    pub started: UnixMs,
    pub duration_ms: u64,
    pub device_model: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopWhy {
    /// The slot belongs to somebody else now.
    Fenced { by: String },
    /// The watchdog.
    Stuck { message: String },
    /// The child broke the protocol.
    Foreign { message: String },
    /// The agent ends.
    Shutdown,
    /// The coordinator asked for the device.
    Asked { because: String },
}

impl fmt::Display for StopWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopWhy::Fenced { by } => write!(f, "the slot is not ours any more: {by}"),
            StopWhy::Stuck { message } | StopWhy::Foreign { message } => f.write_str(message),
            StopWhy::Shutdown => f.write_str("the agent is stopping"),
            StopWhy::Asked { because } => write!(f, "asked to yield: {because}"),
        }
    }
}

/// What the slot is told at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Finished { manifest: Digest, duration_ms: u64 },
    Failed(Failure),
}

impl AttemptState {
    pub fn claim(&self) -> Option<&Claim> {
        use AttemptState::*;
        match self {
            Fetching { claim, .. }
            | Starting { claim, .. }
            | Running { claim, .. }
            | Saving { claim, .. }
            | Uploading { claim, .. }
            | Closing { claim, .. } => Some(claim),
            Stopping { claim, .. } => claim.as_ref(),
            Taking(_) | Cleaning { .. } => None,
        }
    }

    pub fn claim_mut(&mut self) -> Option<&mut Claim> {
        use AttemptState::*;
        match self {
            Fetching { claim, .. }
            | Starting { claim, .. }
            | Running { claim, .. }
            | Saving { claim, .. }
            | Uploading { claim, .. }
            | Closing { claim, .. } => Some(claim),
            Stopping { claim, .. } => claim.as_mut(),
            Taking(_) | Cleaning { .. } => None,
        }
    }

    pub fn child(&self) -> Option<&Child> {
        match self {
            AttemptState::Running { child, .. } => Some(child),
            AttemptState::Stopping { child, .. } => child.as_ref(),
            _ => None,
        }
    }

    pub fn child_mut(&mut self) -> Option<&mut Child> {
        match self {
            AttemptState::Running { child, .. } => Some(child),
            AttemptState::Stopping { child, .. } => child.as_mut(),
            _ => None,
        }
    }

    pub fn saves_mut(&mut self) -> Option<&mut Saves> {
        match self {
            AttemptState::Running { saves, .. }
            | AttemptState::Stopping { saves, .. }
            | AttemptState::Saving { saves, .. }
            | AttemptState::Uploading { saves, .. } => Some(saves),
            _ => None,
        }
    }

    pub fn saves(&self) -> Option<&Saves> {
        match self {
            AttemptState::Running { saves, .. }
            | AttemptState::Stopping { saves, .. }
            | AttemptState::Saving { saves, .. }
            | AttemptState::Uploading { saves, .. } => Some(saves),
            _ => None,
        }
    }

    /// The stage told in the slot and in beats.
    pub fn stage(&self) -> Stage {
        use AttemptState::*;
        match self {
            Taking(_) | Fetching { .. } | Starting { .. } => Stage::Fetching,
            Running { child, .. } => child.stage,
            Stopping { child, .. } => child.as_ref().map_or(Stage::Fetching, |c| c.stage),
            Saving { .. } | Uploading { .. } | Closing { .. } | Cleaning { .. } => Stage::Uploading,
        }
    }
}
