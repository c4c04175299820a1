//! Pull consumers of durable streams, made anew whenever they are lost.

use super::follow::{HEARTBEAT, INACTIVE, PULL_EXPIRES, StreamLife};
use super::ledger::{Ledger, Seen};
use super::{Link, convert};
use crate::error::{BusError, Result};
use crate::key::{Sequence, check_filter};
use crate::retry::Backoff;
use crate::stream::{Acker, Answer, ConsumerSpec, Deliver, Deliveries, Delivery, MAX_ACK_PENDING};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull};
use async_nats::jetstream::message::Acker as JsAcker;
use async_nats::jetstream::stream::Info;
use async_nats::jetstream::{AckKind, Message};
use async_trait::async_trait;
use futures::StreamExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

struct Supervisor {
    link: Arc<Link>,
    spec: ConsumerSpec,
    memory: Memory,
    sender: mpsc::Sender<Result<Delivery>>,
}

#[derive(Clone)]
struct SharedLedger(Arc<Mutex<Ledger>>);

impl SharedLedger {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // Each change of the ledger is one insert or remove: a panic elsewhere cannot leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who remembers what was acknowledged.
enum Memory {
    /// The server, under a name. One that does not exist begins at `start`.
    Durable { name: String, start: DeliverPolicy },
    /// This process.
    Private { ledger: SharedLedger, life: StreamLife },
}

impl Memory {
    fn ledger(&self) -> Option<&SharedLedger> {
        match self {
            Memory::Durable { .. } => None,
            Memory::Private { ledger, .. } => Some(ledger),
        }
    }
}

/// Nobody reads any more.
struct Closed;

pub(super) async fn consume(link: Arc<Link>, spec: ConsumerSpec) -> Result<Deliveries> {
    if let Some(filter) = &spec.filter {
        check_filter(filter)?;
    }
    let info = link.stream_info(&spec.stream).await?;
    // `New` becomes a sequence now: a consumer made anew after a loss must not skip what came meanwhile.
    let first = match spec.deliver {
        Deliver::All => 1,
        Deliver::FromSequence(Sequence(sequence)) => sequence.max(1),
        Deliver::New => info.state.last_sequence + 1,
    };
    let memory = match &spec.name {
        Some(name) => Memory::Durable { name: name.clone(), start: policy_from(first) },
        None => Memory::Private {
            ledger: SharedLedger(Arc::new(Mutex::new(Ledger::starting_at(first)))),
            life: StreamLife::of(&info),
        },
    };
    let (sender, receiver) = mpsc::channel(spec.buffer.max(1));
    let mut supervisor = Supervisor { link, spec, memory, sender };
    // Made once before returning, so that a missing stream is told to the caller.
    let consumer = supervisor.open().await?;
    let task = AbortOnDropHandle::new(tokio::spawn(async move { supervisor.run(consumer).await }));
    let next = |(mut receiver, task): (mpsc::Receiver<Result<Delivery>>, AbortOnDropHandle<()>)| async move {
        receiver.recv().await.map(|delivery| (delivery, (receiver, task)))
    };
    Ok(futures::stream::unfold((receiver, task), next).boxed())
}

fn policy_from(sequence: u64) -> DeliverPolicy {
    if sequence <= 1 {
        return DeliverPolicy::All;
    }
    DeliverPolicy::ByStartSequence { start_sequence: sequence }
}

impl Supervisor {
    fn config(&self, deliver_policy: DeliverPolicy) -> pull::Config {
        let private = self.spec.name.is_none();
        pull::Config {
            durable_name: self.spec.name.clone(),
            filter_subject: self.spec.filter.clone().unwrap_or_default(),
            deliver_policy,
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.spec.ack_wait,
            max_ack_pending: MAX_ACK_PENDING as i64,
            memory_storage: self.spec.memory,
            num_replicas: if private { 1 } else { 0 },
            inactive_threshold: if private { INACTIVE } else { Duration::ZERO },
            ..pull::Config::default()
        }
    }

    async fn open(&mut self) -> Result<PullConsumer> {
        match &self.memory {
            Memory::Durable { name, start } => self.open_durable(name, *start).await,
            Memory::Private { .. } => self.open_private().await,
        }
    }

    async fn open_durable(&self, name: &str, start: DeliverPolicy) -> Result<PullConsumer> {
        let stream = &self.spec.stream;
        let Some(found) = self.link.get_consumer(stream, name).await? else {
            return self.link.create_consumer(stream, self.config(start)).await;
        };
        let config = &found.cached_info().config;
        let filter = self.spec.filter.as_deref().unwrap_or_default();
        if config.ack_wait == self.spec.ack_wait && config.filter_subject == filter {
            return Ok(found);
        }
        // Where it began cannot be changed any more, and need not be.
        let wanted = self.config(config.deliver_policy);
        self.link.create_consumer(stream, wanted).await
    }

    async fn open_private(&mut self) -> Result<PullConsumer> {
        let info = self.link.stream_info(&self.spec.stream).await?;
        let start = self.resume_at(&info);
        self.link.create_consumer(&self.spec.stream, self.config(start)).await
    }

