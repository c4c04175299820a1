//! The fault menu: what may go wrong, when it does, and how all of it ends.

use super::World;
use super::queue::{Actor, Ev, Msg};
use super::rng::Rng;
use super::{admin, agent, bus, coordinator, losses};
use common::node::{DecidedBy, NodeRecord, NodeStanding};
use common::units::UnixMs;
use std::sync::Arc;

/// Faults of single operations; which of them a seed has.
#[derive(Debug, Clone, Default)]
pub struct Menu {
    /// A request is lost, its answer is lost though it was done, or it is done long after.
    pub lost_ops: bool,
    /// A read tells the value before the newest.
    pub stale_reads: bool,
    /// Watches fall behind and say things twice.
    pub slow_watch: bool,
    /// Offers come late, twice, in another order, or after having been lost.
    pub bad_offers: bool,
    pub store_slow: bool,
    /// An upload that is reported whole and is not.
    pub store_torn: bool,
    /// The device probe fails now and then, or can not tell foreign use.
    pub blind_probe: bool,
    /// Of 1000 attempts, how many go wrong by themselves.
    pub child_faults_permille: u64,
    kinds: Vec<Kind>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    CrashCoordinator,
    PauseCoordinator,
    CutCoordinator,
    CrashAgent,
    PauseAgent,
    CutAgent,
    RestartAgent,
    Cordon,
    Decision,
    BusDown,
    /// An outage too short for everybody to notice.
    Stutter,
    StoreDown,
    Foreign,
    LoseSlots,
    LoseNewestSlots,
    LoseRegistry,
}

const KINDS: [Kind; 16] = [
    Kind::CrashCoordinator,
    Kind::PauseCoordinator,
    Kind::CutCoordinator,
    Kind::CrashAgent,
    Kind::PauseAgent,
    Kind::CutAgent,
    Kind::RestartAgent,
    Kind::Cordon,
    Kind::Decision,
    Kind::BusDown,
    Kind::Stutter,
    Kind::StoreDown,
    Kind::Foreign,
    Kind::LoseSlots,
    Kind::LoseNewestSlots,
    Kind::LoseRegistry,
];

#[derive(Debug, Clone)]
pub enum Fault {
    /// kill -9; up again after `back_ms`.
    Crash {
        actor: Actor,
        back_ms: u64,
    },
    /// SIGSTOP, then SIGCONT.
    Pause {
        actor: Actor,
        for_ms: u64,
    },
    Resume {
        actor: Actor,
        life: u32,
    },
    /// The actor does not reach the bus.
    Cut {
        actor: Actor,
        for_ms: u64,
    },
    /// SIGTERM of an agent, started again after.
    Shutdown {
        node: usize,
    },
    Cordon {
        node: usize,
        for_ms: u64,
    },
    /// An operator closes a node, or opens it.
    Decide {
        node: usize,
        standing: NodeStanding,
    },
    /// All nodes take jobs again, and again after a while: what was quarantined is looked at.
    OpenAll,
    /// No leader: nobody is answered.
    BusDown {
        for_ms: u64,
    },
    StoreDown {
        for_ms: u64,
    },
    /// The bucket of slots comes back without what was written in the last `newest_ms`.
    LoseSlots {
        newest_ms: u64,
    },
    /// The bucket of results in use comes back empty.
    LoseRegistry,
    /// A coordinator loads everything again.
    Reload {
        coordinator: usize,
        life: u32,
    },
    /// Foreign processes take or give back memory of a device.
    Foreign {
        node: usize,
        device: usize,
        used_permille: u64,
    },
    Start {
        actor: Actor,
    },
    /// Everything heals.
    Heal,
}

impl Menu {
    pub fn of(rng: &mut Rng) -> Menu {
        if rng.chance(30) {
            return Menu::default(); // a calm run must end well too
        }
        Menu {
            lost_ops: rng.chance(400),
            stale_reads: rng.chance(100),
            slow_watch: rng.chance(400),
            bad_offers: rng.chance(400),
            store_slow: rng.chance(300),
            store_torn: rng.chance(200),
            blind_probe: rng.chance(200),
            child_faults_permille: *rng.pick(&[0, 0, 80, 250, 500]),
            kinds: KINDS.into_iter().filter(|_| rng.chance(350)).collect(),
        }
    }

