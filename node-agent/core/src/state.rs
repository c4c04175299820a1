//! Everything an agent knows.

use crate::attempt::Run;
use crate::ceilings::Ceilings;
use crate::ledger::Ledger;
use crate::options::Options;
use common::ids::{Attempt, Revision};
use common::job_key::JobKey;
use common::slot::Slot;
use common::units::Millis;
use std::collections::BTreeMap;
use std::fmt;

/// One execution of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    pub key: JobKey,
    pub attempt: Attempt,
}

impl RunId {
    /// Whether a slot record speaks of this very attempt.
    pub fn is_of(&self, key: &JobKey, slot: &Slot) -> bool {
        self.key == *key && self.attempt == slot.attempt
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.key.0.short(), self.attempt)
    }
}

/// Whether the agent takes new work.
///
/// ```text
///   Open <---cordon, uncordon---> Closed
///     `----------.   .-------------'
///                v   v
///              Stopping{until} --second signal, or time is over--> Stopping{until: now}
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    Open,
    /// What runs goes on; nothing new is taken.
    Closed {
        because: String,
    },
    /// The process ends as soon as no run is left; children still alive at `until` are killed.
    Stopping {
        until: Millis,
    },
}

/// A slot that an earlier life of this agent held: its child is dead, nobody has said so yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    pub revision: Revision,
    pub slot: Slot,
    pub retry_at: Millis,
}

#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub options: Options,
    pub mode: Mode,
    pub ledger: Ledger,
    pub runs: BTreeMap<RunId, Run>,
    pub orphans: BTreeMap<JobKey, Orphan>,
    pub ceilings: Ceilings,
}

impl State {
    pub fn new(options: Options) -> State {
        State {
            options,
            mode: Mode::Open,
            ledger: Ledger::default(),
            runs: BTreeMap::new(),
            orphans: BTreeMap::new(),
            ceilings: Ceilings::default(),
        }
    }

    /// Stopping, and nothing is left to be brought to an end.
    pub fn is_finished(&self) -> bool {
        matches!(self.mode, Mode::Stopping { .. }) && self.runs.is_empty()
    }

    /// Why nothing new is taken, if so.
    pub fn closed_because(&self) -> Option<String> {
        match &self.mode {
            Mode::Open => None,
            Mode::Closed { because } => Some(because.clone()),
            Mode::Stopping { .. } => Some("the agent is stopping".to_owned()),
        }
    }
}
