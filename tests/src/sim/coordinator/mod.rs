//! One `coord serve`: the real core, with the shell's loop and interpreter played on the virtual clock.

mod facts;
mod perform;

pub use facts::{Fact, WatchKey, bucket, current};
pub use perform::{on_reply, on_stored};

use super::World;
use super::bus::{self, Caller, Op};
use super::checks;
use super::gate::Gate;
use super::mutant::Mutant;
use super::queue::{Actor, Msg};
use common::chain::JobState;
use common::registry::CommittedRef;
use common::slot::SlotState;
use common::units::Millis;
use coordinator_core::{Changed, Effect, EffectKey, Event, Options, State, apply, due, transition};
use std::collections::{BTreeMap, BTreeSet};

/// Rest of an effect that changed nothing, as in the shell.
const COOL_DOWN_MS: u64 = 300;
/// A loop that turns each second and did not for this long was stopped.
const STANDSTILL_MS: u64 = 3_000;
const PROBE_EVERY_MS: u64 = 2_000;
pub const BUCKETS: usize = 5;

#[derive(Default)]
pub struct Coordinator {
    /// `None` while the process is down.
    pub state: Option<State>,
    pub life: u32,
    pub gate: Gate,
    /// Its clock began at another moment than everybody else's.
    clock_base: u64,
    /// When the newest news of a key is on its way until: order holds per key.
    pub told_at: BTreeMap<WatchKey, u64>,
    /// Effects under way (`None`) or resting until.
    keys: BTreeMap<EffectKey, Option<u64>>,
    tasks: BTreeMap<u64, perform::Task>,
    next_token: u64,
    buckets_left: usize,
    decision_on_its_way: bool,
    probe: Option<u64>,
    /// When the loop last turned.
    turned_at: u64,
    said: BTreeSet<String>,
    /// Losses of the bus before it loaded its state.
    pub losses_seen: u32,
}

pub fn options() -> Options {
    // Few jobs run at once here: with the usual three hardly any node would be quarantined.
    Options { backoff_max: Millis::from_secs(20), quarantine_after: 2, ..Options::default() }
}

pub fn now(w: &World, c: usize) -> Millis {
    Millis(w.now + w.coordinators[c].clock_base)
}

pub fn start(w: &mut World, c: usize) {
    w.trace(|| format!("coordinator {c} starts"));
    let clock_base = w.rng.range(0, 1_000_000);
    let us = &mut w.coordinators[c];
    let (life, gate) = (us.life + 1, std::mem::take(&mut us.gate));
    let gate = Gate { paused: false, inbox: Vec::new(), ..gate };
    *us = Coordinator { life, gate, clock_base, buckets_left: BUCKETS, ..Coordinator::default() };
    us.state = Some(State::new(options()));
    us.turned_at = w.now;
    us.losses_seen = w.bus.losses;
    let actor = Actor::Coordinator(c);
    for which in 0..BUCKETS {
        let delay = w.rng.range(5, 800);
        w.tell(delay, actor, life, Msg::Snapshot(which));
    }
    let offset = w.rng.range(100, 2_000);
    w.tell(offset, actor, life, Msg::Tick);
    w.tell(offset, actor, life, Msg::Probe);
}

pub fn crash(w: &mut World, c: usize) {
    let us = &mut w.coordinators[c];
    us.state = None;
    us.life += 1;
    us.gate.inbox.clear();
    us.gate.paused = false;
}

/// Something other than an answer was told to this coordinator.
pub fn on_message(w: &mut World, c: usize, msg: Msg) {
    let (actor, life) = (Actor::Coordinator(c), w.coordinators[c].life);
    match msg {
        Msg::Decide => {
            w.coordinators[c].decision_on_its_way = false;
            decide(w, c);
        }
        Msg::Tick => {
            let again = w.rng.range(700, 1_500);
            w.tell(again, actor, life, Msg::Tick);
            decide(w, c);
        }
        Msg::Probe => {
            w.tell(PROBE_EVERY_MS, actor, life, Msg::Probe);
            if w.coordinators[c].probe.is_none() {
                let token = next_token(w, c);
                w.coordinators[c].probe = Some(token);
                bus::send(w, Caller { actor, life, token }, Op::Info);
            }
        }
        Msg::Fact(fact) if w.reaches_bus(actor) => take_facts(w, c, vec![fact.into_event()]),
        Msg::Fact(fact) => {
            let key = fact.key();
            catch_up_later(w, actor, life, Msg::CatchUp(key));
        }
        Msg::CatchUp(key) if w.reaches_bus(actor) => {
            let facts = current(&w.bus, &key).map(Fact::into_event);
            take_facts(w, c, facts.into_iter().collect());
        }
        Msg::Snapshot(which) if w.reaches_bus(actor) => {
            let facts = bucket(&w.bus, which).into_iter().map(Fact::into_event).collect();
            take_facts(w, c, facts);
            w.coordinators[c].buckets_left -= 1;
            if w.coordinators[c].buckets_left == 0 {
                take_facts(w, c, vec![Event::Loaded]);
            }
        }
        again @ (Msg::CatchUp(_) | Msg::Snapshot(_)) => catch_up_later(w, actor, life, again),
        Msg::Beat(beat) if w.reaches_bus(actor) => {
            take_facts(w, c, vec![Event::Beat { beat: Box::new(beat.as_ref().clone()) }]);
        }
        _ => {}
    }
}

