//! Names and time limits of this agent. The shell fills them from the configuration.

use common::ids::{Incarnation, NodeId, Phase};
use common::units::Millis;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub node: NodeId,
    /// This life of the agent; another one for each start.
    pub incarnation: Incarnation,
    pub agent_version: String,
    /// Between two renewals of a held slot whose offer told no lease: a third of our own.
    pub renew_every: Millis,
    /// Before a call that failed is tried again.
    pub retry_after: Millis,
    /// An offer that could neither be taken nor declined for so long is dropped; the coordinator repeats it.
    pub take_timeout: Millis,
    /// Captures, parents' files and the checkpoint to resume from must be here within this time.
    pub fetch_timeout: Millis,
    /// A result that can not be uploaded for so long is given up.
    pub upload_timeout: Millis,
    /// The same, when the store refuses it rather than being away.
    pub refused_timeout: Millis,
    /// Time for the last checkpoint of an attempt that failed.
    pub save_timeout: Millis,
    /// From the child's start to its first word.
    pub start_timeout: Millis,
    /// A training whose rate stays below so many percent of its own median ...
    pub stall_percent: u32,
    /// ... for so long is hung; 0 = never.
    pub stall_for: Millis,
    /// Time a trainer has to save a checkpoint when asked to stop.
    pub stop_grace: Millis,
    pub limits: BTreeMap<Phase, PhaseLimits>,
    /// More attempts than this at once (in any state) are not looked at.
    pub runs_max: usize,
}

/// Time limits of one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhaseLimits {
    /// Without any frame from a training or evaluating child.
    pub no_progress: Millis,
    /// The same while it starts and prepares graphs, which may say nothing for long.
    pub no_progress_preparing: Millis,
    /// From the child's start to its end.
    pub total: Millis,
}

impl Default for PhaseLimits {
    fn default() -> Self {
        PhaseLimits {
            no_progress: Millis::from_secs(30 * 60),
            no_progress_preparing: Millis::from_secs(120 * 60),
            total: Millis::from_secs(24 * 3600),
        }
    }
}

impl Options {
    /// Limits for a lease of 30 s.
    pub fn new(node: NodeId, incarnation: Incarnation) -> Options {
        Options {
            node,
            incarnation,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            renew_every: Millis::from_secs(10),
            retry_after: Millis::from_secs(1),
            take_timeout: Millis::from_secs(30),
            fetch_timeout: Millis::from_secs(3600),
            upload_timeout: Millis::from_secs(6 * 3600),
            refused_timeout: Millis::from_secs(180),
            save_timeout: Millis::from_secs(120),
            start_timeout: Millis::from_secs(600),
            stall_percent: 20,
            stall_for: Millis::from_secs(600),
            stop_grace: Millis::from_secs(20),
            limits: BTreeMap::new(),
            runs_max: 1024,
        }
    }

    pub fn limits_of(&self, phase: Phase) -> PhaseLimits {
        self.limits.get(&phase).copied().unwrap_or_default()
    }
}
