//! One machine: the real agent core with its loop, its devices and its trainer children.

pub mod machine;
mod perform;
pub mod trainer;

pub use machine::SimDevice;

use super::World;
use super::bus::{self, Caller, Op, Reply};
use super::checks;
use super::gate::Gate;
use super::queue::{Actor, Msg};
use super::scenario::DeviceSpec;
use agent_core::{Change, Changed, Event, FinishedChild, Options, PhaseLimits, RunId, State, apply, due};
use common::ids::{Incarnation, NodeId, Phase};
use common::job_key::JobKey;
use common::units::Millis;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use trainer::Child;

pub struct Node {
    pub id: NodeId,
    pub devices: Vec<SimDevice>,
    /// `None` while the process is down.
    pub agent: Option<State>,
    pub life: u32,
    pub gate: Gate,
    clock_base: u64,
    /// Keys of the effects under way.
    flight: BTreeSet<String>,
    tasks: BTreeMap<u64, perform::Task>,
    next_token: u64,
    /// Finished results on the disk that the store may lack.
    pub kept: BTreeMap<JobKey, FinishedChild>,
    pub children: BTreeMap<u32, Child>,
    next_pid: u32,
    /// Children that ended and whose end is not told yet.
    pub ends_on_their_way: BTreeSet<RunId>,
    beat_seq: u64,
    /// When the agent learned that an attempt is not its own any more.
    pub fenced: BTreeMap<RunId, u64>,
}

impl Node {
    pub fn new(n: usize, devices: &[DeviceSpec]) -> Node {
        Node {
            id: NodeId::new(format!("n{n}")).expect("a short name of letters and digits"),
            devices: devices.iter().map(SimDevice::new).collect(),
            agent: None,
            life: 0,
            gate: Gate::default(),
            clock_base: 0,
            flight: BTreeSet::new(),
            tasks: BTreeMap::new(),
            next_token: 0,
            kept: BTreeMap::new(),
            children: BTreeMap::new(),
            next_pid: 100 * n as u32 + 1,
            ends_on_their_way: BTreeSet::new(),
            beat_seq: 0,
            fenced: BTreeMap::new(),
        }
    }
}

fn options(id: &NodeId, life: u32) -> Options {
    let limits = PhaseLimits {
        no_progress: Millis::from_secs(20),
        no_progress_preparing: Millis::from_secs(25),
        total: Millis::from_secs(120),
    };
    Options {
        fetch_timeout: Millis::from_secs(60),
        upload_timeout: Millis::from_secs(90),
        refused_timeout: Millis::from_secs(25),
        save_timeout: Millis::from_secs(20),
        stop_grace: Millis::from_secs(10),
        limits: Phase::ALL.into_iter().map(|p| (p, limits)).collect(),
        ..Options::new(id.clone(), Incarnation(u64::from(life)))
    }
}

pub fn now(w: &World, n: usize) -> Millis {
    Millis(w.now + w.nodes[n].clock_base)
}

pub fn start(w: &mut World, n: usize) {
    w.trace(|| format!("agent {n} starts"));
    let clock_base = w.rng.range(0, 1_000_000);
    let node = &mut w.nodes[n];
    node.life += 1;
    node.clock_base = clock_base;
    node.beat_seq = 0;
    node.agent = Some(State::new(options(&node.id, node.life)));
    let (actor, life) = (Actor::Node(n), node.life);
    w.disturb(actor, 5_000);
    w.tell(1, actor, life, Msg::Start);
    w.tell(5, actor, life, Msg::Sample);
    let offset = w.rng.range(300, 5_000);
    w.tell(offset, actor, life, Msg::SendBeat);
    w.tell(offset, actor, life, Msg::Tick);
    super::offers::backlog(w, n);
}

/// The process ends, killed or by itself: children die with it, a moment later.
pub fn crash(w: &mut World, n: usize) {
    let node = &mut w.nodes[n];
    node.agent = None;
    node.life += 1;
    node.gate.inbox.clear();
    node.gate.paused = false;
    node.flight.clear();
    node.tasks.clear();
    node.ends_on_their_way.clear();
    node.fenced.clear();
    let pids: Vec<u32> = node.children.keys().copied().collect();
    for pid in pids {
        trainer::kill(w, n, pid);
    }
}

