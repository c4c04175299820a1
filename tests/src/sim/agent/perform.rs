//! The interpreter of the agent's effects, played on the virtual clock.

use super::super::bus::{self, Caller, Op, Reply};
use super::super::queue::{Actor, Msg};
use super::{machine, tell, trainer};
use crate::sim::checks::writes;
use crate::sim::{Mutant, World};
use agent_core::{
    ABSENT, ChildExit, Effect, Event, Inputs, LocalCheckpoint, Nature, Problem, ReadOutcome, RunId, SavedRun,
    WriteOutcome,
};
use common::digest::Digest;
use common::ids::Revision;
use common::job_key::JobKey;
use common::messages::JobOffer;
use common::slot::{Cause, Slot, SlotState};
use common::units::UnixMs;

pub struct Task {
    /// Key of the effect, in flight until this is over.
    flight: String,
    work: Work,
}

enum Work {
    List,
    Read { key: JobKey },
    Write { key: JobKey, slot: Box<Slot>, expected: Revision },
    Fetch { run: RunId, offer: Box<JobOffer> },
    Spawn { run: RunId, offer: Box<JobOffer>, inputs: Inputs, doomed: bool },
    AskStop { run: RunId },
    Checkpoint { run: RunId, checkpoint: LocalCheckpoint },
    Result { saved: Box<SavedRun> },
    Clean { run: RunId, keep: bool },
}

impl Work {
    fn run(&self) -> Option<RunId> {
        match self {
            Work::List | Work::Read { .. } | Work::Write { .. } => None,
            Work::Fetch { run, .. }
            | Work::Spawn { run, .. }
            | Work::AskStop { run }
            | Work::Checkpoint { run, .. }
            | Work::Clean { run, .. } => Some(*run),
            Work::Result { saved } => Some(saved.run),
        }
    }

    /// Works in the store for an attempt: stopped when the attempt is fenced or cleaned up.
    fn is_transfer(&self) -> bool {
        matches!(self, Work::Fetch { .. } | Work::Checkpoint { .. } | Work::Result { .. })
    }
}

fn add(w: &mut World, n: usize, flight: String, work: Work) -> u64 {
    w.nodes[n].next_token += 1;
    let token = w.nodes[n].next_token;
    w.nodes[n].tasks.insert(token, Task { flight, work });
    token
}

pub fn listing(w: &mut World, n: usize) -> u64 {
    add(w, n, "list".into(), Work::List)
}

pub fn begin(w: &mut World, n: usize, flight: String, effect: Effect) {
    w.trace(|| format!("agent {n}: {}", brief(&effect)));
    let store_ms = if w.menu.store_slow { w.rng.range(50, 12_000) } else { w.rng.range(10, 400) };
    match effect {
        Effect::ReadSlot { key } => ask(w, n, flight, Work::Read { key }, Op::GetSlot(key)),
        Effect::WriteSlot { key, expected, slot } => {
            let over = (expected != ABSENT).then_some(expected);
            let op = Op::PutSlot { key, slot: slot.as_ref().clone(), expected: over };
            ask(w, n, flight, Work::Write { key, slot, expected }, op);
        }
        Effect::Fetch { run, offer } => later(w, n, store_ms, flight, Work::Fetch { run, offer }),
        Effect::Spawn { run, offer, inputs } => {
            let delay = w.rng.range(5, 200);
            later(w, n, delay, flight, Work::Spawn { run, offer, inputs, doomed: false });
        }
        Effect::AskStop { run, .. } => {
            trainer::asked_to_stop(w, n, run);
            later(w, n, 2, flight, Work::AskStop { run });
        }
        Effect::Kill { run, fenced, .. } => kill(w, n, flight, run, fenced),
        Effect::StoreCheckpoint { run, checkpoint } => {
            later(w, n, store_ms, flight, Work::Checkpoint { run, checkpoint });
        }
        Effect::StoreResult(saved) => {
            // On the disk before it is uploaded: outlives the attempt and the process.
            w.nodes[n].kept.insert(saved.run.key, saved.result.clone());
            later(w, n, store_ms, flight, Work::Result { saved });
        }
        Effect::Clean { run, keep } => {
            stop_transfers(w, n, run);
            later(w, n, 20, flight, Work::Clean { run, keep });
        }
    }
}

