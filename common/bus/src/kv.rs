//! Buckets of keys with compare-and-swap: the trait and its values.

use crate::error::Result;
use crate::key::Revision;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::sync::Arc;

/// A value and the revision that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub value: Bytes,
    pub revision: Revision,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KvEvent {
    Put {
        key: String,
        entry: Entry,
    },
    /// The key was deleted; `revision` is that of the deletion.
    Delete {
        key: String,
        revision: Revision,
    },
    /// All that was there when the watch began has been told; what follows is live. Comes exactly once.
    UpToDate,
}

/// Ends only with an error: [`HistoryLost`](crate::BusError::HistoryLost), or what kept the watch from
/// beginning. Dropping it ends the watch.
pub type KvWatch = BoxStream<'static, Result<KvEvent>>;

/// A cheap handle on one bucket.
pub type SharedKv = Arc<dyn Kv>;

/// One bucket. History 1, no expiry. Every call is bounded by the time-out of the connection.
#[async_trait]
pub trait Kv: Send + Sync + 'static {
    /// Name of the bucket.
    fn bucket(&self) -> &str;

    /// When the bucket was made, as its servers tell it. A bucket that was lost and made anew tells another time.
    ///
    /// Errors: `StreamNotFound` while there is none.
    async fn created(&self) -> Result<String>;

    /// The newest value, `None` if never written or deleted. Reads through the leader of the bucket, never a
    /// replica, so that a loop of get and [`update`](Kv::update) is not starved by a stale copy.
    async fn get(&self, key: &str) -> Result<Option<Entry>>;

    /// Writes `key` if it is absent or deleted.
    ///
    /// Errors: `AlreadyExists`; after a time-out a second try may meet the value of the first.
    async fn create(&self, key: &str, value: Bytes) -> Result<Revision>;

    /// Revision of the newest write of the whole bucket, deletions included; 0 in one never written to.
    async fn newest(&self) -> Result<Revision>;

    /// Writes `key` if it is absent and nothing in the bucket was written after `newest`: what was read of
    /// the bucket since [`newest`](Kv::newest) was asked still holds.
    ///
    /// Errors: `AlreadyExists`, `WrongRevision`; after a time-out a second try may meet the value of the
    /// first.
    async fn create_after(&self, key: &str, value: Bytes, newest: Revision) -> Result<Revision>;

    /// Writes `key` if it is still at `expected`.
    ///
    /// Errors: `WrongRevision`; after a time-out a second try may meet the value of the first.
    async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Revision>;

    /// Writes `key` whatever was there.
    async fn put(&self, key: &str, value: Bytes) -> Result<Revision>;

    /// Leaves a delete marker, whose revision is returned; with `expected`, only if the key is still there.
    /// Deleting an absent key without `expected` is no error.
    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<Revision>;

    /// All keys that begin with `prefix` (any string), with their values, sorted by key. Holds every write
    /// that was acknowledged before the call, and each key once.
    async fn list(&self, prefix: Option<&str>) -> Result<Vec<(String, Entry)>>;

    /// The present state of the keys that begin with `prefix`, one `UpToDate`, then every change in order of
    /// revision. Goes on by itself after a lost connection or a restarted server: from the last revision
    /// seen, so several changes of one key in the gap are told as the last one.
    ///
    /// A prefix that ends with a dot is filtered by the server, any other by the client.
    async fn watch(&self, prefix: Option<&str>) -> Result<KvWatch>;
}
