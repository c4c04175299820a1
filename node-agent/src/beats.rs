//! Beats: on a thread, a runtime and a connection of their own, so that nothing the agent does holds them up.
//!
//! The same thread answers whoever asks for an agent of this name, and listens for another one under it.
//!
//! The loop publishes a snapshot; a snapshot that grows old says that the loop stands still, and the beat
//! tells so instead of pretending.

use crate::agent::Told;
use crate::rival::{Rival, Watch};
use agent_core::Event;
use bus::{Message, Messages, NatsBus, NatsOptions, SharedBus};
use common::ids::{Incarnation, NodeId};
use common::messages::NodeBeat;
use common::{subjects, wire};
use futures::StreamExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;
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

/// What the thread tells and what it is told by.
#[derive(Clone)]
pub struct Beats {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub every: Duration,
    pub snapshot: Snapshot,
    /// Ends the thread, after one last beat.
    pub stop: CancellationToken,
    /// Set when another agent bears this name and we are the one to go.
    pub rival: Arc<OnceLock<Rival>>,
    pub told: Sender<Told>,
}

/// Starts the thread.
pub fn start(nats: NatsOptions, beats: Beats) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("beats".to_owned()).spawn(move || {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(beats.send(nats)),
            Err(error) => tracing::error!(%error, "no beats: their runtime can not be started"),
        }
    })
}

impl Beats {
    async fn send(self, nats: NatsOptions) {
        let Some(bus) = connect(nats, self.every, &self.stop).await else { return };
        let mut ticks = tokio::time::interval(self.every);
        let mut watch = Watch::new(self.incarnation);
        let (mut asked, mut heard) = (None, None);
        let mut seq = 0u64;
        loop {
            if asked.is_none() || heard.is_none() {
                asked = self.listen(&bus, &subjects::agent_of(&self.node)).await;
                heard = self.listen(&bus, &subjects::beats_of(&self.node)).await;
            }
            let last = tokio::select! {
                _ = ticks.tick() => false,
                () = self.stop.cancelled() => true,
                Some(question) = next(&mut asked) => {
                    self.answer(&bus, &question, seq).await;
                    continue;
                }
                Some(message) = next(&mut heard) => {
                    self.hear(&mut watch, &message.payload);
                    continue;
                }
            };
            seq += 1;
            let Some(beat) = self.snapshot.beat(seq, Instant::now()) else { continue };
            if let Err(error) = publish(&bus, &beat).await {
                tracing::debug!(error, "a beat was not sent");
            }
            if last {
                return;
            }
        }
    }

    async fn listen(&self, bus: &SharedBus, subject: &str) -> Option<Messages> {
        match bus.subscribe(subject).await {
            Ok(messages) => Some(messages),
            Err(error) => {
                tracing::debug!(%error, subject, "not listening yet");
                None
            }
        }
    }

    async fn answer(&self, bus: &SharedBus, question: &Message, seq: u64) {
        let Some(beat) = self.snapshot.beat(seq, Instant::now()) else { return };
        let answered = match wire::encode(&beat) {
            Ok(bytes) => {
                bus.respond(question, bus::Headers::new(), bytes.into()).await.map_err(|e| e.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = answered {
            tracing::debug!(error, "a question was not answered");
        }
    }

    fn hear(&self, watch: &mut Watch, payload: &[u8]) {
        let Ok(beat) = wire::decode::<NodeBeat>(payload) else { return };
        if let Some(rival) = watch.hear(&beat) {
            if self.rival.set(rival).is_ok() {
                tracing::error!(node = %self.node, other = %rival.0, "another agent bears this name: this one ends");
            }
            // With each beat: a loop whose queue is full hears of it by the next one, and once is enough.
            if self.told.try_send(Told::news(Event::Shutdown)).is_err() {
                tracing::warn!("the loop is too busy to be told");
            }
        }
    }
}

/// Waits for ever where nothing is listened to.
async fn next(messages: &mut Option<Messages>) -> Option<Message> {
    match messages {
        Some(messages) => messages.next().await,
        None => std::future::pending().await,
    }
}

async fn publish(bus: &SharedBus, beat: &NodeBeat) -> Result<(), String> {
    let bytes = wire::encode(beat).map_err(|e| e.to_string())?;
    let subject = subjects::beats_of(&beat.node);
    bus.publish(&subject, bus::Headers::new(), bytes.into()).await.map_err(|e| e.to_string())
}

async fn connect(nats: NatsOptions, every: Duration, stop: &CancellationToken) -> Option<SharedBus> {
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
            ceilings: Vec::new(),
        });
        let fresh = snapshot.beat(7, Instant::now()).unwrap();
        assert_eq!((fresh.seq, fresh.closed_because), (7, None));
        let old = snapshot.beat(8, Instant::now() + Duration::from_secs(40)).unwrap();
        assert!(old.closed_because.unwrap().contains("stands still"));
    }
}
