//! Beats: on a thread, a runtime and a connection of their own, so that nothing the agent does holds them up.
//!
//! The loop publishes a snapshot; a snapshot that grows old says that the loop stands still, and the beat
//! tells so instead of pretending.

use bus::{NatsBus, NatsOptions};
use common::messages::NodeBeat;
use common::{subjects, wire};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A loop that published nothing for so long stands still.
const STILL: Duration = Duration::from_secs(30);

/// The newest state of the node, written by the loop.
#[derive(Clone, Default)]
pub struct Snapshot(Arc<Mutex<Option<(NodeBeat, Instant)>>>);

impl Snapshot {
    pub fn publish(&self, beat: NodeBeat) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((beat, Instant::now()));
    }

    /// The beat to send as number `seq`; `None` before the first snapshot.
    fn beat(&self, seq: u64, now: Instant) -> Option<NodeBeat> {
        let (mut beat, at) = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        beat.seq = seq;
        let age = now.saturating_duration_since(at);
        if age > STILL {
            beat.closed_because = Some(format!("the agent's loop stands still for {} s", age.as_secs()));
        }
        Some(beat)
    }
}

/// Starts the thread; it ends when `stop` is cancelled, after one last beat.
pub fn start(
    nats: NatsOptions,
    every: Duration,
    snapshot: Snapshot,
    stop: CancellationToken,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("beats".to_owned()).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(send(nats, every, snapshot, stop)),
            Err(error) => tracing::error!(%error, "no beats: their runtime can not be started"),
        }
    })
}

async fn send(nats: NatsOptions, every: Duration, snapshot: Snapshot, stop: CancellationToken) {
    let Some(bus) = connect(nats, every, &stop).await else { return };
    let mut ticks = tokio::time::interval(every);
    for seq in 1u64.. {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            () = stop.cancelled() => true,
        };
        let Some(beat) = snapshot.beat(seq, Instant::now()) else { continue };
        let sent = match wire::encode(&beat) {
            Ok(bytes) => {
                let subject = subjects::beats_of(&beat.node);
                bus.publish(&subject, bus::Headers::new(), bytes.into()).await.map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = sent {
            tracing::debug!(error, "a beat was not sent");
        }
        if last {
            return;
        }
    }
}

async fn connect(nats: NatsOptions, every: Duration, stop: &CancellationToken) -> Option<bus::SharedBus> {
    loop {
        match NatsBus::connect(nats.clone()).await {
            Ok(bus) => return Some(bus.shared()),
            Err(error) => tracing::warn!(%error, "beats wait for the bus"),
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.cancelled() => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::{Incarnation, NodeId};

    #[test]
    fn a_loop_that_stands_still_is_told() {
        let snapshot = Snapshot::default();
        assert_eq!(snapshot.beat(1, Instant::now()), None);
        snapshot.publish(NodeBeat {
            node: NodeId::new("n1").unwrap(),
            incarnation: Incarnation(1),
            seq: 0,
            agent_version: String::new(),
            closed_because: None,
            devices: Vec::new(),
            running: Vec::new(),
        });
        let fresh = snapshot.beat(7, Instant::now()).unwrap();
        assert_eq!((fresh.seq, fresh.closed_because), (7, None));
        let old = snapshot.beat(8, Instant::now() + Duration::from_secs(40)).unwrap();
        assert!(old.closed_because.unwrap().contains("stands still"));
    }
}
