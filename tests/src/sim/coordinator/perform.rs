//! The interpreter of the coordinator's effects, step by step: between two steps anything can happen. Follows
//! `coordinator/src/shell/perform.rs`.

use super::{finished, next_token, now, probed};
use crate::sim::World;
use crate::sim::bus::{self, Caller, Op, Reply};
use crate::sim::mutant::Mutant;
use crate::sim::queue::{Actor, Msg};
use common::chain::JobState;
use common::ids::{ChainId, Revision};
use common::job_key::JobKey;
use common::node::{DecidedBy, NodeRecord, NodeStanding};
use common::slot::{Slot, SlotState};
use common::units::UnixMs;
use coordinator_core::effect::NoteKind;
use coordinator_core::state::Verified;
use coordinator_core::{Effect, EffectKey, Event};
use std::sync::Arc;

pub struct Task {
    key: EffectKey,
    effect: Effect,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The slot that the decision rests on is read again.
    Guard,
    Write,
    /// The second half of a torn commit, of the mutant that unlocks first.
    SecondWrite,
    /// Somebody else was first: what did they write?
    Reread,
    /// The store is asked.
    Store,
}

pub fn begin(w: &mut World, c: usize, key: EffectKey, effect: Effect) {
    w.trace(|| format!("coordinator {c}: {}", brief(&effect)));
    let guard = match &effect {
        Effect::WriteChain { guard: Some((key, _)), .. } if w.mutant != Some(Mutant::NoGuard) => Some(*key),
        _ => None,
    };
    let offers =
        matches!(&effect, Effect::WriteSlot { slot, .. } if matches!(slot.state, SlotState::Offered { .. }));
    let in_store = offers || matches!(effect, Effect::Verify { .. } | Effect::Publish { .. });
    let task = Task { key, effect, step: Step::Write };
    if let Some(slot) = guard {
        go_on(w, c, Task { step: Step::Guard, ..task }, Op::GetSlot(slot));
    } else if in_store {
        let delay = if w.menu.store_slow { w.rng.range(5, 4_000) } else { w.rng.range(2, 60) };
        let (token, life) = (next_token(w, c), w.coordinators[c].life);
        w.coordinators[c].tasks.insert(token, Task { step: Step::Store, ..task });
        w.tell(delay, Actor::Coordinator(c), life, Msg::Stored { token });
    } else {
        let judged_at = w.now;
        write(w, c, task, judged_at);
    }
}

fn go_on(w: &mut World, c: usize, task: Task, op: Op) {
    let (token, life) = (next_token(w, c), w.coordinators[c].life);
    w.coordinators[c].tasks.insert(token, task);
    bus::send(w, Caller { actor: Actor::Coordinator(c), life, token }, op);
}

/// Sends the write that an effect comes down to.
fn write(w: &mut World, c: usize, task: Task, judged_at: u64) {
    let op = match &task.effect {
        Effect::CreateChain { record } => {
            Op::PutChain { record: Arc::new(record.clone()), expected: None, judged_at }
        }
        Effect::WriteChain { record, expected, notes, .. } => {
            let mut record = record.clone();
            if w.mutant == Some(Mutant::UnlockFirst) && task.step != Step::SecondWrite {
                let commits = notes.iter().filter(|n| n.kind == NoteKind::Committed);
                for (phase, attempt) in commits.filter_map(|n| Some((n.job.name.phase, n.attempt?))) {
                    if let Some(job) = record.jobs.get_mut(&phase) {
                        job.state = JobState::Open { attempt, backoff_ms: 0 };
                    }
                }
            }
            Op::PutChain { record: Arc::new(record), expected: Some(*expected), judged_at }
        }
        Effect::WriteSlot { key, slot, expected, .. } => {
            Op::PutSlot { key: *key, slot: slot.clone(), expected: *expected }
        }
        Effect::PublishOffer { offer } => Op::Publish(Arc::new(offer.as_ref().clone())),
        Effect::Publish { entry, expected } => {
            Op::PutRegistry { entry: Arc::new(entry.as_ref().clone()), expected: *expected }
        }
        Effect::Quarantine { node, reason, expected } => {
            w.history.mark("a node was quarantined");
            let (standing, by) = (NodeStanding::Quarantined, DecidedBy::Coordinator);
            let (node, reason, since) = (node.clone(), reason.clone(), UnixMs(w.now));
            let record = Arc::new(NodeRecord { node, standing, reason, by, since });
            Op::PutNode { record, expected: *expected }
        }
        Effect::Verify { .. } => return finished(w, c, task.key, Vec::new()),
    };
    let step = if task.step == Step::SecondWrite { Step::SecondWrite } else { Step::Write };
    go_on(w, c, Task { step, ..task }, op);
}

