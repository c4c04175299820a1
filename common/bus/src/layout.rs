//! Which buckets and streams exist, with which limits: one table. Their names are those of the vocabulary.

use crate::key::subject_matches;
use std::time::Duration;

pub use common::subjects as names;

/// A durable stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamLayout {
    pub name: String,
    /// Subjects stored, usually `prefix.>`.
    pub subjects: Vec<String>,
    /// Older messages are dropped.
    pub max_age: Duration,
    /// Per subject, the oldest messages beyond this many are dropped.
    pub max_messages_per_subject: Option<u32>,
    /// nats-server 2.15 allows 1,000 where a stream does not say; fixed when the stream is created.
    pub max_consumers: u32,
    /// Message ids are remembered this long.
    pub duplicate_window: Duration,
}

/// All buckets and streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusLayout {
    pub buckets: Vec<String>,
    pub streams: Vec<StreamLayout>,
    /// Copies of everything. `None`: 3 in a cluster of three or more servers, else 1; what has more copies
    /// already keeps them.
    pub replicas: Option<usize>,
}

/// Watches and lists are consumers too, one per node and more.
pub(crate) const MAX_CONSUMERS: u32 = 50_000;

const HOUR: Duration = Duration::from_secs(3600);

impl Default for BusLayout {
    /// The layout of this project.
    fn default() -> Self {
        use names::*;
        let stream = |name: &str, subject: &str, max_age, max_messages_per_subject| StreamLayout {
            name: name.to_owned(),
            subjects: vec![format!("{subject}.>")],
            max_age,
            max_messages_per_subject,
            max_consumers: MAX_CONSUMERS,
            duplicate_window: Duration::from_secs(120),
        };
        Self {
            buckets: [BUCKET_PLANS, BUCKET_CHAINS, BUCKET_SLOTS, BUCKET_REGISTRY, BUCKET_NODES]
                .map(str::to_owned)
                .to_vec(),
            streams: vec![
                // Limits, not work-queue: with a consumer per node a work-queue does work for every consumer
                // at every message. An offer older than an hour was re-made long ago.
                stream(STREAM_JOBS, SUBJECT_JOBS, HOUR, Some(1_000)),
                stream(STREAM_EVENTS, SUBJECT_EVENTS, 90 * 24 * HOUR, None),
                // For following; the whole log is archived in the store when its attempt is over.
                stream(STREAM_LOGS, SUBJECT_LOGS, 48 * HOUR, Some(4_000)),
            ],
            replicas: None,
        }
    }
}

impl BusLayout {
    /// The stream that stores `subject`.
    pub fn stream_of(&self, subject: &str) -> Option<&StreamLayout> {
        self.streams.iter().find(|s| s.subjects.iter().any(|filter| subject_matches(filter, subject)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_prefix_has_its_stream() {
        let layout = BusLayout::default();
        let of = |subject: String| layout.stream_of(&subject).map(|s| s.name.as_str());
        assert_eq!(of(format!("{}.n1", names::SUBJECT_JOBS)), Some(names::STREAM_JOBS));
        assert_eq!(of(format!("{}.p1", names::SUBJECT_EVENTS)), Some(names::STREAM_EVENTS));
        assert_eq!(of(format!("{}.key", names::SUBJECT_LOGS)), Some(names::STREAM_LOGS));
        assert_eq!(of("coord.beats.n1".to_owned()), None);
    }
}
