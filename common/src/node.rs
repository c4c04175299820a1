//! What was decided about a node: bucket `nodes`, key = node, compare-and-swap. Operators write it, and the
//! coordinator when it quarantines. What the node itself tells is in its [beat](crate::messages::NodeBeat).
//!
//! ```text
//!   (no record) = Open --cordon--> Cordoned    Open, Cordoned --drain--> Draining
//!                  ^ `--3 fast failures, or by hand--> Quarantined        |
//!                  `--------------------- uncordon -----------------------'
//! ```

use crate::ids::NodeId;
use crate::units::{Millis, UnixMs};
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    pub node: NodeId,
    pub standing: NodeStanding,
    pub reason: String,
    pub by: DecidedBy,
    pub since: UnixMs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeStanding {
    /// Takes jobs.
    Open,
    /// Takes nothing new; what runs there goes on.
    Cordoned,
    /// Takes nothing new; what runs there is asked to save a checkpoint, and moves to other nodes.
    Draining {
        /// Attempts may end by themselves for so long, counted from when a coordinator first sees this record.
        after_ms: u64,
        /// Then they have so long to save a checkpoint; `None` = as long as the cluster allows any.
        grace_ms: Option<u64>,
    },
    /// Takes nothing new until somebody has looked at it; what runs there goes on.
    Quarantined,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    Operator,
    Coordinator,
}

impl NodeRecord {
    /// Why the node takes nothing new, if so.
    pub fn closed_because(&self) -> Option<String> {
        (self.standing != NodeStanding::Open).then(|| format!("{}: {}", self.standing, self.reason))
    }
}

impl NodeStanding {
    pub fn as_str(&self) -> &'static str {
        match self {
            NodeStanding::Open => "open",
            NodeStanding::Cordoned => "cordoned",
            NodeStanding::Draining { .. } => "draining",
            NodeStanding::Quarantined => "quarantined",
        }
    }

    /// When attempts there are asked to yield, counted from the record's arrival; `None` = never.
    pub fn asks_after(&self) -> Option<Millis> {
        match self {
            NodeStanding::Draining { after_ms, .. } => Some(Millis(*after_ms)),
            NodeStanding::Open | NodeStanding::Cordoned | NodeStanding::Quarantined => None,
        }
    }
}

impl fmt::Display for NodeStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
