//! Reading a stream in order and without gaps, through a throw-away consumer without acknowledgements.

use super::Link;
use crate::error::{BusError, Result};
use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::Info;
use futures::StreamExt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Silence on an open pull longer than two of these means that the consumer is gone.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);
/// A pull request is renewed after this.
pub(super) const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// The server forgets a consumer that nobody has read for this long.
pub(super) const INACTIVE: Duration = Duration::from_secs(30);
/// Messages per pull; the bound of what waits in memory.
const BATCH_MESSAGES: usize = 1_000;

/// Tells a stream from a later one of the same name: sequences alone do not, once the later has caught up.
/// Holds the nanoseconds of its creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamLife(i128);

impl StreamLife {
    pub(super) fn of(info: &Info) -> Self {
        Self(info.created.unix_timestamp_nanos())
    }
}

/// An open reading of a stream.
pub(super) struct Follow {
    link: Arc<Link>,
    stream: String,
    consumer: String,
    messages: pull::Stream,
    /// Sequence within the consumer of the last message; one more each time, or something was lost.
    delivered: u64,
    /// Messages that the server has still to deliver, as of the last message.
    pub pending: u64,
    connected: watch::Receiver<u64>,
}

/// One message of a [`Follow`].
pub(super) struct Followed {
    pub message: async_nats::Message,
    pub sequence: u64,
}

impl Follow {
    pub(super) async fn open(
        link: Arc<Link>,
        stream: &str,
        filter: &str,
        deliver_policy: DeliverPolicy,
    ) -> Result<Self> {
        let mut connected = link.connected.clone();
        connected.mark_unchanged();
        let config = pull::Config {
            filter_subject: filter.to_owned(),
            deliver_policy,
            ack_policy: AckPolicy::None,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: INACTIVE,
            ..pull::Config::default()
        };
        let consumer = link.create_consumer(stream, config).await?;
        let (name, pending) = (consumer.cached_info().name.clone(), consumer.cached_info().num_pending);
        let pull = consumer.stream().max_messages_per_batch(BATCH_MESSAGES).heartbeat(HEARTBEAT);
        let what = || format!("reading stream {stream}");
        let opened = link.bounded(what, pull.expires(PULL_EXPIRES).messages()).await?;
        let messages =
            opened.map_err(|error| BusError::Disconnected { what: what(), detail: error.to_string() })?;
        let stream = stream.to_owned();
        Ok(Self { link, stream, consumer: name, messages, delivered: 0, pending, connected })
    }

    /// The next message. Any error is transient and means: open again, after the last sequence seen.
    pub(super) async fn next(&mut self) -> Result<Followed> {
        let what = || format!("reading stream {}", self.stream);
        let lost = |detail: String| BusError::Disconnected { what: what(), detail };
        let next = tokio::select! {
            next = self.messages.next() => next,
            _ = self.connected.changed() => return Err(lost("connected anew".to_owned())),
        };
        let message = next.ok_or_else(|| lost("the consumer ended".to_owned()))?;
        let message = message.map_err(|error| lost(error.to_string()))?;
        let info = message.info().map_err(|error| lost(error.to_string()))?;
        if info.consumer_sequence != self.delivered + 1 {
            return Err(lost(format!("message {} of the consumer was lost", self.delivered + 1)));
        }
        let sequence = info.stream_sequence;
        (self.delivered, self.pending) = (info.consumer_sequence, info.pending);
        let Message { message, .. } = message;
        Ok(Followed { message, sequence })
    }

    /// Ends the reading and takes the consumer off the server.
    pub(super) async fn close(self) {
        let Self { link, stream, consumer, messages, .. } = self;
        drop(messages);
        link.forget_consumer(&stream, &consumer).await;
    }
}
