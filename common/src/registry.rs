//! Which committed result is in use: bucket `registry`, key = dataset.role.

use crate::digest::Digest;
use crate::ids::{Attempt, JobName, PlanId};
use crate::job_key::{JobInputs, JobKey};
use crate::units::UnixMs;
use serde::{Deserialize, Serialize};

/// Names one committed result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedRef {
    pub key: JobKey,
    pub attempt: Attempt,
    /// Digest of the manifest, which names every file with its digest.
    pub manifest: Digest,
}

impl CommittedRef {
    /// Folder of the result's files in the store.
    pub fn prefix(&self) -> String {
        attempt_prefix(&self.key, self.attempt)
    }
}

/// Folder of one attempt's files in the store: attempt-scoped, so a plain put never overwrites another's.
pub fn attempt_prefix(key: &JobKey, attempt: Attempt) -> String {
    format!("{}/{attempt}", key.run_prefix())
}

/// The version of one dataset's phase that is in use, with what it was made from: the planner compares
/// against this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegistryEntry {
    pub name: JobName,
    pub committed: CommittedRef,
    pub inputs: JobInputs,
    /// Plan that made it the one in use; a later plan's result replaces an earlier one's, never the other
    /// way round.
    pub plan: PlanId,
    pub plan_created: UnixMs,
    pub duration_ms: u64,
}

/// Key in the bucket `registry`.
pub fn registry_key(name: &JobName) -> String {
    format!("{}.{}", name.dataset, name.phase)
}
