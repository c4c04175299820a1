//! Trainers' logs on their way to whoever follows them: each is spooled on this disk by the trainer itself, sent
//! to the bus piece by piece, and archived in the store when its attempt is over.
//!
//! | file | holds |
//! |--|--|
//! | `spool` | one log: what of it was sent, on the disk, so that another life of the agent goes on exactly there |
//! | here | the one task that sends and archives |
//!
//! Nothing waits for it, and nothing it can not do is lost: an agent that ends leaves its notes to the next life.

mod spool;

pub use spool::Note;

use crate::workdir::Layout;
use agent_core::RunId;
use artifacts::Store;
use bus::{Backoff, Headers, SharedBus};
use common::logs::{LogPiece, archive_of};
use common::{subjects, wire};
use spool::Spool;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

/// New lines are looked for so often.
const EVERY: Duration = Duration::from_millis(500);
/// Pieces of one log in a row, before the others have their turn.
const PIECES_IN_A_ROW: usize = 16;
/// For what is not sent or archived when the agent ends; the rest is for its next life.
const LAST_TURN: Duration = Duration::from_secs(4);
/// Orders that may wait; who has more waits.
const ORDERS: usize = 256;

enum Order {
    Begin(Note),
    End(RunId),
}

/// A cheap handle.
#[derive(Clone)]
pub struct Logs(Sender<Order>);

impl Logs {
    /// A trainer was started that writes this log.
    pub async fn begin(&self, note: Note) {
        // A task that is gone finds the log in the next life of the agent, if it was noted.
        let _ = self.0.send(Order::Begin(note)).await;
    }

    /// The trainer is gone: nothing more is written. Blocking.
    pub fn end(&self, run: RunId) {
        // As above.
        let _ = self.0.blocking_send(Order::End(run));
    }
}

pub struct Shipper {
    layout: Layout,
    bus: SharedBus,
    store: Store,
    cap_bytes: u64,
    spools: BTreeMap<RunId, Spool>,
    backoff: Backoff,
    bus_retry_at: Option<Instant>,
}

impl Shipper {
    /// With everything that an earlier life left behind.
    pub fn new(layout: Layout, bus: SharedBus, store: Store, cap_bytes: u64) -> Shipper {
        let spools = spool::left_behind(&layout);
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        Shipper { layout, bus, store, cap_bytes, spools, backoff, bus_retry_at: None }
    }

    /// Starts the task; it ends, after a last turn, when told to stop.
    pub fn start(mut self, stop: CancellationToken) -> (Logs, tokio::task::JoinHandle<()>) {
        let (to, mut orders) = channel(ORDERS);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(EVERY);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !stop.is_cancelled() {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = stop.cancelled() => {}
                }
                self.take(&mut orders);
                self.turn().await;
            }
            self.last_turn(&mut orders).await;
        });
        (Logs(to), task)
    }

    fn take(&mut self, orders: &mut Receiver<Order>) {
        while let Ok(order) = orders.try_recv() {
            match order {
                Order::Begin(note) => {
                    let run = note.run();
                    self.spools.insert(run, Spool::begin(&self.layout, note));
                }
                Order::End(run) => {
                    if let Some(spool) = self.spools.get_mut(&run) {
                        spool.ended = true;
                    }
                }
            }
        }
    }

    /// What is there now, and what the last trainers still write.
    async fn last_turn(&mut self, orders: &mut Receiver<Order>) {
        self.bus_retry_at = None;
        let until = Instant::now() + LAST_TURN;
        while Instant::now() < until {
            self.take(orders);
            self.turn().await;
            if self.spools.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn turn(&mut self) {
        let runs: Vec<RunId> = self.spools.keys().copied().collect();
        for run in runs {
            let Some(mut spool) = self.spools.remove(&run) else { continue };
            let sent = self.send(&mut spool).await;
            let archived = self.archive(&mut spool).await;
            match sent.and(archived) {
                Ok(()) if spool.is_done() => spool.forget(&self.layout),
                Ok(()) => drop(self.spools.insert(run, spool)),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    tracing::warn!(%run, "the log of an attempt is gone from this disk and is not sent");
                    spool.forget(&self.layout);
                }
                Err(error) => {
                    spool.complain(&error);
                    self.spools.insert(run, spool);
                }
            }
        }
    }

    /// Errors: the spool can not be read or noted.
    async fn send(&mut self, spool: &mut Spool) -> std::io::Result<()> {
        for _ in 0..PIECES_IN_A_ROW {
            if self.bus_retry_at.is_some_and(|at| Instant::now() < at) {
                return Ok(());
            }
            let Some(piece) = spool.next_piece(&self.layout, self.cap_bytes)? else { return Ok(()) };
            match publish(&self.bus, &piece).await {
                Ok(()) => {
                    spool.sent(&self.layout, &piece)?;
                    (self.bus_retry_at, self.backoff) =
                        (None, Backoff::new(Duration::from_millis(500), Duration::from_secs(10)));
                }
                Err(error) => {
                    tracing::debug!(error, "log lines wait for the bus");
                    self.bus_retry_at = Some(Instant::now() + self.backoff.delay());
                }
            }
        }
        Ok(())
    }

    /// On a task of its own: a slow store does not hold up the lines of others.
    async fn archive(&self, spool: &mut Spool) -> std::io::Result<()> {
        match spool.archiving.take_if(|task| task.is_finished()) {
            Some(task) => match task.await {
                Ok(Ok(())) => spool.archived(&self.layout)?,
                Ok(Err(error)) => spool.archive_failed(&error.to_string()),
                Err(error) => spool.archive_failed(&error.to_string()),
            },
            None if spool.wants_archive() => {
                let key = archive_of(&spool.note.key, spool.note.attempt);
                let bytes = spool.whole(&self.layout, self.cap_bytes)?;
                let store = self.store.clone();
                spool.archiving = Some(tokio::spawn(async move { store.put(&key, bytes).await }));
            }
            None => {}
        }
        Ok(())
    }
}

async fn publish(bus: &SharedBus, piece: &LogPiece) -> Result<(), String> {
    let bytes = wire::encode(piece).map_err(|e| e.to_string())?;
    let subject = subjects::logs_of(&piece.key);
    let stored = bus.publish_durable(&subject, Headers::new(), bytes.into(), &piece.message_id()).await;
    stored.map(drop).map_err(|e| e.to_string())
}
