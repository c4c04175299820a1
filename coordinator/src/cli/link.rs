//! The way to the bus: the one named, that of the local cluster, or a private server for a moment.

use super::context::Context;
use super::exit::{Exit, Fault};
use crate::output::Out;
use crate::shell::Client;
use crate::shell::client::ClientError;
use crate::shell::records::Patience;
use anyhow::{Context as _, Result};
use bus::server::{NatsServer, ServerOptions};
use bus::{BusError, BusLayout, MemoryBus, NatsBus, NatsOptions, SharedBus};
use common::config::Config;
use common::ids::NodeId;
use common::messages::NodeBeat;
use common::plan::Plan;
use common::subjects;
use common::wire;
use coordinator_core::planner::Base;
use futures::StreamExt;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Nodes of a fleet that lives are mostly heard by then; longer silence is worth a word.
const SILENCE_TOLD_AFTER: Duration = Duration::from_secs(1);
/// A local cluster's bus is started again by its supervisor; one that was named may as well be a wrong name.
const LOCAL_PATIENCE: Patience = Patience(Duration::from_secs(30));
const NAMED_PATIENCE: Patience = Patience(Duration::from_secs(3));

/// What a verb is going to do over the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Read,
    Write,
}

/// Whose bus it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Named by `--nats`.
    Cluster,
    /// The local cluster that runs now.
    Local,
    /// Nobody's: only we are here, and nothing runs.
    Nobody,
}

pub struct Link {
    pub client: Client,
    pub whose: Whose,
    pub store_url: Option<String>,
    /// The server of a link that lives for a moment.
    server: Option<NatsServer>,
    /// The buckets were found missing: asking again would only cost the bus's patience once more.
    fresh: AtomicBool,
}

impl Link {
    pub fn new(bus: SharedBus, whose: Whose, store_url: Option<String>) -> Link {
        Link { client: Client::patient(bus), whose, store_url, server: None, fresh: AtomicBool::new(false) }
    }

    /// Another handle on the same bus.
    pub fn handle(&self) -> Link {
        Link::new(self.client.bus.clone(), self.whose, self.store_url.clone())
    }

    /// Stops what was started for the moment.
    pub async fn close(self) {
        if let Some(server) = self.server {
            drop(self.client);
            server.stop().await;
        }
    }

    /// Committed and running; nothing at all on a bus where nobody ever made the buckets.
    pub async fn base(&self) -> Result<Base> {
        match self.client.base().await {
            Err(ClientError::Bus(BusError::StreamNotFound { .. })) => {
                self.fresh.store(true, Ordering::Relaxed);
                Ok(Base::default())
            }
            other => Ok(other?),
        }
    }

    /// Every plan that was applied.
    pub async fn plans(&self) -> Result<Vec<Plan>> {
        match self.fresh.load(Ordering::Relaxed) {
            true => Ok(Vec::new()),
            false => Ok(or_empty(self.client.plans().await)?),
        }
    }

    /// Beats of the nodes, heard until every one that speaks has spoken. Nobody there: no waiting.
    pub async fn beats(&self, config: &Config, out: Out) -> Result<BTreeMap<NodeId, NodeBeat>> {
        let mut heard: BTreeMap<NodeId, NodeBeat> = BTreeMap::new();
        if self.whose == Whose::Nobody {
            return Ok(heard);
        }
        let wait = Duration::from_millis(u64::from(config.cluster.beat_s) * 1000 + 500);
        let client = &self.client;
        let mut messages = client.patience.with(|| client.bus.subscribe(subjects::BEATS_ALL)).await?;
        let silent = Cell::new(true);
        let listen = async {
            while let Some(message) = messages.next().await {
                let Ok(beat) = wire::decode::<NodeBeat>(&message.payload) else { continue };
                silent.set(false);
                let second_time = heard.insert(beat.node.clone(), beat).is_some();
                // One node's second beat means that a whole interval went by: all others were heard.
                if second_time || self.whose == Whose::Local {
                    break;
                }
            }
        };
        let tell = async {
            tokio::time::sleep(SILENCE_TOLD_AFTER).await;
            if silent.get() && wait > SILENCE_TOLD_AFTER {
                let left_s = (wait - SILENCE_TOLD_AFTER).as_secs_f32();
                out.talk(&format!("no node has spoken yet; listening for {left_s:.0} s more (one beat)"));
            }
            std::future::pending::<()>().await;
        };
        // The end of the time is how listening ends on a fleet of none, not a failure.
        let _ = tokio::time::timeout(wait, async {
            tokio::select! {
                () = listen => {}
                () = tell => {}
            }
        })
        .await;
        // What was decided about a node closes it as well as what it says itself.
        for (node, decision) in or_empty(self.client.nodes().await)? {
            if let (Some(beat), Some(because)) = (heard.get_mut(&node), decision.value.closed_because()) {
                beat.closed_because.get_or_insert(because);
            }
        }
        Ok(heard)
    }
}