fn ask(w: &mut World, n: usize, flight: String, work: Work, op: Op) {
    let token = add(w, n, flight, work);
    let life = w.nodes[n].life;
    bus::send(w, Caller { actor: Actor::Node(n), life, token }, op);
}

fn later(w: &mut World, n: usize, delay: u64, flight: String, work: Work) {
    let token = add(w, n, flight, work);
    let life = w.nodes[n].life;
    w.tell(delay, Actor::Node(n), life, Msg::Done { token });
}

fn stop_transfers(w: &mut World, n: usize, run: RunId) {
    let node = &mut w.nodes[n];
    let stopped: Vec<u64> = node
        .tasks
        .iter()
        .filter(|(_, t)| t.work.run() == Some(run) && t.work.is_transfer())
        .map(|(token, _)| *token)
        .collect();
    for token in stopped {
        if let Some(task) = node.tasks.remove(&token) {
            node.flight.remove(&task.flight);
        }
    }
}

fn kill(w: &mut World, n: usize, flight: String, run: RunId, fenced: bool) {
    if fenced {
        stop_transfers(w, n, run);
    }
    if let Some(pid) = machine::child_of(w, n, run) {
        return trainer::kill(w, n, pid); // in flight until the end is told
    }
    let node = &mut w.nodes[n];
    let spawning = node.tasks.values_mut().find_map(|t| match &mut t.work {
        Work::Spawn { run: of, doomed, .. } if *of == run => Some(doomed),
        _ => None,
    });
    if let Some(doomed) = spawning {
        *doomed = true;
    } else if !node.ends_on_their_way.contains(&run) {
        node.flight.remove(&flight);
        let life = node.life;
        let event = ended(run, ChildExit::NeverStarted);
        w.tell(1, Actor::Node(n), life, Msg::Agent(Box::new(event)));
    }
}

fn ended(run: RunId, exit: ChildExit) -> Event {
    Event::Exited { run, exit, stderr_tail: String::new(), missing: vec![] }
}

/// The bus has answered.
pub fn on_reply(w: &mut World, n: usize, token: u64, reply: Reply) {
    let Some(task) = w.nodes[n].tasks.remove(&token) else { return };
    w.nodes[n].flight.remove(&task.flight);
    let unavailable = || "no answer".to_owned();
    let event = match (task.work, reply) {
        (Work::List, Reply::Slots(slots)) => Event::SlotsAtStart(slots),
        (Work::List, _) => {
            let life = w.nodes[n].life;
            return w.tell(1_000, Actor::Node(n), life, Msg::Start);
        }
        (Work::Read { key }, Reply::Slot { found, .. }) => {
            let outcome = match found {
                Some((revision, slot)) => ReadOutcome::Found { revision, slot: Box::new(slot) },
                None => ReadOutcome::Absent,
            };
            Event::SlotRead { key, outcome }
        }
        (Work::Read { key }, _) => {
            Event::SlotRead { key, outcome: ReadOutcome::Unavailable { message: unavailable() } }
        }
        (Work::Write { key, slot, expected }, reply) => {
            let deaf = w.mutant == Some(Mutant::DeafAgent) && matches!(slot.state, SlotState::Held { .. });
            let outcome = match reply {
                Reply::Written(revision) => WriteOutcome::Written { revision },
                Reply::Lost if deaf => WriteOutcome::Written { revision: expected },
                Reply::Lost => WriteOutcome::Conflict,
                _ => WriteOutcome::Unavailable { message: unavailable() },
            };
            Event::SlotWritten { key, wrote: slot, outcome }
        }
        _ => return,
    };
    tell(w, n, event);
}