pub fn on_message(w: &mut World, n: usize, msg: Msg) {
    let (actor, life) = (Actor::Node(n), w.nodes[n].life);
    match msg {
        Msg::Offer { offer, tries } => {
            if w.nodes[n].agent.is_some() && w.reaches_bus(actor) {
                tell(w, n, Event::Offer(Box::new(offer.as_ref().clone())));
            } else if tries < 5 {
                let delay = w.rng.range(1_000, 8_000);
                w.tell(delay, actor, life, Msg::Offer { offer, tries: tries + 1 });
            }
        }
        Msg::Reply { token, reply } => {
            let reply = if w.reaches_bus(actor) { reply } else { Reply::Unavailable };
            perform::on_reply(w, n, token, reply);
        }
        Msg::Done { token } => perform::on_done(w, n, token),
        Msg::Agent(event) => {
            if let Event::Exited { run, .. } = *event {
                perform::child_end_told(w, n, run);
            }
            tell(w, n, *event);
        }
        Msg::Start => {
            let token = perform::listing(w, n);
            bus::send(w, Caller { actor, life, token }, Op::ListSlots);
        }
        Msg::Sample => {
            w.tell(2_000, actor, life, Msg::Sample);
            machine::sample(w, n);
        }
        Msg::SendBeat => {
            w.tell(5_000, actor, life, Msg::SendBeat);
            send_beat(w, n);
        }
        Msg::Tick => {
            let again = w.rng.range(700, 1_200);
            w.tell(again, actor, life, Msg::Tick);
            let busy = w.nodes[n].agent.as_ref().is_some_and(|s| !s.runs.is_empty() || !s.orphans.is_empty());
            if busy {
                tell(w, n, Event::Tick);
            }
        }
        _ => {}
    }
}

fn send_beat(w: &mut World, n: usize) {
    w.nodes[n].beat_seq += 1;
    let node = &w.nodes[n];
    let Some(state) = &node.agent else { return };
    if !w.reaches_bus(Actor::Node(n)) {
        return;
    }
    let beat = Arc::new(agent_core::beat(state, Millis(w.now + node.clock_base), node.beat_seq));
    for c in 0..w.coordinators.len() {
        let life = w.coordinators[c].life;
        let delay = w.rng.range(1, 40);
        w.tell(delay, Actor::Coordinator(c), life, Msg::Beat(beat.clone()));
    }
}

/// Tells the core a fact and does what is due then.
pub fn tell(w: &mut World, n: usize, event: Event) {
    let now = now(w, n);
    let Some(state) = w.nodes[n].agent.as_mut() else { return };
    if let Ok(Changed(changes)) = apply(state, now, event) {
        for change in changes {
            w.trace(|| format!("agent {n}: {change:?}"));
            match change {
                Change::Fenced { run, .. } => {
                    w.history.mark("an agent was fenced");
                    let at = w.now;
                    w.nodes[n].fenced.insert(run, at);
                }
                Change::OrphanFound { .. } => w.history.mark("a restarted agent found its slot"),
                Change::Stopping { .. } => w.history.mark("a child was stopped"),
                _ => {}
            }
        }
    }
    checks::agent_state(w, n);
    decide(w, n);
}

/// Everything that is due and not under way is begun.
pub fn decide(w: &mut World, n: usize) {
    let now = now(w, n);
    let Some(state) = w.nodes[n].agent.as_ref() else { return };
    if state.is_finished() {
        // A clean stop: the process ends and is started anew.
        crash(w, n);
        let delay = w.rng.range(500, 5_000);
        let start = super::faults::Fault::Start { actor: Actor::Node(n) };
        w.after(delay, super::queue::Ev::Fault(start));
        return;
    }
    for effect in due(state, now) {
        let key = effect.key();
        if w.nodes[n].flight.insert(key.clone()) {
            perform::begin(w, n, key, effect);
        }
    }
}