    pub fn schedule(
        &self,
        rng: &mut Rng,
        coordinators: usize,
        nodes: usize,
        heal_at: u64,
    ) -> Vec<(u64, Fault)> {
        let mut faults = Vec::new();
        for kind in &self.kinds {
            for _ in 0..rng.range(1, 3) {
                let at = rng.range(2_000, heal_at);
                let c = Actor::Coordinator(rng.index(coordinators));
                let n = Actor::Node(rng.index(nodes));
                let node = rng.index(nodes);
                faults.push((
                    at,
                    match kind {
                        Kind::CrashCoordinator => Fault::Crash { actor: c, back_ms: rng.range(500, 30_000) },
                        Kind::PauseCoordinator => Fault::Pause { actor: c, for_ms: rng.range(1_000, 40_000) },
                        Kind::CutCoordinator => Fault::Cut { actor: c, for_ms: rng.range(8_000, 50_000) },
                        Kind::CrashAgent => Fault::Crash { actor: n, back_ms: rng.range(500, 45_000) },
                        Kind::PauseAgent => Fault::Pause { actor: n, for_ms: rng.range(1_000, 40_000) },
                        Kind::CutAgent => Fault::Cut { actor: n, for_ms: rng.range(1_000, 60_000) },
                        Kind::RestartAgent => Fault::Shutdown { node },
                        Kind::Cordon => Fault::Cordon { node, for_ms: rng.range(1_000, 40_000) },
                        Kind::Decision => Fault::Decide { node, standing: standing(rng) },
                        Kind::BusDown => Fault::BusDown { for_ms: rng.range(9_000, 45_000) },
                        Kind::Stutter => Fault::BusDown { for_ms: rng.range(200, 5_000) },
                        Kind::LoseSlots => Fault::LoseSlots { newest_ms: u64::MAX },
                        Kind::LoseNewestSlots => Fault::LoseSlots { newest_ms: rng.range(100, 20_000) },
                        Kind::LoseRegistry => Fault::LoseRegistry,
                        Kind::StoreDown => Fault::StoreDown { for_ms: rng.range(1_000, 40_000) },
                        Kind::Foreign => Fault::Foreign {
                            node,
                            device: rng.index(2),
                            used_permille: *rng.pick(&[0, 300, 600, 950]),
                        },
                    },
                ));
            }
        }
        faults
    }
}

fn standing(rng: &mut Rng) -> NodeStanding {
    match rng.range(0, 5) {
        0 => NodeStanding::Open,
        1 => NodeStanding::Cordoned,
        2 => NodeStanding::Quarantined,
        _ => NodeStanding::Draining {
            after_ms: *rng.pick(&[0, 5_000, 30_000]),
            grace_ms: *rng.pick(&[None, Some(5_000)]),
        },
    }
}

