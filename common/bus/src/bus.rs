//! The bus itself as a trait.

use crate::error::Result;
use crate::headers::Headers;
use crate::key::Sequence;
use crate::kv::SharedKv;
use crate::layout::BusLayout;
use crate::stream::{ConsumerSpec, Deliveries};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;

/// A message of core NATS: at most once, to whoever listens now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub subject: String,
    pub headers: Headers,
    pub payload: Bytes,
    /// Where the sender waits for an answer, if it does.
    pub reply: Option<String>,
}

/// Never ends while the bus lives; loses messages while the connection is down or the reader lags far behind.
pub type Messages = BoxStream<'static, Message>;

/// What is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusInfo {
    pub server_version: String,
    /// Servers that make themselves known to clients, or that our URL names; 1 for a lone server.
    pub cluster_size: usize,
    /// One request to JetStream and back.
    pub rtt: Duration,
}

/// A cheap handle on the bus.
pub type SharedBus = Arc<dyn Bus>;

/// The bus. Every call that leaves the process is bounded by the time-out of the connection.
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Creates what `layout` names, and brings what differs in line with it. May be called by any number of
    /// processes at once, and again at any time.
    async fn ensure(&self, layout: &BusLayout) -> Result<()>;

    /// A handle on a bucket. Does not ask the server: a missing bucket shows at the first call.
    fn kv(&self, bucket: &str) -> SharedKv;

    /// Publishes to whoever listens now; nothing is kept, nobody confirms.
    async fn publish(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<()>;

    /// Listens. When this returns, the server knows of it: messages sent from now on arrive.
    async fn subscribe(&self, subject: &str) -> Result<Messages>;

    /// Asks, and waits for the first answer.
    ///
    /// Errors: `NoResponders` when nobody listens, `TimedOut` when nobody answers in `timeout`.
    async fn request(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Message>;

    /// Answers a request. A message that asks for no answer gets none.
    async fn respond(&self, request: &Message, headers: Headers, payload: Bytes) -> Result<()> {
        match &request.reply {
            Some(reply) => self.publish(reply, headers, payload).await,
            None => Ok(()),
        }
    }

    /// Publishes to a durable stream and waits until it is stored. A second message with the same `msg_id`
    /// within the stream's duplicate window is not stored again; the sequence of the first is returned.
    /// So this may be repeated after a time-out.
    async fn publish_durable(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
        msg_id: &str,
    ) -> Result<Sequence>;

    /// Consumes a durable stream, at least once. Goes on by itself after a lost connection, a restarted server
    /// or a lost consumer: a private consumer from its oldest unacknowledged message; a durable where the
    /// server has it; a durable that was lost, from `spec.deliver`, where `New` means: as of this call.
    async fn consume(&self, spec: ConsumerSpec) -> Result<Deliveries>;

    /// Asks the server about itself.
    async fn info(&self) -> Result<BusInfo>;

    /// Whether the connection is up at this moment, without asking anyone.
    fn is_connected(&self) -> bool;
}