pub fn on_reply(w: &mut World, c: usize, token: u64, reply: Reply) {
    // An answer that can not reach us is no answer.
    let reply = if w.reaches_bus(Actor::Coordinator(c)) { reply } else { Reply::Unavailable };
    if w.coordinators[c].probe == Some(token) {
        w.coordinators[c].probe = None;
        return probed(w, c, !matches!(reply, Reply::Unavailable));
    }
    let Some(task) = w.coordinators[c].tasks.remove(&token) else { return };
    match (task.step, reply) {
        (Step::Guard, Reply::Slot { read_at, found }) => {
            let Effect::WriteChain { guard: Some((key, seen)), .. } = &task.effect else { return };
            if found.as_ref().map(|(revision, _)| *revision) == Some(*seen) {
                return write(w, c, task, read_at);
            }
            w.history.mark("the guard kept a decision on old news back");
            let facts = slot_facts(*key, found);
            finished(w, c, task.key, facts);
        }
        (Step::Write | Step::SecondWrite, Reply::Written(revision)) => written(w, c, task, revision),
        (Step::Write, Reply::Done) => {
            let facts = match &task.effect {
                Effect::PublishOffer { offer } => {
                    vec![Event::OfferPublished { key: offer.key, attempt: offer.attempt, offer: offer.offer }]
                }
                _ => Vec::new(),
            };
            finished(w, c, task.key, facts);
        }
        (Step::Write | Step::SecondWrite, Reply::Lost) => {
            w.history.mark("a coordinator lost a race");
            let op = match &task.effect {
                Effect::CreateChain { record } | Effect::WriteChain { record, .. } => {
                    Op::GetChain(record.id.clone())
                }
                Effect::WriteSlot { key, .. } => Op::GetSlot(*key),
                Effect::Publish { entry, .. } => Op::GetRegistry(entry.name.clone()),
                Effect::Quarantine { node, .. } => Op::GetNode(node.clone()),
                Effect::PublishOffer { .. } | Effect::Verify { .. } => {
                    return finished(w, c, task.key, Vec::new());
                }
            };
            go_on(w, c, Task { step: Step::Reread, ..task }, op);
        }
        (Step::Reread, reply) => {
            let facts = reread(&task.effect, reply);
            finished(w, c, task.key, facts);
        }
        _ => finished(w, c, task.key, Vec::new()),
    }
}

fn written(w: &mut World, c: usize, task: Task, revision: Revision) {
    let facts = match task.effect {
        Effect::WriteChain { record, guard, notes, .. }
            if w.mutant == Some(Mutant::UnlockFirst) && task.step == Step::Write =>
        {
            let effect = Effect::WriteChain { record, expected: revision, guard, notes };
            let judged_at = w.now;
            return write(w, c, Task { effect, step: Step::SecondWrite, ..task }, judged_at);
        }
        Effect::CreateChain { record } | Effect::WriteChain { record, .. } => {
            vec![Event::ChainSeen { record: Box::new(record), revision }]
        }
        Effect::WriteSlot { key, slot, .. } => vec![Event::SlotSeen { key, slot, revision }],
        Effect::Publish { entry, .. } => vec![Event::RegistrySeen { entry, revision }],
        // The watch tells what was written.
        Effect::Quarantine { .. } | Effect::PublishOffer { .. } | Effect::Verify { .. } => Vec::new(),
    };
    finished(w, c, task.key, facts);
}

