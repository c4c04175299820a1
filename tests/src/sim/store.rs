//! The simulated object store: manifests and checkpoints by attempt; slow, away, or torn uploads.

use common::digest::Digest;
use common::ids::Attempt;
use common::job_key::JobKey;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Store {
    pub down_until: u64,
    manifests: BTreeMap<(JobKey, Attempt), Stored>,
    /// Epoch of the newest whole checkpoint of a key.
    pub checkpoints: BTreeMap<JobKey, u32>,
}

#[derive(Debug, Clone, Copy)]
struct Stored {
    manifest: Digest,
    /// Every object that the manifest names is there in full.
    whole: bool,
}

impl Store {
    pub fn is_up(&self, now: u64) -> bool {
        now >= self.down_until
    }

    pub fn put(&mut self, key: JobKey, attempt: Attempt, manifest: Digest, whole: bool) {
        self.manifests.insert((key, attempt), Stored { manifest, whole });
    }

    /// Whether this very manifest is there and all that it names.
    pub fn is_whole(&self, key: &JobKey, attempt: Attempt, manifest: &Digest) -> bool {
        self.manifests.get(&(*key, attempt)).is_some_and(|s| s.whole && s.manifest == *manifest)
    }
}
