//! Durable streams: what to consume, and what is delivered.

use crate::error::Result;
use crate::headers::Headers;
use crate::key::Sequence;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::time::Duration;

/// Deliveries of one consumer that may wait for their acknowledgement at a time; then no new ones come.
pub(crate) const MAX_ACK_PENDING: usize = 1_000;

/// Where a new consumer begins. An existing durable goes on where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deliver {
    All,
    New,
    FromSequence(Sequence),
}

/// A consumer of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSpec {
    /// Name of the stream, one of [`crate::names`].
    pub stream: String,
    /// `Some`: the server remembers what was acknowledged, and all who name it share its messages.
    /// `None`: private to this subscription, which itself remembers what was acknowledged while it lives.
    pub name: Option<String>,
    /// Subjects wanted (`*`, `>`); `None` for all of the stream.
    pub filter: Option<String>,
    pub deliver: Deliver,
    /// Keep the consumer's state in memory: a quarter of the latency and no file per consumer. A durable in
    /// memory of a single server is forgotten when that restarts; see [`Bus::consume`](crate::Bus::consume).
    pub memory: bool,
    /// A delivery neither acknowledged nor prolonged within this time comes again. Time in the local
    /// buffer counts.
    pub ack_wait: Duration,
    /// Deliveries fetched ahead of the reader, at most; also the bound of the local buffer.
    pub buffer: usize,
}

impl ConsumerSpec {
    /// Everything in `stream` from its beginning, private, in memory, acknowledged within 30 s.
    pub fn new(stream: impl Into<String>) -> Self {
        Self {
            stream: stream.into(),
            name: None,
            filter: None,
            deliver: Deliver::All,
            memory: true,
            ack_wait: Duration::from_secs(30),
            buffer: 64,
        }
    }

    /// Makes it a shared durable, kept on disk.
    pub fn durable(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self.memory = false;
        self
    }

    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.filter = Some(filter.into());
        self
    }

    pub fn deliver(mut self, deliver: Deliver) -> Self {
        self.deliver = deliver;
        self
    }

    pub fn ack_wait(mut self, ack_wait: Duration) -> Self {
        self.ack_wait = ack_wait;
        self
    }
}

/// How a delivery is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Done with it.
    Ack,
    /// Deliver again, after the delay.
    Nak(Duration),
    /// Still at work: the ack wait begins anew.
    InProgress,
}

/// The way back from a delivery to its consumer. Implemented once per kind of bus.
#[async_trait]
pub trait Acker: Send + Sync + 'static {
    /// Sends the answer. `confirmed` waits until the server has stored it.
    async fn answer(&self, answer: Answer, confirmed: bool) -> Result<()>;
}

/// One message from a durable stream.
///
/// Acknowledgements are **not fenced**: a holder whose ack wait ran out may still acknowledge, and thereby
/// remove the message from under its new holder. A delivery is news or an invitation; rights live in a
/// bucket, under compare-and-swap.
pub struct Delivery {
    pub subject: String,
    pub headers: Headers,
    pub payload: Bytes,
    pub sequence: Sequence,
    /// How often it was delivered before this time; 0 for the first.
    pub redelivered: u64,
    pub(crate) acker: Box<dyn Acker>,
}

impl Delivery {
    /// Sends the acknowledgement without waiting: if it gets lost, the message comes again.
    pub async fn ack(&self) -> Result<()> {
        self.acker.answer(Answer::Ack, false).await
    }

    /// Acknowledges and waits until the server has stored that.
    pub async fn ack_confirmed(&self) -> Result<()> {
        self.acker.answer(Answer::Ack, true).await
    }

    /// Gives the message back, to come again after `delay`.
    pub async fn nak(&self, delay: Duration) -> Result<()> {
        self.acker.answer(Answer::Nak(delay), false).await
    }

    /// Starts the ack wait anew.
    pub async fn in_progress(&self) -> Result<()> {
        self.acker.answer(Answer::InProgress, false).await
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("subject", &self.subject)
            .field("sequence", &self.sequence)
            .field("redelivered", &self.redelivered)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Ends only when the consumer cannot be had for a permanent reason, which is the last item.
pub type Deliveries = BoxStream<'static, Result<Delivery>>;