/// What came of a lost race.
fn reread(effect: &Effect, reply: Reply) -> Vec<Event> {
    match (effect, reply) {
        (_, Reply::Chain(Some((revision, record)))) => {
            vec![Event::ChainSeen { record: Box::new(record.as_ref().clone()), revision }]
        }
        (Effect::CreateChain { record } | Effect::WriteChain { record, .. }, Reply::Chain(None)) => {
            vec![Event::ChainGone { id: ChainId::clone(&record.id) }]
        }
        (Effect::WriteSlot { key, .. }, Reply::Slot { found, .. }) => slot_facts(*key, found),
        (_, Reply::Registry(Some((revision, entry)))) => {
            vec![Event::RegistrySeen { entry: Box::new(entry.as_ref().clone()), revision }]
        }
        (_, Reply::Node(Some((revision, record)))) => {
            vec![Event::NodeDecided { record: Box::new(record.as_ref().clone()), revision }]
        }
        _ => Vec::new(),
    }
}

fn slot_facts(key: JobKey, found: Option<(Revision, Slot)>) -> Vec<Event> {
    match found {
        Some((revision, slot)) => vec![Event::SlotSeen { key, slot, revision }],
        None => vec![Event::SlotGone { key, revision: Revision(u64::MAX) }],
    }
}

/// The store has answered the coordinator.
pub fn on_stored(w: &mut World, c: usize, token: u64) {
    let Some(task) = w.coordinators[c].tasks.remove(&token) else { return };
    let up = w.store.is_up(w.now);
    match &task.effect {
        Effect::Verify { key, attempt, manifest, .. } => {
            let outcome = if w.mutant == Some(Mutant::NoVerify) {
                Verified::Whole
            } else if !up {
                Verified::Unavailable { at: now(w, c), message: "503 Slow Down".into() }
            } else if w.store.is_whole(key, *attempt, manifest) {
                Verified::Whole
            } else {
                Verified::Broken("an object is shorter than the manifest says".into())
            };
            let fact = Event::Verified { key: *key, attempt: *attempt, outcome };
            finished(w, c, task.key, vec![fact]);
        }
        _ if !up => finished(w, c, task.key, Vec::new()),
        Effect::WriteSlot { key, slot, .. } => match w.store.known(key) {
            (Some(committed), _) => {
                let committed = committed.clone();
                w.history.mark("a lost commit was found in the store");
                finished(w, c, task.key, vec![Event::ResultFound { committed }]);
            }
            (None, Some(attempt)) if attempt >= slot.attempt => {
                w.history.mark("a used number was found in the store");
                let fact = Event::AttemptUsed { key: *key, attempt };
                finished(w, c, task.key, vec![fact]);
            }
            _ => {
                let judged_at = w.now;
                write(w, c, Task { step: Step::Write, ..task }, judged_at);
            }
        },
        Effect::Publish { entry, .. } => {
            w.store.mark(&entry.committed);
            let judged_at = w.now;
            write(w, c, Task { step: Step::Write, ..task }, judged_at);
        }
        _ => finished(w, c, task.key, Vec::new()),
    }
}

fn brief(effect: &Effect) -> String {
    match effect {
        Effect::CreateChain { record } => format!("create chain {}", record.id),
        Effect::WriteChain { record, expected, notes, .. } => {
            let notes: Vec<String> =
                notes.iter().map(|n| format!("{} {} {}", n.job.name, n.kind.as_str(), n.text)).collect();
            format!("write chain {} over {}: {}", record.id, expected.0, notes.join("; "))
        }
        Effect::WriteSlot { key, slot, expected, .. } => {
            let over = expected.map_or(0, |r| r.0);
            format!(
                "write slot {} over {over}: {} o{} {:?}",
                key.0.short(),
                slot.attempt,
                slot.offer,
                slot.state
            )
        }
        Effect::PublishOffer { offer } => {
            format!("publish {} {} o{} to {}", offer.job.name, offer.attempt, offer.offer, offer.place.node)
        }
        Effect::Verify { key, attempt, .. } => format!("verify {} {attempt}", key.0.short()),
        Effect::Publish { entry, .. } => format!("publish {} of {}", entry.name, entry.plan),
        Effect::Quarantine { node, reason, .. } => format!("quarantine {node}: {reason}"),
    }
}
