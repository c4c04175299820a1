//! Buckets on JetStream: the key is the tail of a subject, its revision the sequence of its last message.

use super::follow::{Follow, Followed};
use super::{Link, api, watch};
use crate::error::{BusError, Result};
use crate::headers::Headers;
use crate::key::{Revision, check_key};
use crate::kv::{Entry, Kv, KvWatch};
use crate::retry::retry_transient;
use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_LAST_SEQUENCE, NATS_EXPECTED_LAST_SUBJECT_SEQUENCE};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::context::RequestError;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

const OPERATION: &str = "KV-Operation";
/// Set by the server on markers that it writes itself.
const MARKER_REASON: &str = "Nats-Marker-Reason";

/// Without a message for this long, a consumer that has nothing pending has told all it knows.
pub(super) const SETTLED: Duration = Duration::from_secs(1);

pub(super) struct NatsKv {
    link: Arc<Link>,
    bucket: Bucket,
}

/// What a write rests on.
#[derive(Debug, Clone, Copy)]
enum Rests {
    /// It is made in any case.
    Nowhere,
    /// The key is still at this revision; 0 = was never written.
    Key(Revision),
    /// The newest write of the bucket is still this one.
    Bucket(Revision),
}

/// Names of one bucket on the server.
#[derive(Clone)]
pub(super) struct Bucket {
    pub name: String,
    pub stream: String,
    subject_prefix: String,
}

impl Bucket {
    fn new(name: &str) -> Self {
        let (stream, subject_prefix) = (format!("KV_{name}"), format!("$KV.{name}."));
        Self { name: name.to_owned(), stream, subject_prefix }
    }

    fn subject(&self, key: &str) -> String {
        format!("{}{key}", self.subject_prefix)
    }

    /// Subjects of all keys, or of those below a prefix that ends with a dot.
    pub(super) fn filter(&self, prefix: &str) -> String {
        format!("{}{prefix}>", self.subject_prefix)
    }

    pub(super) fn key<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(&self.subject_prefix)
    }
}

/// Whether a message of a bucket takes its key away (deleted, purged, expired).
pub(super) fn is_marker(headers: Option<&HeaderMap>) -> bool {
    let Some(headers) = headers else { return false };
    let operation = headers.get(OPERATION).map(|value| value.as_str());
    matches!(operation, Some("DEL" | "PURGE")) || headers.get(MARKER_REASON).is_some()
}

impl NatsKv {
    pub(super) fn new(link: Arc<Link>, bucket: &str) -> Self {
        Self { link, bucket: Bucket::new(bucket) }
    }

    /// Stores one message under `key`, if what it rests on still holds.
    async fn write(&self, key: &str, mut headers: HeaderMap, value: Bytes, rests: Rests) -> Result<Revision> {
        check_key(key)?;
        self.link.check_size(&Headers::new(), &value)?;
        let expected = match rests {
            Rests::Nowhere => None,
            Rests::Key(expected) => Some((NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected)),
            Rests::Bucket(expected) => Some((NATS_EXPECTED_LAST_SEQUENCE, expected)),
        };
        if let Some((header, Revision(sequence))) = &expected {
            headers.insert(header.clone(), sequence.to_string());
        }
        let subject = self.bucket.subject(key);
        let stored = self.link.store(&self.bucket.stream, &subject, headers, value).await?;
        stored.map(Revision).map_err(|error| match (error.error_code(), expected) {
            (
                ErrorCode::STREAM_WRONG_LAST_SEQUENCE | ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT,
                Some((_, expected)),
            ) => BusError::WrongRevision { bucket: self.bucket.name.clone(), key: key.to_owned(), expected },
            _ => api::refused(format!("writing {subject}"), &self.bucket.stream, &error),
        })
    }

    fn exists(&self, key: &str) -> BusError {
        BusError::AlreadyExists { bucket: self.bucket.name.clone(), key: key.to_owned() }
    }

