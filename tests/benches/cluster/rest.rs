//! The coordinator beside many agents that have nothing to do: processor time and memory.

use crate::figures::{cpu, memory_mib};
use crate::site::Site;
use crate::size;
use bus::{Headers, NatsBus, NatsOptions, SharedBus};
use bytes::Bytes;
use common::ids::{DeviceId, Incarnation, NodeId};
use common::messages::{DeviceKind, DeviceReport, NodeBeat};
use common::units::Mib;
use common::{subjects, wire};
use futures::{StreamExt, TryStreamExt};
use std::time::Duration;

/// As agents do it by default.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// Connections that are made at once.
const CONNECTS: usize = 32;
const CARDS: usize = 2;

pub fn run() {
    let (agents, seconds) = (size("COORD_BENCH_AGENTS", 1000), size("COORD_BENCH_REST_S", 60) as u64);
    let site = Site::start();
    std::thread::sleep(Duration::from_secs(5));
    let (coordinator, server) = (site.coordinator.pid(), site.server.pid());
    let alone_mib = memory_mib(coordinator);

    let links = site.runtime.block_on(connections(&site, agents));
    for (i, link) in links.into_iter().enumerate() {
        site.runtime.spawn(beats(link, i, agents));
    }
    // Every agent has been heard.
    std::thread::sleep(BEAT_EVERY * 2);
    let before = (cpu(coordinator), cpu(server));
    std::thread::sleep(Duration::from_secs(seconds));
    let percent = |now: Duration, before: Duration| (now - before).as_secs_f64() / seconds as f64 * 100.0;
    println!(
        "coord serve beside {agents} agents at rest, {seconds} s: {:.1} % of a core, {:.0} MiB ({alone_mib:.0} MiB \
         without agents)",
        percent(cpu(coordinator), before.0),
        memory_mib(coordinator)
    );
    println!(
        "nats-server meanwhile: {:.1} % of a core, {:.0} MiB",
        percent(cpu(server), before.1),
        memory_mib(server)
    );
}

/// A connection of its own for each agent.
async fn connections(site: &Site, agents: usize) -> Vec<SharedBus> {
    let connect = |i: usize| {
        let options = NatsOptions::new(site.server.url(), format!("agent {i}")).token(site.server.token());
        async move { Ok::<_, bus::BusError>(NatsBus::connect(options).await?.shared()) }
    };
    let links = futures::stream::iter((0..agents).map(connect)).buffer_unordered(CONNECTS);
    links.try_collect().await.unwrap_or_else(|e| panic!("{e}"))
}

/// One agent's beats for as long as the runtime lives, spread evenly over the time between two.
async fn beats(link: SharedBus, number: usize, agents: usize) {
    let node = NodeId::new(format!("n{number}")).expect("a plain name");
    let subject = subjects::beats_of(&node);
    tokio::time::sleep(BEAT_EVERY.mul_f64(number as f64 / agents as f64)).await;
    let mut every = tokio::time::interval(BEAT_EVERY);
    for seq in 1.. {
        every.tick().await;
        let beat = NodeBeat {
            node: node.clone(),
            incarnation: Incarnation(1),
            seq,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            closed_because: None,
            devices: (0..CARDS).map(|card| device(number, card)).collect(),
            running: Vec::new(),
            ceilings: Vec::new(),
        };
        let bytes = Bytes::from(wire::encode(&beat).expect("a beat encodes"));
        link.publish(&subject, Headers::new(), bytes).await.expect("the server stays");
    }
}

fn device(node: usize, card: usize) -> DeviceReport {
    DeviceReport {
        id: DeviceId::new(format!("GPU-{node}-{card}")).expect("a plain name"),
        kind: DeviceKind::Gpu,
        model: "NVIDIA GeForce RTX 4090".to_owned(),
        total_mib: Mib(24_564),
        budget_mib: Mib(22_107),
        reserved_mib: Mib(0),
        foreign_mib: Some(Mib(0)),
        foreign: Vec::new(),
        max_jobs: 2,
        utilization_percent: Some(0),
        fault: None,
    }
}
