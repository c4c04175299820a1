//! The manifest of an attempt: written last, so its existence says that everything it names is whole.

use crate::digest::Digest;
use crate::ids::{Attempt, JobId, NodeId};
use crate::job_key::{JobInputs, JobKey};
use crate::units::{Mib, UnixMs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the manifest's object below the attempt's folder.
pub const MANIFEST_NAME: &str = "manifest.json";

/// Entry of [`MadeBy::tuning_used`]: most graphs at once that were left after the device ran out of memory; not
/// there when it did not.
pub const CEILING_USED: &str = "micro_batch_ceiling";

/// Object that names the committed attempt, written after the commit; for rebuilding only.
pub const COMMITTED_MARKER: &str = "committed";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema: u32,
    pub job: JobId,
    pub key: JobKey,
    pub attempt: Attempt,
    pub inputs: JobInputs,
    pub files: Vec<FileEntry>,
    /// Flat figures of the report: `gat.test_01….f1` and the like.
    pub metrics: BTreeMap<String, f64>,
    pub made: MadeBy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Below the attempt's folder, no leading slash.
    pub name: String,
    pub bytes: u64,
    pub sha256: Digest,
}

/// How it came about; nothing of this is part of the job key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MadeBy {
    pub node: NodeId,
    pub device_model: String,
    pub agent_version: String,
    pub started: UnixMs,
    pub duration_ms: u64,
    pub peak_memory_mib: Option<Mib>,
    /// Micro-batch, precision, threads and the like as really used.
    pub tuning_used: BTreeMap<String, String>,
}

impl Manifest {
    pub const SCHEMA: u32 = 1;

    /// The bytes that are stored and digested. JSON, so that a person can read a result's folder.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(self)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
