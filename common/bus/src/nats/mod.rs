//! The real bus, over async-nats. `api` maps its errors, `follow` reads a stream in order and without gaps,
//! and the rest stands on those two.

mod api;
mod connect;
mod consume;
mod convert;
mod follow;
mod kv;
mod ledger;
mod setup;
mod watch;

pub use connect::NatsOptions;

use crate::bus::{Bus, BusInfo, Message, Messages, SharedBus};
use crate::error::{BusError, Result};
use crate::headers::Headers;
use crate::key::{Sequence, check_filter, check_subject};
use crate::kv::SharedKv;
use crate::layout::BusLayout;
use crate::stream::{ConsumerSpec, Deliveries};
use async_nats::connection::State;
use async_nats::{Client, jetstream};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch::Receiver;

/// A connection to nats-server. Clones share it; it reconnects for ever.
#[derive(Clone)]
pub struct NatsBus {
    link: Arc<Link>,
}

/// What every part of the real bus needs.
struct Link {
    client: Client,
    context: jetstream::Context,
    url: String,
    /// Addresses that the URL names.
    named_servers: usize,
    /// Bound of every call that does not bring its own.
    timeout: Duration,
    /// Counts how often the connection came up. Consumers are looked at again at each change, since a
    /// restarted server has forgotten those it kept in memory.
    connected: Receiver<u64>,
}

impl Link {
    /// Servers of the cluster as far as a client can know them: those that make themselves known, or, where
    /// they are told not to (`no_advertise`, as behind a load balancer), those that were named to us.
    fn known_servers(&self) -> usize {
        self.client.server_info().connect_urls.len().max(self.named_servers)
    }
}

impl NatsBus {
    /// Connects once; later losses of the connection are mended in the background, for ever.
    ///
    /// Errors: `NatsUnreachable`, `AuthRefused`, `ServerTooOld`, `JetStreamDisabled`, `BadOptions`.
    pub async fn connect(options: NatsOptions) -> Result<Self> {
        let link = connect::connect(options).await?;
        Ok(Self { link: Arc::new(link) })
    }

    /// The handle that the rest of the workspace takes.
    pub fn shared(self) -> SharedBus {
        Arc::new(self)
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn ensure(&self, layout: &BusLayout) -> Result<()> {
        setup::ensure(&self.link, layout).await
    }

    fn kv(&self, bucket: &str) -> SharedKv {
        Arc::new(kv::NatsKv::new(self.link.clone(), bucket))
    }

    async fn publish(&self, subject: &str, headers: Headers, payload: Bytes) -> Result<()> {
        check_subject(subject)?;
        self.link.check_size(&headers, &payload)?;
        let headers = convert::to_nats(&headers)?;
        let sent = self.link.client.publish_with_headers(subject.to_owned(), headers, payload);
        let what = || format!("publish on {subject}");
        self.link.bounded(what, sent).await?.map_err(|error| api::publish_error(what(), &error))
    }

    async fn subscribe(&self, subject: &str) -> Result<Messages> {
        check_filter(subject)?;
        let what = || format!("subscribe to {subject}");
        let subscribed = self.link.client.subscribe(subject.to_owned());
        let messages = self
            .link
            .bounded(what, subscribed)
            .await?
            .map_err(|error| BusError::Disconnected { what: what(), detail: error.to_string() })?;
        self.link.round_trip().await?;
        Ok(messages.map(convert::from_nats).boxed())
    }

    async fn request(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Message> {
        check_subject(subject)?;
        self.link.check_size(&headers, &payload)?;
        let headers = convert::to_nats(&headers)?;
        let answer = self.link.ask(subject, headers, payload, timeout).await?;
        Ok(convert::from_nats(answer))
    }

    async fn publish_durable(
        &self,
        subject: &str,
        headers: Headers,
        payload: Bytes,
        msg_id: &str,
    ) -> Result<Sequence> {
        check_subject(subject)?;
        self.link.check_size(&headers, &payload)?;
        let mut headers = convert::to_nats(&headers)?;
        headers.insert(async_nats::header::NATS_MESSAGE_ID, convert::value(msg_id)?);
        let stored = self.link.store(subject, subject, headers, payload).await?;
        Ok(Sequence(stored.map_err(|error| api::refused(format!("publish on {subject}"), subject, &error))?))
    }

    async fn consume(&self, spec: ConsumerSpec) -> Result<Deliveries> {
        consume::consume(self.link.clone(), spec).await
    }

    async fn info(&self) -> Result<BusInfo> {
        let start = Instant::now();
        self.link.account().await?;
        let rtt = start.elapsed();
        let info = self.link.client.server_info();
        let cluster_size = if info.cluster.is_some() { self.link.known_servers() } else { 1 };
        Ok(BusInfo { server_version: info.version, cluster_size, rtt })
    }

    fn is_connected(&self) -> bool {
        self.link.client.connection_state() == State::Connected
    }
}
