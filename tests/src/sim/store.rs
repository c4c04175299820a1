//! The simulated object store: manifests and checkpoints by attempt; slow, away, or torn uploads.

use common::digest::Digest;
use common::ids::Attempt;
use common::job_key::JobKey;
use common::registry::CommittedRef;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Store {
    pub down_until: u64,
    /// Newest attempt of a key that has left its first object.
    begun: BTreeMap<JobKey, Attempt>,
    markers: BTreeMap<JobKey, CommittedRef>,
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

    /// What a coordinator reads before it offers: the committed result, or the newest attempt that was begun.
    pub fn known(&self, key: &JobKey) -> (Option<&CommittedRef>, Option<Attempt>) {
        (self.markers.get(key), self.begun.get(key).copied())
    }

    pub fn begin(&mut self, key: JobKey, attempt: Attempt) {
        let newest = self.begun.entry(key).or_insert(attempt);
        *newest = attempt.max(*newest);
    }

    pub fn mark(&mut self, committed: &CommittedRef) {
        self.markers.insert(committed.key, committed.clone());
    }

    pub fn put(&mut self, key: JobKey, attempt: Attempt, manifest: Digest, whole: bool) {
        self.manifests.insert((key, attempt), Stored { manifest, whole });
    }

    /// Whether this very manifest is there and all that it names.
    pub fn is_whole(&self, key: &JobKey, attempt: Attempt, manifest: &Digest) -> bool {
        self.manifests.get(&(*key, attempt)).is_some_and(|s| s.whole && s.manifest == *manifest)
    }
}
