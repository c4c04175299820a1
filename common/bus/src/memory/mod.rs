//! The bus inside one process: the twin of the real one for tests and simulation, held to the same contract
//! suite. Time is tokio's, so a paused clock moves ack waits and duplicate windows.
//!
//! Differences that a caller can see: nothing is ever `Transient` but what was not created yet, and a
//! delivery's ack wait begins when it is handed over, not when it is fetched ahead.

mod consumer;
mod kv;
mod stream;

use crate::bus::{Bus, BusInfo, Message, Messages};
use crate::error::{BusError, Result};
use crate::headers::Headers;
use crate::key::{Sequence, check_filter, check_subject, subject_matches};
use crate::kv::SharedKv;
use crate::layout::BusLayout;
use crate::stream::{ConsumerSpec, Deliveries};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// As nats-server's `max_payload`: headers and payload together.
pub const MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// A core subscription drops messages beyond this many unread ones, as a slow consumer of the real bus does.
const SUBSCRIPTION_MESSAGES: usize = 65_536;

/// A bus in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryBus {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Counts changes; whoever waits for a key or a message waits for this.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    buckets: HashMap<String, kv::Bucket>,
    streams: HashMap<String, stream::StoredStream>,
    subscriptions: Vec<Subscription>,
    inboxes: u64,
}

struct Subscription {
    filter: String,
    sender: mpsc::Sender<Message>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between lock and unlock can leave the state half changed, so a panic elsewhere is no reason
        // to refuse it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

fn check_size(headers: &Headers, payload: &Bytes) -> Result<()> {
    let size_bytes = headers.wire_bytes() + payload.len();
    if size_bytes > MAX_PAYLOAD_BYTES {
        return Err(BusError::TooLarge { size_bytes, limit_bytes: MAX_PAYLOAD_BYTES });
    }
    Ok(())
}

impl MemoryBus {
    /// An empty bus, without buckets or streams until [`Bus::ensure`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Hands `message` to all who listen; returns how many do.
    fn send(&self, message: Message) -> usize {
        let mut state = self.shared.lock();
        state.subscriptions.retain(|s| !s.sender.is_closed());
        let listeners = state.subscriptions.iter().filter(|s| subject_matches(&s.filter, &message.subject));
        let mut count = 0;
        for listener in listeners {
            count += 1;
            if listener.sender.try_send(message.clone()).is_err() {
                tracing::warn!(subject = message.subject, "a slow subscriber lost a message");
            }
        }
        count
    }

    /// Stores `message` if a stream takes its subject; `Ok(None)` if none does.
    fn store(&self, message: &Message, msg_id: Option<&str>) -> Result<Option<Sequence>> {
        let mut state = self.shared.lock();
        let taker = state.streams.values_mut().find(|stream| stream.takes(&message.subject));
        let Some(stream) = taker else { return Ok(None) };
        let sequence = stream.append(message, msg_id);
        drop(state);
        self.shared.notify();
        Ok(Some(sequence))
    }

    fn listen(&self, subject: &str) -> Result<mpsc::Receiver<Message>> {
        check_filter(subject)?;
        let (sender, receiver) = mpsc::channel(SUBSCRIPTION_MESSAGES);
        self.shared.lock().subscriptions.push(Subscription { filter: subject.to_owned(), sender });
        Ok(receiver)
    }
}

#[async_trait]
impl Bus for MemoryBus {
    async fn ensure(&self, layout: &BusLayout) -> Result<()> {
        let mut state = self.shared.lock();
        for bucket in &layout.buckets {
            state.buckets.entry(bucket.clone()).or_default();
        }
        for wanted in &layout.streams {
            match state.streams.get_mut(&wanted.name) {
                Some(stream) => stream.layout = wanted.clone(),
                None => {
                    state.streams.insert(wanted.name.clone(), stream::StoredStream::new(wanted.clone()));
                }
            }
        }
        Ok(())
    }

    fn kv(&self, bucket: &str) -> SharedKv {
        Arc::new(kv::MemoryKv::new(self.shared.clone(), bucket))
    }

    async fn publish(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<()> {
        check_subject(subject)?;
        check_size(&headers, &payload)?;
        let message = Message { subject: subject.to_owned(), headers, payload, reply: None };
        self.store(&message, None)?;
        self.send(message);
        Ok(())
    }

    async fn subscribe(&self, subject: &str) -> Result<Messages> {
        let receiver = self.listen(subject)?;
        let next = |mut receiver: mpsc::Receiver<Message>| async move {
            receiver.recv().await.map(|message| (message, receiver))
        };
        Ok(futures::stream::unfold(receiver, next).boxed())
    }

    async fn request(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Message> {
        check_subject(subject)?;
        check_size(&headers, &payload)?;
        let inbox = {
            let mut state = self.shared.lock();
            state.inboxes += 1;
            format!("_INBOX.{}", state.inboxes)
        };
        let mut answers = self.listen(&inbox)?;
        let message = Message { subject: subject.to_owned(), headers, payload, reply: Some(inbox) };
        if self.send(message) == 0 {
            return Err(BusError::NoResponders { subject: subject.to_owned() });
        }
        match tokio::time::timeout(timeout, answers.recv()).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) | Err(_) => Err(BusError::TimedOut {
                what: format!("request on {subject}"),
                after_ms: timeout.as_millis() as u64,
            }),
        }
    }

    async fn publish_durable(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
        msg_id: &str,
    ) -> Result<Sequence> {
        check_subject(subject)?;
        check_size(&headers, &payload)?;
        let message = Message { subject: subject.to_owned(), headers, payload, reply: None };
        let stored = self.store(&message, Some(msg_id))?;
        let sequence = stored.ok_or_else(|| BusError::StreamNotFound { stream: subject.to_owned() })?;
        self.send(message);
        Ok(sequence)
    }

    async fn consume(&self, spec: ConsumerSpec) -> Result<Deliveries> {
        consumer::consume(self.shared.clone(), spec)
    }

    async fn info(&self) -> Result<BusInfo> {
        let server_version = concat!("memory ", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(BusInfo { server_version, cluster_size: 1, rtt: Duration::ZERO })
    }

    fn is_connected(&self) -> bool {
        true
    }
}