pub fn happen(w: &mut World, fault: Fault) {
    w.trace(|| format!("FAULT {fault:?}"));
    match fault {
        Fault::Crash { actor, back_ms } => {
            crash(w, actor);
            w.after(back_ms, Ev::Fault(Fault::Start { actor }));
        }
        Fault::Start { actor } => start(w, actor),
        Fault::Pause { actor, for_ms } => {
            let life = w.life(actor);
            w.set_paused(actor, true);
            w.after(for_ms, Ev::Fault(Fault::Resume { actor, life }));
        }
        Fault::Resume { actor, life } if w.life(actor) == life => resume(w, actor),
        Fault::Resume { .. } => {}
        Fault::Cut { actor, for_ms } => w.cut(actor, for_ms),
        Fault::Shutdown { node } => {
            let life = w.nodes[node].life;
            let event = Box::new(agent_core::Event::Shutdown);
            w.tell(0, Actor::Node(node), life, Msg::Agent(event));
        }
        Fault::Cordon { node, for_ms } => {
            let life = w.nodes[node].life;
            let because = Some("cordoned".to_owned());
            w.tell(0, Actor::Node(node), life, Msg::Agent(Box::new(agent_core::Event::Cordon(because))));
            w.tell(for_ms, Actor::Node(node), life, Msg::Agent(Box::new(agent_core::Event::Cordon(None))));
        }
        Fault::Decide { node, standing } => decide(w, node, standing),
        Fault::OpenAll => {
            let closed = |n: &usize| is_closed(w, *n);
            let closed: Vec<usize> = (0..w.nodes.len()).filter(closed).collect();
            closed.into_iter().for_each(|n| decide(w, n, NodeStanding::Open));
            admin::resume_all(w);
            w.after(30_000, Ev::Fault(Fault::OpenAll));
        }
        Fault::BusDown { for_ms } => w.bus.go_down(w.now, for_ms),
        Fault::LoseSlots { newest_ms } => losses::slots(w, newest_ms),
        Fault::LoseRegistry => losses::registry(w),
        Fault::Reload { coordinator, life } => losses::reload(w, coordinator, life),
        Fault::StoreDown { for_ms } => w.store.down_until = w.store.down_until.max(w.now + for_ms),
        Fault::Foreign { node, device, used_permille } => {
            let devices = &mut w.nodes[node].devices;
            let device = device % devices.len();
            devices[device].foreign_mib = devices[device].spec.total_mib * used_permille / 1000;
        }
        Fault::Heal => heal(w),
    }
}

fn is_closed(w: &World, n: usize) -> bool {
    let decided = w.bus.nodes.get(&w.nodes[n].id);
    decided.is_some_and(|(_, record)| record.standing != NodeStanding::Open)
}

fn decide(w: &mut World, n: usize, standing: NodeStanding) {
    let (node, since) = (w.nodes[n].id.clone(), UnixMs(w.now));
    let record = NodeRecord { node, standing, reason: "by hand".into(), by: DecidedBy::Operator, since };
    bus::decide_node(w, Arc::new(record));
}

fn crash(w: &mut World, actor: Actor) {
    match actor {
        Actor::Coordinator(c) => coordinator::crash(w, c),
        Actor::Node(n) => agent::crash(w, n),
    }
}

fn start(w: &mut World, actor: Actor) {
    match actor {
        Actor::Coordinator(c) if w.coordinators[c].state.is_none() => coordinator::start(w, c),
        Actor::Node(n) if w.nodes[n].agent.is_none() => agent::start(w, n),
        _ => {}
    }
}

/// Goes on with the state of before: half of the time something is decided before any news is read.
fn resume(w: &mut World, actor: Actor) {
    if !w.is_paused(actor) {
        return;
    }
    w.set_paused(actor, false);
    w.disturb(actor, 0);
    if w.rng.chance(500) {
        match actor {
            Actor::Coordinator(c) => coordinator::decide(w, c),
            Actor::Node(n) => agent::decide(w, n),
        }
    }
    let life = w.life(actor);
    for msg in w.take_inbox(actor) {
        w.deliver(actor, life, msg);
    }
}

fn heal(w: &mut World) {
    w.calm = true;
    w.bus.come_back(w.now);
    w.store.down_until = 0;
    w.menu = Menu::default();
    let actors: Vec<Actor> = (0..w.coordinators.len())
        .map(Actor::Coordinator)
        .chain((0..w.nodes.len()).map(Actor::Node))
        .collect();
    for actor in actors {
        w.uncut(actor);
        resume(w, actor);
        start(w, actor);
    }
    for n in 0..w.nodes.len() {
        w.nodes[n].devices.iter_mut().for_each(|d| d.foreign_mib = 0);
        let life = w.nodes[n].life;
        w.tell(0, Actor::Node(n), life, Msg::Agent(Box::new(agent_core::Event::Cordon(None))));
    }
    happen(w, Fault::OpenAll);
}