/// A bucket that was never made holds nothing.
pub fn or_empty<T: Default>(read: Result<T, ClientError>) -> Result<T, ClientError> {
    match read {
        Err(ClientError::Bus(BusError::StreamNotFound { .. })) => Ok(T::default()),
        other => other,
    }
}

impl Context {
    /// A bus on which somebody is at work: the one named, or the local cluster.
    pub async fn connect(&self) -> Result<Link> {
        match self.connect_running().await? {
            Some(link) => Ok(link),
            None => Err(Fault::new(
                Exit::Unavailable,
                format!("no cluster: no bus was named, and none runs in {}", self.home().root().display()),
            )
            .way_out("name one with --nats URL or COORD_NATS_URL, or start `coord local up`")
            .into()),
        }
    }

    /// As [`Context::connect`]; where nothing runs, the data of the local home behind a private server for
    /// the moment.
    pub async fn connect_or_start_local(&self, need: Need) -> Result<Link> {
        match self.connect_running().await? {
            Some(link) => Ok(link),
            None => self.start_for_the_moment(need).await,
        }
    }

    async fn connect_running(&self) -> Result<Option<Link>> {
        let store = self.global.store.clone();
        if let Some(url) = &self.global.nats {
            let bus = open_bus(url, self.global.nats_token.as_deref(), NAMED_PATIENCE).await?;
            return Ok(Some(Link::new(bus, Whose::Cluster, store)));
        }
        let Some(running) = self.home().running().await? else { return Ok(None) };
        let opened = open_bus(&running.nats_url, Some(&running.token), LOCAL_PATIENCE).await;
        let bus = opened.with_context(|| format!("the local cluster of process {}", running.pid))?;
        Ok(Some(Link::new(bus, Whose::Local, store.or(Some(running.store_url)))))
    }

    async fn start_for_the_moment(&self, need: Need) -> Result<Link> {
        let home = self.home();
        let store_url = self.global.store.clone().or_else(|| Some(home.store_url()));
        if need == Need::Read && !home.nats_dir().is_dir() {
            // Nothing was ever run here, and looking leaves no trace.
            let bus: SharedBus = Arc::new(MemoryBus::new());
            bus.ensure(&BusLayout::default()).await?;
            return Ok(Link::new(bus, Whose::Nobody, store_url));
        }
        home.create()?;
        let server = NatsServer::start(ServerOptions::new(home.nats_dir())).await?;
        let bus = open_bus(&server.url(), Some(server.token()), LOCAL_PATIENCE).await?;
        let mut link = Link::new(bus, Whose::Nobody, store_url);
        link.server = Some(server);
        Ok(link)
    }
}

pub async fn open_bus(url: &str, token: Option<&str>, patience: Patience) -> Result<SharedBus> {
    let mut options = NatsOptions::new(url, "coord");
    if let Some(token) = token {
        options = options.token(token);
    }
    let bus = patience.with(|| NatsBus::connect(options.clone())).await?;
    Ok(bus.shared())
}
