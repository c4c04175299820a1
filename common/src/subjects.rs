//! Names on the bus, in one table. Nothing else in the workspace spells them.

use crate::ids::{NodeId, PlanId};
use crate::job_key::JobKey;

pub const BUCKET_PLANS: &str = "plans";
pub const BUCKET_CHAINS: &str = "chains";
pub const BUCKET_SLOTS: &str = "slots";
pub const BUCKET_REGISTRY: &str = "registry";
/// What was decided about nodes.
pub const BUCKET_NODES: &str = "nodes";

/// Stream of offers, one subject a node; old offers are void, so it may forget.
pub const STREAM_JOBS: &str = "jobs";
/// Stream of the audit events.
pub const STREAM_EVENTS: &str = "events";

/// Stream of the trainers' log lines, one subject a job; the archive in the store outlives it.
pub const STREAM_LOGS: &str = "logs";

/// Followed by a node.
pub const SUBJECT_JOBS: &str = "coord.jobs";
/// Followed by a plan.
pub const SUBJECT_EVENTS: &str = "coord.events";

/// Followed by a job key.
pub const SUBJECT_LOGS: &str = "coord.logs";

/// Every beat of every node.
pub const BEATS_ALL: &str = "coord.beats.*";

pub fn jobs_of(node: &NodeId) -> String {
    format!("{SUBJECT_JOBS}.{node}")
}

pub fn beats_of(node: &NodeId) -> String {
    format!("coord.beats.{node}")
}

/// Requests to the agent of this name; it answers with its beat.
pub fn agent_of(node: &NodeId) -> String {
    format!("coord.agents.{node}")
}

/// Log lines of all attempts of a job.
pub fn logs_of(key: &JobKey) -> String {
    format!("{SUBJECT_LOGS}.{key}")
}

/// Events about nodes, which belong to no plan.
pub const EVENTS_NODES: &str = "coord.events.nodes";

pub fn events_of(plan: &PlanId) -> String {
    format!("{SUBJECT_EVENTS}.{plan}")
}