    /// Where a new consumer begins in the stream as it is now.
    fn resume_at(&mut self, info: &Info) -> DeliverPolicy {
        let (ledger, life) = match &mut self.memory {
            Memory::Durable { start, .. } => return *start,
            Memory::Private { ledger, life } => (ledger, life),
        };
        let mut ledger = ledger.lock();
        let (now, seen, last) = (StreamLife::of(info), ledger.highest(), info.state.last_sequence);
        if std::mem::replace(life, now) != now || last < seen {
            tracing::warn!(stream = self.spec.stream, last, seen, "the stream was made anew: from its start");
            *ledger = Ledger::starting_at(1);
        }
        policy_from(ledger.resume_at())
    }

    async fn run(mut self, first: PullConsumer) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
        let mut opened = Ok(first);
        loop {
            let error = match opened {
                Ok(consumer) => {
                    backoff.reset();
                    match self.pump(&consumer).await {
                        Ok(Closed) => return self.leave(&consumer).await,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if !error.is_transient() {
                // A reader that left meanwhile need not know.
                let _ = self.sender.send(Err(error)).await;
                return;
            }
            tracing::debug!(stream = self.spec.stream, %error, "consumer goes on anew");
            tokio::select! {
                () = tokio::time::sleep(backoff.delay()) => {}
                () = self.sender.closed() => return,
            }
            opened = self.open().await;
        }
    }

    async fn leave(&self, consumer: &PullConsumer) {
        if self.memory.ledger().is_some() {
            self.link.forget_consumer(&self.spec.stream, &consumer.cached_info().name).await;
        }
    }

    /// Hands over deliveries until something breaks.
    async fn pump(&self, consumer: &PullConsumer) -> Result<Closed> {
        let what = || format!("consumer on stream {}", self.spec.stream);
        let lost = |detail: String| BusError::Disconnected { what: what(), detail };
        let mut connected = self.link.connected.clone();
        connected.mark_unchanged();
        let pull = consumer.stream().max_messages_per_batch(self.spec.buffer.max(1)).heartbeat(HEARTBEAT);
        let messages = self.link.bounded(what, pull.expires(PULL_EXPIRES).messages()).await?;
        let mut messages = messages.map_err(|error| lost(error.to_string()))?;
        loop {
            let next = tokio::select! {
                next = messages.next() => next,
                _ = connected.changed() => return Err(lost("connected anew".to_owned())),
                () = self.sender.closed() => return Ok(Closed),
            };
            let message = next.ok_or_else(|| lost("the consumer ended".to_owned()))?;
            let message = message.map_err(|error| lost(error.to_string()))?;
            if let Some(delivery) = self.delivery(message).await?
                && self.sender.send(Ok(delivery)).await.is_err()
            {
                return Ok(Closed);
            }
        }
    }

    async fn delivery(&self, message: Message) -> Result<Option<Delivery>> {
        let what = || format!("consumer on stream {}", self.spec.stream);
        let info = message.info();
        let info =
            info.map_err(|error| BusError::Disconnected { what: what(), detail: error.to_string() })?;
        let (sequence, deliveries) = (info.stream_sequence, info.delivered);
        let seen = self.memory.ledger().map_or(Seen::Wanted, |ledger| ledger.lock().delivered(sequence));
        let (message, acker) = message.split();
        let acker =
            NatsAcker { link: self.link.clone(), acker, sequence, ledger: self.memory.ledger().cloned() };
        if seen == Seen::Settled {
            acker.answer(Answer::Ack, false).await?;
            return Ok(None);
        }
        Ok(Some(Delivery {
            headers: convert::headers_from_nats(message.headers.as_ref()),
            subject: message.subject.to_string(),
            payload: message.payload,
            sequence: Sequence(sequence),
            redelivered: u64::try_from(deliveries - 1).unwrap_or(0),
            acker: Box::new(acker),
        }))
    }
}

struct NatsAcker {
    link: Arc<Link>,
    acker: JsAcker,
    sequence: u64,
    ledger: Option<SharedLedger>,
}

#[async_trait]
impl Acker for NatsAcker {
    async fn answer(&self, answer: Answer, confirmed: bool) -> Result<()> {
        let kind = match answer {
            Answer::Ack => AckKind::Ack,
            Answer::Nak(delay) => AckKind::Nak(Some(delay)),
            Answer::InProgress => AckKind::Progress,
        };
        let what = || format!("answering message {}", self.sequence);
        let sent = if confirmed {
            self.link.bounded(what, self.acker.double_ack_with(kind)).await?
        } else {
            self.link.bounded(what, self.acker.ack_with(kind)).await?
        };
        sent.map_err(|error| BusError::Disconnected { what: what(), detail: error.to_string() })?;
        // Only now: what could not be acknowledged must come again.
        if let (Answer::Ack, Some(ledger)) = (answer, &self.ledger) {
            ledger.lock().acknowledged(self.sequence);
        }
        Ok(())
    }
}