/// A watch goes on when the bus is in reach again, with what its keys hold then.
fn catch_up_later(w: &mut World, actor: Actor, life: u32, msg: Msg) {
    let back_at = w.in_reach_at(actor);
    let delay = back_at.saturating_sub(w.now) + w.rng.range(1, 1_500);
    w.tell(delay, actor, life, msg);
}

/// What the probe found: whether the bus answers.
fn probed(w: &mut World, c: usize, answers: bool) {
    let up = w.coordinators[c].state.as_ref().is_some_and(|s| s.bus_up);
    if answers != up && w.mutant != Some(Mutant::LeaseWhileAway) {
        let event = if answers { Event::BusBack } else { Event::BusLost };
        w.trace(|| format!("coordinator {c}: {event:?}"));
        take_facts(w, c, vec![event]);
    }
}

/// Applies facts and thinks again soon.
fn take_facts(w: &mut World, c: usize, facts: Vec<Event>) {
    apply_facts(w, c, facts);
    if !w.coordinators[c].decision_on_its_way {
        w.coordinators[c].decision_on_its_way = true;
        let (delay, life) = (w.rng.range(0, 4), w.coordinators[c].life);
        w.tell(delay, Actor::Coordinator(c), life, Msg::Decide);
    }
}

fn apply_facts(w: &mut World, c: usize, facts: Vec<Event>) -> bool {
    let now = now(w, c);
    let mut moved = false;
    for fact in facts {
        let Some(state) = w.coordinators[c].state.as_mut() else { return false };
        moved |= apply(state, now, fact) == Ok(Changed::Yes);
        if moved {
            checks::coordinator_state(w, c);
        }
    }
    moved
}

/// Everything that is due and not under way is begun.
pub fn decide(w: &mut World, c: usize) {
    let still_ms = w.now - std::mem::replace(&mut w.coordinators[c].turned_at, w.now);
    if still_ms > STANDSTILL_MS && w.mutant != Some(Mutant::BlindToStandstill) {
        w.history.mark("a coordinator noticed that it had stood still");
        apply_facts(w, c, vec![Event::StoodStill]);
    }
    let now = now(w, c);
    let Some(state) = w.coordinators[c].state.as_ref() else { return };
    let mut effects = due(state, now);
    if w.mutant == Some(Mutant::AnyAttempt) {
        effects.extend(commits_of_any_attempt(state));
    }
    checks::decision(w, c, &effects);
    for effect in effects {
        begin(w, c, effect);
    }
}

fn begin(w: &mut World, c: usize, effect: Effect) {
    let key = effect.key();
    match w.coordinators[c].keys.get(&key) {
        Some(None) => return,
        Some(Some(rests_until)) if w.now < *rests_until => return,
        _ => {}
    }
    if w.mutant == Some(Mutant::SaidOnce) && !w.coordinators[c].said.insert(format!("{effect:?}")) {
        return;
    }
    w.coordinators[c].keys.insert(key.clone(), None);
    perform::begin(w, c, key, effect);
}

/// An effect came to its end with these facts.
fn finished(w: &mut World, c: usize, key: EffectKey, facts: Vec<Event>) {
    let moved = apply_facts(w, c, facts);
    let until = w.now + COOL_DOWN_MS;
    let us = &mut w.coordinators[c];
    if moved {
        us.keys.remove(&key);
    } else {
        us.keys.insert(key, Some(until));
    }
    take_facts(w, c, Vec::new());
}

fn next_token(w: &mut World, c: usize) -> u64 {
    w.coordinators[c].next_token += 1;
    w.coordinators[c].next_token
}

/// Nothing is under way and nothing due.
pub fn is_at_rest(w: &World, c: usize) -> bool {
    let us = &w.coordinators[c];
    us.state.as_ref().is_some_and(|s| s.loaded && s.bus_up && due(s, now(w, c)).is_empty())
        && us.tasks.is_empty()
}

fn commits_of_any_attempt(state: &State) -> Vec<Effect> {
    let mut effects = Vec::new();
    for chain in state.active_chains() {
        for (phase, job) in &chain.record.jobs {
            let (Some(key), JobState::Open { attempt, .. }) = (job.key(), &job.state) else { continue };
            let Some(seen) = state.slots.get(&key) else { continue };
            if let SlotState::Finished { manifest, duration_ms, place } = &seen.slot.state
                && seen.slot.attempt != *attempt
            {
                let committed = CommittedRef { key, attempt: seen.slot.attempt, manifest: *manifest };
                let node = Some(place.node.clone());
                let (record, notes) =
                    transition::commit(&chain.record, *phase, committed, node, *duration_ms);
                let expected = chain.revision;
                effects.push(Effect::WriteChain { record, expected, guard: None, notes });
            }
        }
    }
    effects
}