    /// The last message of `key`, markers included, from the leader.
    async fn last(&self, key: &str) -> Result<Option<(Revision, Option<Bytes>)>> {
        let (subject, stream) = (self.bucket.subject(key), &self.bucket.stream);
        let what = || format!("reading {subject}");
        let handle = self.link.context.get_stream_no_info(stream).await;
        let handle = handle.map_err(|error| BusError::Refused { what: what(), detail: error.to_string() })?;
        let got = self.link.bounded(what, handle.get_last_raw_message_by_subject(&subject)).await?;
        match got {
            Ok(message) => {
                let value = (!is_marker(Some(&message.headers))).then_some(message.payload);
                Ok(Some((Revision(message.sequence), value)))
            }
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(js) => Err(api::refused(what(), stream, &js)),
                LastRawMessageErrorKind::InvalidSubject => {
                    Err(BusError::Refused { what: what(), detail: error.to_string() })
                }
                LastRawMessageErrorKind::Other => {
                    let request = error.source().and_then(|source| source.downcast_ref::<RequestError>());
                    Err(match request {
                        Some(request) => self.link.request_error(what(), request.kind(), request),
                        None => BusError::Refused { what: what(), detail: error.to_string() },
                    })
                }
            },
        }
    }

    async fn list_once(&self, prefix: &str) -> Result<Vec<(String, Entry)>> {
        let stream = &self.bucket.stream;
        let state = self.link.stream_info(stream).await?.state;
        if state.messages == 0 {
            return Ok(Vec::new());
        }
        // The whole bucket whatever the prefix: its newest message is then surely among those to come, and
        // seeing it proves that a replica which lags behind the leader has caught up.
        let filter = self.bucket.filter("");
        let mut follow =
            Follow::open(self.link.clone(), stream, &filter, DeliverPolicy::LastPerSubject).await?;
        let mut found = BTreeMap::new();
        let mut seen = 0;
        while seen < state.last_sequence {
            let Followed { message, sequence } = match tokio::time::timeout(SETTLED, follow.next()).await {
                Ok(followed) => followed?,
                Err(_) if follow.pending == 0 => break,
                Err(_) => {
                    let (what, after_ms) = (format!("listing {}", self.bucket.name), SETTLED.as_millis());
                    return Err(BusError::TimedOut { what, after_ms: after_ms as u64 });
                }
            };
            seen = sequence;
            let Some(key) = self.bucket.key(&message.subject).filter(|key| key.starts_with(prefix)) else {
                continue;
            };
            if is_marker(message.headers.as_ref()) {
                found.remove(key);
            } else {
                found.insert(key.to_owned(), Entry { value: message.payload, revision: Revision(sequence) });
            }
        }
        follow.close().await;
        Ok(found.into_iter().collect())
    }
}

#[async_trait]
impl Kv for NatsKv {
    fn bucket(&self) -> &str {
        &self.bucket.name
    }

    async fn created(&self) -> Result<String> {
        Ok(self.link.stream_info(&self.bucket.stream).await?.created.unix_timestamp_nanos().to_string())
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>> {
        check_key(key)?;
        let last = self.last(key).await?;
        Ok(last.and_then(|(revision, value)| Some(Entry { value: value?, revision })))
    }

    async fn create(&self, key: &str, value: Bytes) -> Result<Revision> {
        let first = self.write(key, HeaderMap::new(), value.clone(), Rests::Key(Revision(0))).await;
        let Err(BusError::WrongRevision { .. }) = first else { return first };
        // Something is there: perhaps only a marker, over which creating is allowed.
        match self.last(key).await? {
            Some((marker, None)) => {
                let over = self.write(key, HeaderMap::new(), value, Rests::Key(marker)).await;
                over.map_err(|error| if error.is_conflict() { self.exists(key) } else { error })
            }
            Some((_, Some(_))) | None => Err(self.exists(key)),
        }
    }

    async fn newest(&self) -> Result<Revision> {
        Ok(Revision(self.link.stream_info(&self.bucket.stream).await?.state.last_sequence))
    }

    async fn create_after(&self, key: &str, value: Bytes, newest: Revision) -> Result<Revision> {
        // Whoever writes the key after this look writes the bucket, which the server checks.
        if self.get(key).await?.is_some() {
            return Err(self.exists(key));
        }
        self.write(key, HeaderMap::new(), value, Rests::Bucket(newest)).await
    }

    async fn update(&self, key: &str, value: Bytes, expected: Revision) -> Result<Revision> {
        self.write(key, HeaderMap::new(), value, Rests::Key(expected)).await
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<Revision> {
        self.write(key, HeaderMap::new(), value, Rests::Nowhere).await
    }

    async fn delete(&self, key: &str, expected: Option<Revision>) -> Result<Revision> {
        let mut headers = HeaderMap::new();
        headers.insert(OPERATION, "DEL");
        self.write(key, headers, Bytes::new(), expected.map_or(Rests::Nowhere, Rests::Key)).await
    }

    async fn list(&self, prefix: Option<&str>) -> Result<Vec<(String, Entry)>> {
        let prefix = prefix.unwrap_or_default();
        retry_transient(2 * self.link.timeout, || self.list_once(prefix)).await
    }

    async fn watch(&self, prefix: Option<&str>) -> Result<KvWatch> {
        watch::watch(self.link.clone(), self.bucket.clone(), prefix.unwrap_or_default()).await
    }
}