/// A task of the agent's own came to its end.
pub fn on_done(w: &mut World, n: usize, token: u64) {
    let Some(task) = w.nodes[n].tasks.remove(&token) else { return };
    w.nodes[n].flight.remove(&task.flight);
    let up = w.store.is_up(w.now);
    let away = |nature, cause| Problem { nature, cause, message: "503 Slow Down".to_owned() };
    // A store that is down is away for some and refuses others, by the attempt.
    let down = |run: RunId| match run.attempt.0 % 2 {
        0 => away(Nature::Refused, Cause::Store),
        _ => away(Nature::Away, Cause::Infrastructure),
    };
    let event = match task.work {
        Work::Fetch { run, .. } if w.nodes[n].kept.contains_key(&run.key) => {
            w.history.mark("a finished result was found on the disk");
            Event::FoundFinished { run, result: w.nodes[n].kept[&run.key].clone() }
        }
        Work::Fetch { run, .. } if !up => Event::FetchFailed { run, problem: down(run) },
        Work::Fetch { run, offer } => match fetch(w, &offer) {
            Ok(inputs) => {
                w.store.begin(run.key, run.attempt);
                Event::Fetched { run, inputs }
            }
            Err(message) => {
                let problem = Problem { nature: Nature::Final, cause: Cause::Infrastructure, message };
                Event::FetchFailed { run, problem }
            }
        },
        Work::Spawn { run, doomed: true, .. } => {
            w.history.mark("a child was killed before it began");
            let kill = Effect::Kill { run, fenced: true, hung: false }.key();
            w.nodes[n].flight.remove(&kill);
            Event::SpawnFailed { run, message: "killed before it began".into() }
        }
        Work::Spawn { run, offer, inputs, .. } => {
            if inputs.resumed_from_epoch.is_some() {
                w.history.mark("a child went on from a checkpoint");
            }
            let pid = trainer::spawn(w, n, &offer, &inputs);
            writes::child_started(w, n, pid, &offer);
            Event::Spawned { run, pid, at: UnixMs(w.now), resumed_from_epoch: inputs.resumed_from_epoch }
        }
        Work::AskStop { run } => Event::StopAsked { run },
        Work::Checkpoint { run, checkpoint } => store_checkpoint(w, run, &checkpoint, up),
        Work::Result { saved } if up => store_result(w, n, &saved),
        Work::Result { saved } => Event::ResultFailed { run: saved.run, problem: down(saved.run) },
        Work::Clean { run, keep } => {
            if !keep {
                w.nodes[n].kept.remove(&run.key);
            }
            Event::Cleaned { run }
        }
        Work::List | Work::Read { .. } | Work::Write { .. } => return,
    };
    tell(w, n, event);
}

/// Before the core is told of a child's end, the effects that waited for it are over.
pub fn child_end_told(w: &mut World, n: usize, run: RunId) {
    w.nodes[n].ends_on_their_way.remove(&run);
    let kill = Effect::Kill { run, fenced: true, hung: false }.key();
    w.nodes[n].flight.remove(&kill);
}

fn fetch(w: &World, offer: &JobOffer) -> Result<Inputs, String> {
    for parent in offer.parents.values() {
        if !w.store.is_whole(&parent.key, parent.attempt, &parent.manifest) {
            return Err(format!("{} is not in the store", parent.prefix()));
        }
    }
    let epoch = w.store.checkpoints.get(&offer.key).copied();
    Ok(Inputs { resumed_from_epoch: epoch, ..Inputs::default() })
}

fn store_checkpoint(w: &mut World, run: RunId, checkpoint: &LocalCheckpoint, up: bool) -> Event {
    let seq = checkpoint.seq;
    if !up {
        let problem =
            Problem { nature: Nature::Away, cause: Cause::Infrastructure, message: "503 Slow Down".into() };
        return Event::CheckpointFailed { run, seq, problem };
    }
    let newest = w.store.checkpoints.entry(run.key).or_default();
    *newest = checkpoint.epoch.max(*newest);
    Event::CheckpointStored { run, seq }
}

fn store_result(w: &mut World, n: usize, saved: &SavedRun) -> Event {
    let run = saved.run;
    let text = format!("{run} made on {n} in life {} at {}", w.nodes[n].life, w.now);
    let manifest = Digest::of(text.as_bytes());
    let torn = w.menu.store_torn && w.rng.chance(150);
    w.store.put(run.key, run.attempt, manifest, !torn);
    Event::ResultStored { run, manifest }
}

fn brief(effect: &Effect) -> String {
    match effect {
        Effect::WriteSlot { key, expected, slot } => {
            let over = expected.0;
            format!("write slot {} over {over}: {} {:?}", key.0.short(), slot.attempt, slot.state)
        }
        other => other.key(),
    }
}
