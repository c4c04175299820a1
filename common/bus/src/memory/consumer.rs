//! Consumers in memory: who got what, and when it comes again.

use super::stream::{Stored, StoredStream};
use super::{Shared, State};
use crate::error::{BusError, Result};
use crate::key::{Sequence, check_filter, subject_matches};
use crate::stream::{Acker, Answer, ConsumerSpec, Deliver, Deliveries, Delivery, MAX_ACK_PENDING};
use async_trait::async_trait;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Progress of one consumer, shared by all who read it.
pub(super) struct ConsumerState {
    filter: Option<String>,
    ack_wait: Duration,
    /// First sequence not looked at yet.
    next: Sequence,
    pending: BTreeMap<Sequence, Pending>,
}

/// Delivered and not acknowledged.
struct Pending {
    due: Instant,
    deliveries: u64,
}

/// What a reader finds: a message, or when to look again.
enum Found {
    Message { sequence: Sequence, stored: Stored, redelivered: u64 },
    Nothing { look_again: Option<Instant> },
}

impl ConsumerState {
    fn new(spec: &ConsumerSpec, last: Sequence) -> Self {
        let next = match spec.deliver {
            Deliver::All => Sequence(1),
            Deliver::New => Sequence(last.0 + 1),
            Deliver::FromSequence(sequence) => sequence,
        };
        Self { filter: spec.filter.clone(), ack_wait: spec.ack_wait, next, pending: BTreeMap::new() }
    }

    fn take(&mut self, messages: &BTreeMap<Sequence, Stored>, now: Instant) -> Found {
        // A message that the stream's limits dropped meanwhile cannot come again.
        self.pending.retain(|sequence, _| messages.contains_key(sequence));
        let first_due = self.pending.iter_mut().min_by_key(|(_, pending)| pending.due);
        if let Some((sequence, pending)) = first_due
            && pending.due <= now
        {
            let redelivered = pending.deliveries;
            pending.deliveries += 1;
            pending.due = now + self.ack_wait;
            return Found::Message { sequence: *sequence, stored: messages[sequence].clone(), redelivered };
        }
        let look_again = self.pending.values().map(|pending| pending.due).min();
        if self.pending.len() >= MAX_ACK_PENDING {
            return Found::Nothing { look_again };
        }
        let wanted = |stored: &Stored| match &self.filter {
            Some(filter) => subject_matches(filter, &stored.subject),
            None => true,
        };
        let Some((sequence, stored)) = messages.range(self.next..).find(|(_, stored)| wanted(stored)) else {
            if let Some((last, _)) = messages.last_key_value() {
                self.next = self.next.max(Sequence(last.0 + 1));
            }
            return Found::Nothing { look_again };
        };
        self.next = Sequence(sequence.0 + 1);
        self.pending.insert(*sequence, Pending { due: now + self.ack_wait, deliveries: 1 });
        Found::Message { sequence: *sequence, stored: stored.clone(), redelivered: 0 }
    }
}

fn stream_of<'a>(state: &'a mut State, name: &str) -> Result<&'a mut StoredStream> {
    let missing = || BusError::StreamNotFound { stream: name.to_owned() };
    state.streams.get_mut(name).ok_or_else(missing)
}

pub(super) fn consume(shared: Arc<Shared>, spec: ConsumerSpec) -> Result<Deliveries> {
    if let Some(filter) = &spec.filter {
        check_filter(filter)?;
    }
    // Subscribed before the first look, so that no message falls between.
    let changed = shared.changed.subscribe();
    let mut state = shared.lock();
    state.inboxes += 1;
    let id = match &spec.name {
        Some(name) => name.clone(),
        None => format!("private {}", state.inboxes),
    };
    let stream = stream_of(&mut state, &spec.stream)?;
    let last = stream.last();
    let consumer = stream.consumers.entry(id.clone()).or_insert_with(|| ConsumerState::new(&spec, last));
    consumer.filter.clone_from(&spec.filter);
    consumer.ack_wait = spec.ack_wait;
    drop(state);

    let handle = Handle { shared: shared.clone(), stream: spec.stream, id, private: spec.name.is_none() };
    let next = |mut reader: Reader| async move {
        let delivery = reader.next().await?;
        Some((Ok(delivery), reader))
    };
    Ok(futures::stream::unfold(Reader { handle: Arc::new(handle), changed }, next).boxed())
}

/// Names a consumer; the last one to a private consumer takes it away.
struct Handle {
    shared: Arc<Shared>,
    stream: String,
    id: String,
    private: bool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.private
            && let Some(stream) = self.shared.lock().streams.get_mut(&self.stream)
        {
            stream.consumers.remove(&self.id);
        }
    }
}

struct Reader {
    handle: Arc<Handle>,
    changed: watch::Receiver<u64>,
}

impl Reader {
    async fn next(&mut self) -> Option<Delivery> {
        loop {
            let look_again = match self.look()? {
                Found::Message { sequence, stored, redelivered } => {
                    return Some(Delivery {
                        subject: stored.subject,
                        headers: stored.headers,
                        payload: stored.payload,
                        sequence,
                        redelivered,
                        acker: Box::new(MemoryAcker { handle: self.handle.clone(), sequence }),
                    });
                }
                Found::Nothing { look_again } => look_again,
            };
            let due = async {
                match look_again {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                changed = self.changed.changed() => changed.ok()?,
            }
        }
    }

    fn look(&self) -> Option<Found> {
        let mut state = self.handle.shared.lock();
        let stream = state.streams.get_mut(&self.handle.stream)?;
        let consumer = stream.consumers.get_mut(&self.handle.id)?;
        Some(consumer.take(&stream.messages, Instant::now()))
    }
}

struct MemoryAcker {
    handle: Arc<Handle>,
    sequence: Sequence,
}

#[async_trait]
impl Acker for MemoryAcker {
    async fn answer(&self, answer: Answer, _confirmed: bool) -> Result<()> {
        let mut state = self.handle.shared.lock();
        let stream = stream_of(&mut state, &self.handle.stream)?;
        // Not fenced, as on the real bus: whoever answers, the message is answered.
        if let Some(consumer) = stream.consumers.get_mut(&self.handle.id) {
            match (answer, consumer.pending.get_mut(&self.sequence)) {
                (Answer::Ack, _) => drop(consumer.pending.remove(&self.sequence)),
                (Answer::Nak(delay), Some(pending)) => pending.due = Instant::now() + delay,
                (Answer::InProgress, Some(pending)) => pending.due = Instant::now() + consumer.ack_wait,
                (Answer::Nak(_) | Answer::InProgress, None) => {}
            }
        }
        drop(state);
        self.handle.shared.notify();
        Ok(())
    }
}
