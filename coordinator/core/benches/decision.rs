//! Time of one decision (a fact taken in, and all that is due) on large fleets, and memory of a large run.
//!
//! `cargo bench -p coordinator-core --bench decision`: 1,000 agents and 10,000 jobs, each fact followed by a
//! decision. With `-- large`: 10,000 agents and 100,000 jobs to their end, with a decision for each burst of
//! facts as the coordinator's loop makes them.

#[path = "../tests/support/mod.rs"]
mod support;

use common::digest::Digest;
use common::ids::{Attempt, Incarnation, NodeId, Revision};
use common::job_key::JobKey;
use common::slot::{Slot, SlotState};
use common::trainer_protocol::Stage;
use common::units::Millis;
use coordinator_core::planner::plan;
use coordinator_core::state::Verified;
use coordinator_core::{Effect, EffectKey, Event, Options, State, apply, due};
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};
use support::{beat, gpu, request};

/// Decisions that are timed.
const DECISIONS: usize = 1_000;
/// Facts that the loop may find waiting at once.
const BURST: usize = 4_096;

struct Run {
    state: State,
    now: Millis,
    revision: u64,
    /// What agents and the store will say.
    news: VecDeque<Event>,
    decisions: Vec<Duration>,
    finished: usize,
    /// Questions to the store that wait for their answer: the coordinator's loop asks none twice either.
    asked: BTreeSet<EffectKey>,
}

impl Run {
    fn new(agents: usize, jobs: usize) -> Run {
        let mut run = Run {
            state: State::new(Options::default()),
            now: Millis(1_000_000),
            revision: 0,
            news: VecDeque::new(),
            decisions: Vec::new(),
            finished: 0,
            asked: BTreeSet::new(),
        };
        for n in 0..agents {
            let beat = beat(&format!("n{n:05}"), 1, vec![gpu("GPU-0", 22_000)]);
            run.take(Event::Beat { beat: Box::new(beat) });
        }
        let names: Vec<String> = (0..jobs.div_ceil(3)).map(|n| format!("set_{n:05}")).collect();
        let request = request(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let plan = plan(&request, &Default::default()).expect("a sound request");
        run.take(Event::PlanSeen { plan: Box::new(plan) });
        run.take(Event::Loaded);
        run
    }

    fn take(&mut self, event: Event) {
        apply(&mut self.state, self.now, event).expect("news in order");
    }

    fn revision(&mut self) -> Revision {
        self.revision += 1;
        Revision(self.revision)
    }

    /// Decides, and performs: writes succeed and are seen, agents take and finish, the store confirms.
    fn decide(&mut self) {
        let started = Instant::now();
        let effects = due(&self.state, self.now);
        self.decisions.push(started.elapsed());
        for effect in effects {
            if matches!(effect, Effect::Verify { .. }) && !self.asked.insert(effect.key()) {
                continue;
            }
            self.perform(effect);
        }
    }

    fn perform(&mut self, effect: Effect) {
        let revision = self.revision();
        match effect {
            Effect::CreateChain { record } | Effect::WriteChain { record, .. } => {
                self.take(Event::ChainSeen { record: Box::new(record), revision });
            }
            Effect::WriteSlot { key, slot, .. } => self.take(Event::SlotSeen { key, slot, revision }),
            Effect::PublishOffer { offer } => {
                let (key, attempt) = (offer.key, offer.attempt);
                self.take(Event::OfferPublished { key, attempt, offer: offer.offer });
                self.taken_up(key, attempt);
            }
            Effect::Verify { key, attempt, .. } => {
                self.news.push_back(Event::Verified { key, attempt, outcome: Verified::Whole });
            }
            Effect::Quarantine { .. } => unreachable!("nothing fails here"),
            Effect::Publish { entry, .. } => self.take(Event::RegistrySeen { entry, revision }),
        }
    }

    /// The agent's side of a job, in two facts.
    fn taken_up(&mut self, key: JobKey, attempt: Attempt) {
        let Some(seen) = self.state.slots.get(&key) else { return };
        let (slot, Some(place)) = (seen.slot.clone(), seen.slot.state.place().cloned()) else { return };
        let held = SlotState::Held {
            place: place.clone(),
            incarnation: Incarnation(1),
            beat: 1,
            stage: Stage::Training,
            checkpointed: false,
            yields: None,
        };
        let manifest = Digest::of(format!("{key} {attempt:?}").as_bytes());
        let done = SlotState::Finished { place, manifest, duration_ms: 1 };
        for state in [held, done] {
            let revision = self.revision();
            self.news.push_back(Event::SlotSeen { key, slot: Slot { state, ..slot.clone() }, revision });
        }
    }

    /// Takes in up to `burst` facts and decides, until nothing is left to do or `most` decisions were made.
    fn go(&mut self, burst: usize, most: usize) {
        for _ in 0..most {
            for _ in 0..burst {
                let Some(event) = self.news.pop_front() else { break };
                self.finished += usize::from(matches!(event, Event::Verified { .. }));
                self.take(event);
            }
            self.now = self.now.plus(Millis(1));
            self.beat();
            self.decide();
            if self.news.is_empty() && self.state.active.is_empty() {
                return;
            }
        }
    }

    /// All nodes speak before they count as silent.
    fn beat(&mut self) {
        if !self.now.0.is_multiple_of(5_000) {
            return;
        }
        let nodes: Vec<NodeId> = self.state.nodes.keys().cloned().collect();
        for node in nodes {
            let mut beat = self.state.nodes[&node].beat.clone();
            beat.seq += 1;
            self.take(Event::Beat { beat: Box::new(beat) });
        }
    }

    fn row(&mut self, name: &str) {
        self.decisions.sort_unstable();
        let at = |share: f64| self.decisions[((self.decisions.len() - 1) as f64 * share) as usize];
        let ms = |d: Duration| format!("{:.3} ms", d.as_secs_f64() * 1000.0);
        let (p50, p99, worst) = (ms(at(0.5)), ms(at(0.99)), ms(at(1.0)));
        println!("| {name} | {} | {p50} | {p99} | {worst} |", self.decisions.len());
    }
}

/// Largest resident memory of this process so far, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn main() {
    println!("| what | decisions | p50 | p99 | worst |\n|--|--|--|--|--|");
    match std::env::args().any(|arg| arg == "large") {
        true => large(10_000, 100_000),
        false => usual(1_000, 10_000),
    }
}

fn usual(agents: usize, jobs: usize) {
    let mut run = Run::new(agents, jobs);
    run.decide(); // the chains
    run.decide(); // the first offers
    run.decide(); // their messages
    run.decisions.clear();
    run.go(1, DECISIONS);
    run.row(&format!("{agents} agents, {jobs} jobs, a decision for each fact"));
}

fn large(agents: usize, jobs: usize) {
    let started = Instant::now();
    let mut run = Run::new(agents, jobs);
    println!("made: {} MiB", peak_mib());
    run.go(BURST, 10_000);
    run.row(&format!("{agents} agents, {jobs} jobs to their end, a decision for each {BURST} facts"));
    let (finished, took) = (run.finished, started.elapsed().as_secs_f64());
    println!("{finished} jobs in {took:.1} s, largest resident memory {} MiB", peak_mib());
    assert!(run.state.active.is_empty(), "every job has come to its end");
}
