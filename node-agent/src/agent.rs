//! The one loop that owns the state: facts in, effects out.

use crate::beats::Snapshot;
use crate::ceilings;
use crate::clock::Clock;
use crate::perform::Performer;
use crate::runs::Runs;
use agent_core::{Ceilings, Effect, Event, Mode, State, apply, beat, due};
use common::units::Millis;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::signal::unix::Signal;
use tokio::sync::mpsc::Receiver;

/// A message to the loop.
#[derive(Debug)]
pub struct Told {
    pub event: Option<Event>,
    /// Key of the effect that is at work no more.
    pub ends: Option<String>,
}

impl Told {
    pub fn news(event: Event) -> Told {
        Told { event: Some(event), ends: None }
    }
}

/// Messages that wait for the loop; who has more to say waits.
pub const QUEUE: usize = 1024;
const TICK: Duration = Duration::from_millis(200);
/// Messages taken in before effects are looked for again.
const BATCH: usize = 64;
/// Without a look at the devices for so long, they count as unknown.
const BLIND_AFTER: Millis = Millis::from_secs(30);
/// After the grace of a shutdown, for the last words.
const LAST_WORDS: Millis = Millis::from_secs(5);

pub struct Signals {
    pub terminate: Signal,
    pub interrupt: Signal,
}

pub struct Agent {
    pub state: State,
    pub clock: Clock,
    pub performer: Performer,
    pub told: Receiver<Told>,
    pub snapshot: Snapshot,
    pub signals: Signals,
    runs: Runs,
    at_work: BTreeSet<String>,
    last_look: Millis,
    ceilings_kept: Ceilings,
}

impl Agent {
    pub fn new(
        state: State,
        clock: Clock,
        performer: Performer,
        told: Receiver<Told>,
        snapshot: Snapshot,
        signals: Signals,
    ) -> Agent {
        let (runs, at_work, last_look) = (Runs::default(), BTreeSet::new(), clock.now());
        let ceilings_kept = state.ceilings.clone();
        Agent { state, clock, performer, told, snapshot, signals, runs, at_work, last_look, ceilings_kept }
    }

    /// Runs until a signal ends it and everything is brought to its end (or the time for that is over).
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        while !self.is_over() {
            tokio::select! {
                _ = self.told.recv_many(&mut batch, BATCH) => {
                    for told in batch.drain(..) {
                        self.take(told);
                    }
                }
                _ = ticks.tick() => self.tick(),
                _ = self.signals.terminate.recv() => self.signalled(),
                _ = self.signals.interrupt.recv() => self.signalled(),
            }
            self.perform_due();
        }
        self.performer.processes.kill_all();
        self.snapshot.publish(beat(&self.state, self.clock.now(), 0));
        let left = self.state.runs.len();
        tracing::info!(left, "agent ended");
    }

    fn is_over(&self) -> bool {
        let late = |until: Millis| self.clock.now() >= until.plus(LAST_WORDS);
        self.state.is_finished() || matches!(self.state.mode, Mode::Stopping { until } if late(until))
    }

    fn take(&mut self, told: Told) {
        if let Some(key) = told.ends {
            self.at_work.remove(&key);
        }
        if let Some(event) = told.event {
            if matches!(event, Event::Devices { .. } | Event::DevicesUnknown { .. }) {
                self.last_look = self.clock.now();
            }
            self.tell(event);
        }
    }

    fn tell(&mut self, event: Event) {
        match apply(&mut self.state, self.clock.now(), event) {
            Ok(changed) => {
                for change in changed.0 {
                    self.runs.tell(&self.state, change);
                }
            }
            Err(refused) => tracing::debug!(%refused, "a fact that does not fit"),
        }
    }

    fn tick(&mut self) {
        self.tell(Event::Tick);
        if self.clock.now().since(self.last_look) > BLIND_AFTER {
            let message = format!("the devices did not answer for {BLIND_AFTER}");
            self.tell(Event::DevicesUnknown { message });
        }
        self.snapshot.publish(beat(&self.state, self.clock.now(), 0));
        if self.state.ceilings != self.ceilings_kept {
            self.ceilings_kept.clone_from(&self.state.ceilings);
            ceilings::save(&self.performer.layout, &self.ceilings_kept);
        }
    }

    fn signalled(&mut self) {
        match self.state.mode {
            Mode::Stopping { .. } => {
                tracing::warn!("second signal: everything is killed");
                self.tell(Event::ShutdownNow);
            }
            Mode::Open | Mode::Closed { .. } => {
                tracing::info!(
                    runs = self.state.runs.len(),
                    "stopping: trainers save a checkpoint and yield"
                );
                self.tell(Event::Shutdown);
            }
        }
    }

    fn perform_due(&mut self) {
        let effects: Vec<Effect> = due(&self.state, self.clock.now());
        for effect in effects {
            if self.at_work.insert(effect.key()) {
                self.performer.start(effect, &self.state, &mut self.runs);
            }
        }
    }
}
