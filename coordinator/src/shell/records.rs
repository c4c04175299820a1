//! The records of one bucket, as values. Bytes and revisions of the bus go in and out here alone.

use bus::{BusError, Entry, SharedKv};
use bytes::Bytes;
use common::ids::{BadName, Revision};
use common::wire::{self, WireError};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// Between two tries of something that a passing trouble of the bus kept from being done.
const RETRY_PAUSE: Duration = Duration::from_millis(300);

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("bucket {bucket}, key {key}: {source}")]
    Record { bucket: String, key: String, source: WireError },
    #[error("record can not be written: {0}")]
    Encode(#[from] WireError),
    #[error(transparent)]
    Name(#[from] BadName),
}

/// A record with the revision it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct At<T> {
    pub value: T,
    pub revision: Revision,
}

/// What came of a write that may lose a race.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    Yes(Revision),
    /// Somebody else was first: read again, think again. After a trouble of the bus that somebody may have
    /// been ourselves.
    Lost,
}

/// What a write rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The key is not there.
    Nothing,
    /// The key is not there, and nothing in the bucket was written after this.
    NothingSince(Revision),
    /// The record as it was at this revision.
    Revision(Revision),
}

/// For how long a passing trouble of the bus (a restart, an election) is waited out.
#[derive(Debug, Clone, Copy)]
pub struct Patience(pub Duration);

impl Patience {
    /// The caller decides again anyway.
    pub const NONE: Patience = Patience(Duration::ZERO);

    /// Looks until there is an answer, it fails for good, or the patience is at its end. A bucket that is not
    /// there is an answer, which the bus has taken its own time for.
    pub async fn with<T, F>(self, look: impl Fn() -> F) -> Result<T, BusError>
    where
        F: Future<Output = Result<T, BusError>>,
    {
        let passes = |e: &BusError| e.is_transient() && !matches!(e, BusError::StreamNotFound { .. });
        self.through(passes, look).await
    }

    /// The same for a write to a bucket that was seen: one that no stream takes now has no leader for the
    /// moment.
    pub async fn with_write<T, F>(self, write: impl Fn() -> F) -> Result<T, BusError>
    where
        F: Future<Output = Result<T, BusError>>,
    {
        self.through(BusError::is_transient, write).await
    }

    async fn through<T, F>(
        self,
        passes: impl Fn(&BusError) -> bool,
        what: impl Fn() -> F,
    ) -> Result<T, BusError>
    where
        F: Future<Output = Result<T, BusError>>,
    {
        let deadline = Instant::now() + self.0;
        let mut told = false;
        loop {
            match what().await {
                Err(e) if passes(&e) && Instant::now() < deadline => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(error = %e, for_s = self.0.as_secs(), "the bus is away: trying again");
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                other => return other,
            }
        }
    }
}

/// One bucket and what its values are.
pub struct Records<T> {
    pub kv: SharedKv,
    patience: Patience,
    of: PhantomData<fn() -> T>,
}

// By hand: a handle is cheap whatever the records are.
impl<T> Clone for Records<T> {
    fn clone(&self) -> Self {
        Records { kv: self.kv.clone(), patience: self.patience, of: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> Records<T> {
    pub fn new(kv: SharedKv, patience: Patience) -> Records<T> {
        Records { kv, patience, of: PhantomData }
    }

    pub async fn get(&self, key: &str) -> Result<Option<At<T>>, ClientError> {
        let found = self.patience.with(|| self.kv.get(key)).await?;
        found.map(|entry| self.decode(key, &entry)).transpose()
    }

    pub async fn list(&self) -> Result<BTreeMap<String, At<T>>, ClientError> {
        let entries = self.patience.with(|| self.kv.list(None)).await?;
        let records = entries.into_iter().map(|(key, entry)| {
            let at = self.decode(&key, &entry)?;
            Ok((key, at))
        });
        records.collect()
    }

    /// Of the whole bucket.
    pub async fn newest(&self) -> Result<Revision, ClientError> {
        let newest = self.patience.with(|| self.kv.newest()).await?;
        Ok(Revision(newest.0))
    }

    pub async fn write(&self, key: &str, value: &T, over: Over) -> Result<Written, ClientError> {
        let bytes = Bytes::from(wire::encode(value)?);
        let write = || {
            let bytes = bytes.clone();
            match over {
                Over::Nothing => self.kv.create(key, bytes),
                Over::NothingSince(newest) => self.kv.create_after(key, bytes, bus::Revision(newest.0)),
                Over::Revision(expected) => self.kv.update(key, bytes, bus::Revision(expected.0)),
            }
        };
        match self.patience.with_write(write).await {
            Ok(revision) => Ok(Written::Yes(Revision(revision.0))),
            Err(e) if e.is_conflict() => Ok(Written::Lost),
            Err(e) => Err(e.into()),
        }
    }

    fn decode(&self, key: &str, entry: &Entry) -> Result<At<T>, ClientError> {
        let value = wire::decode(&entry.value).map_err(|source| ClientError::Record {
            bucket: self.kv.bucket().to_owned(),
            key: key.to_owned(),
            source,
        })?;
        Ok(At { value, revision: Revision(entry.revision.0) })
    }
}
