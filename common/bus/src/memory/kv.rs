//! Buckets in memory.

use super::{Shared, check_size};
use crate::error::{BusError, Result};
use crate::headers::Headers;
use crate::key::{Revision, check_key};
use crate::kv::{Entry, Kv, KvEvent, KvWatch};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

/// One bucket. A deleted key stays as a marker with a revision, as on the real bus.
#[derive(Default)]
pub(super) struct Bucket {
    last: u64,
    /// `None` = delete marker.
    keys: BTreeMap<String, (Revision, Option<Bytes>)>,
    by_revision: BTreeMap<Revision, String>,
}

impl Bucket {
    fn write(&mut self, key: &str, value: Option<Bytes>) -> Revision {
        self.last += 1;
        let revision = Revision(self.last);
        if let Some((old, _)) = self.keys.insert(key.to_owned(), (revision, value)) {
            self.by_revision.remove(&old);
        }
        self.by_revision.insert(revision, key.to_owned());
        revision
    }

    fn entry(&self, key: &str) -> Option<Entry> {
        let (revision, value) = self.keys.get(key)?;
        Some(Entry { value: value.clone()?, revision: *revision })
    }

    /// Revision of the last write, deletions included.
    fn revision_of(&self, key: &str) -> Option<Revision> {
        self.keys.get(key).map(|(revision, _)| *revision)
    }

    /// What happened after `seen` and still shows, in order.
    fn since(&self, seen: Revision, prefix: &str) -> Vec<KvEvent> {
        let later = self.by_revision.range(Revision(seen.0 + 1)..);
        let wanted = later.filter(|(_, key)| key.starts_with(prefix));
        wanted
            .filter_map(|(revision, key)| {
                let key = key.clone();
                match &self.keys.get(&key)?.1 {
                    Some(value) => {
                        let entry = Entry { value: value.clone(), revision: *revision };
                        Some(KvEvent::Put { key, entry })
                    }
                    None => Some(KvEvent::Delete { key, revision: *revision }),
                }
            })
            .collect()
    }
}

pub(super) struct MemoryKv {
    shared: Arc<Shared>,
    bucket: String,
}

impl MemoryKv {
    pub(super) fn new(shared: Arc<Shared>, bucket: &str) -> Self {
        Self { shared, bucket: bucket.to_owned() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Bucket) -> Result<T>) -> Result<T> {
        let mut state = self.shared.lock();
        let bucket = state.buckets.get_mut(&self.bucket);
        act(bucket.ok_or_else(|| BusError::StreamNotFound { stream: format!("KV_{}", self.bucket) })?)
    }

    fn write(
        &self,
        key: &str,
        value: Option<Bytes>,
        check: impl FnOnce(&Bucket) -> Result<()>,
    ) -> Result<Revision> {
        check_key(key)?;
        check_size(&Headers::new(), value.as_ref().unwrap_or(&Bytes::new()))?;
        let revision = self.with(|bucket| {
            check(bucket)?;
            Ok(bucket.write(key, value))
        })?;
        self.shared.notify();
        Ok(revision)
    }

    fn expect(&self, bucket: &Bucket, key: &str, expected: Revision) -> Result<()> {
        if bucket.revision_of(key).unwrap_or(Revision(0)) == expected {
            return Ok(());
        }
        Err(BusError::WrongRevision { bucket: self.bucket.clone(), key: key.to_owned(), expected })
    }
}

#[async_trait]
impl Kv for MemoryKv {
    fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Always the same: memory loses nothing while the process lives.
    async fn created(&self) -> Result<String> {
        self.with(|_| Ok("memory".to_owned()))
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        check_key(key)?;
        self.with(|bucket| Ok(bucket.entry(key)))
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<Revision> {
        self.write(key, Some(value), |bucket| match bucket.entry(key) {
            Some(_) => Err(BusError::AlreadyExists { bucket: self.bucket.clone(), key: key.to_owned() }),
            None => Ok(()),
        })
    }

    async fn newest(&self) -> Result<Revision> {
        self.with(|bucket| Ok(Revision(bucket.last)))
    }

    async fn create_after(&self, key: &str, value: Bytes, newest: Revision) -> Result<Revision> {
        self.write(key, Some(value), |bucket| {
            let (name, key) = (self.bucket.clone(), key.to_owned());
            match bucket.entry(&key) {
                Some(_) => Err(BusError::AlreadyExists { bucket: name, key }),
                None if bucket.last == newest.0 => Ok(()),
                None => Err(BusError::WrongRevision { bucket: name, key, expected: newest }),
            }
        })
    }

    async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Revision> {
        self.write(key, Some(value), |bucket| self.expect(bucket, key, expected))
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<Revision> {
        self.write(key, Some(value), |_| Ok(()))
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<Revision> {
        self.write(key, None, |bucket| match expected {
            Some(expected) => self.expect(bucket, key, expected),
            None => Ok(()),
        })
    }

    async fn list(&self, prefix: Option<&str>) -> Result<Vec<(String, Entry)>> {
        let prefix = prefix.unwrap_or_default();
        self.with(|bucket| {
            let keys = bucket.keys.keys().filter(|key| key.starts_with(prefix));
            Ok(keys.filter_map(|key| Some((key.clone(), bucket.entry(key)?))).collect())
        })
    }

    async fn watch(&self, prefix: Option<&str>) -> Result<KvWatch> {
        // Subscribed before the state is read, so that no change falls between.
        let changed = self.shared.changed.subscribe();
        let mut watcher = Watcher {
            shared: self.shared.clone(),
            bucket: self.bucket.clone(),
            prefix: prefix.unwrap_or_default().to_owned(),
            changed,
            seen: Revision(0),
            ready: VecDeque::new(),
        };
        self.with(|bucket| {
            watcher.take_from(bucket);
            Ok(())
        })?;
        // What is deleted already is not part of the present state.
        watcher.ready.retain(|event| !matches!(event, KvEvent::Delete { .. }));
        watcher.ready.push_back(KvEvent::UpToDate);
        let next = |mut watcher: Watcher| async move {
            let event = watcher.next().await?;
            Some((Ok(event), watcher))
        };
        Ok(futures::stream::unfold(watcher, next).boxed())
    }
}

struct Watcher {
    shared: Arc<Shared>,
    bucket: String,
    prefix: String,
    changed: watch::Receiver<u64>,
    seen: Revision,
    ready: VecDeque<KvEvent>,
}

impl Watcher {
    fn take_from(&mut self, bucket: &Bucket) {
        self.ready.extend(bucket.since(self.seen, &self.prefix));
        self.seen = Revision(bucket.last);
    }

    async fn next(&mut self) -> Option<KvEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            self.changed.changed().await.ok()?;
            let shared = self.shared.clone();
            let state = shared.lock();
            self.take_from(state.buckets.get(&self.bucket)?);
        }
    }
}
