//! What the world tells the core, and what the core answers.

use crate::attempt::{FinishedChild, Inputs, Verdict};
use crate::ledger::DeviceFacts;
use crate::state::RunId;
use crate::tries::Problem;
use common::digest::Digest;
use common::ids::Revision;
use common::job_key::JobKey;
use common::messages::JobOffer;
use common::slot::Slot;
use common::trainer_protocol::FromTrainer;
use common::units::{Millis, UnixMs};

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time passed: everything that only waits for a moment happens now.
    Tick,
    /// All slots, listed once when the agent starts.
    SlotsAtStart(Vec<(JobKey, Revision, Slot)>),
    /// An invitation came.
    Offer(Box<JobOffer>),
    SlotRead {
        key: JobKey,
        outcome: ReadOutcome,
    },
    /// `wrote` is what the effect asked for.
    SlotWritten {
        key: JobKey,
        wrote: Box<Slot>,
        outcome: WriteOutcome,
    },
    /// All devices, looked at from `taken_at` on.
    Devices {
        taken_at: Millis,
        devices: Vec<DeviceFacts>,
    },
    /// The devices can not be looked at.
    DevicesUnknown {
        message: String,
    },
    Fetched {
        run: RunId,
        inputs: Inputs,
    },
    FetchFailed {
        run: RunId,
        problem: Problem,
    },
    /// Instead of inputs: an earlier attempt of the same job was finished on this machine, and its files are here.
    FoundFinished {
        run: RunId,
        result: FinishedChild,
    },
    Spawned {
        run: RunId,
        pid: u32,
        /// Wall time of the start, for the manifest.
        at: UnixMs,
        resumed_from_epoch: Option<u32>,
    },
    SpawnFailed {
        run: RunId,
        message: String,
    },
    /// The child said something.
    Frame {
        run: RunId,
        frame: FromTrainer,
    },
    /// The child wrote something that is no frame.
    Garbage {
        run: RunId,
        message: String,
    },
    /// The child was reaped, its pipe is read to the end, and `missing` names the promised files that are not
    /// on disk. Also the answer to [`Effect::Kill`](crate::Effect::Kill) when there never was a child.
    Exited {
        run: RunId,
        exit: ChildExit,
        stderr_tail: String,
        missing: Vec<String>,
    },
    /// The child was asked to stop, or can not be asked any more.
    StopAsked {
        run: RunId,
    },
    CheckpointStored {
        run: RunId,
        seq: u32,
    },
    CheckpointFailed {
        run: RunId,
        seq: u32,
        problem: Problem,
    },
    ResultStored {
        run: RunId,
        manifest: Digest,
    },
    ResultFailed {
        run: RunId,
        problem: Problem,
    },
    Cleaned {
        run: RunId,
    },
    /// Take nothing new (or again, with `None`).
    Cordon(Option<String>),
    /// End: let children save a checkpoint first.
    Shutdown,
    /// End at once.
    ShutdownNow,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOutcome {
    Found {
        revision: Revision,
        slot: Box<Slot>,
    },
    Absent,
    /// The bus did not answer.
    Unavailable {
        message: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOutcome {
    Written {
        revision: Revision,
    },
    /// Somebody wrote since the named revision.
    Conflict,
    /// No answer: it may have been written or not.
    Unavailable {
        message: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildExit {
    Code(i32),
    Signal(i32),
    NeverStarted,
}

impl std::fmt::Display for ChildExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ChildExit::Code(code) => write!(f, "exit code {code}"),
            ChildExit::Signal(signal) => write!(f, "signal {signal}"),
            ChildExit::NeverStarted => write!(f, "never started"),
        }
    }
}

/// What an event changed that people want to read about. Nothing is decided by it.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Declined {
        run: RunId,
        reason: String,
    },
    /// The offer led to nothing: old, taken, or the bus stayed away.
    Dropped {
        run: RunId,
        why: String,
    },
    Took {
        run: RunId,
    },
    ChildStarted {
        run: RunId,
        pid: u32,
    },
    ChildEnded {
        run: RunId,
        exit: ChildExit,
    },
    /// Nothing is trained: the files of an earlier attempt are stored.
    FoundFinished {
        run: RunId,
    },
    Stopping {
        run: RunId,
        why: String,
    },
    Fenced {
        run: RunId,
        by: String,
    },
    Ended {
        run: RunId,
        verdict: Verdict,
    },
    /// The slot knows the verdict.
    Told {
        run: RunId,
    },
    Gone {
        run: RunId,
    },
    OrphanFound {
        key: JobKey,
    },
    Trouble {
        run: RunId,
        message: String,
    },
}

/// News of one event, oldest first; empty when nothing worth telling changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changed(pub Vec<Change>);

impl Changed {
    pub(crate) fn nothing() -> Changed {
        Changed::default()
    }

    pub(crate) fn one(change: Change) -> Changed {
        Changed(vec![change])
    }

    pub(crate) fn add(&mut self, other: Changed) {
        self.0.extend(other.0);
    }
}

/// A fact that does not fit what is known. The state is as it was; late and doubled messages end here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0} is not at hand here")]
    UnknownRun(RunId),
    #[error("{run} is not waiting for {what}")]
    OutOfTurn { run: RunId, what: &'static str },
    #[error("the offer of {0} is for another node")]
    NotForUs(RunId),
    #[error("the offer of {0} is known already")]
    KnownOffer(RunId),
    #[error("{at_hand} attempts are at hand, no more are looked at")]
    TooMany { at_hand: usize },
    #[error("no attempt here waits for the slot {0}")]
    NobodyWaits(JobKey),
}
