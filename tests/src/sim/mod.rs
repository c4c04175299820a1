//! Seeded simulator of the whole cluster: the two real cores, and everything around them played.
//!
//! One seed is one run: a virtual clock in milliseconds, one queue of events, one source of chance, no thread
//! and no real time. A seed draws a fleet, plans and faults ([`scenario`]); at a drawn moment all faults end,
//! and from there the run must come to rest with every job over.
//!
//! | module | plays |
//! |--|--|
//! | [`rng`], [`queue`], [`gate`] | chance, time, and what stands between an actor and the world |
//! | [`scenario`], [`faults`], [`losses`] | what a seed means; the fault menu; what the bus forgets |
//! | [`bus`], [`offers`], [`store`] | NATS and the object store |
//! | [`coordinator`] | `coord serve`: core, loop, interpreter |
//! | [`agent`] | `node-agent`: core, loop, interpreter, devices, trainer children |
//! | [`admin`] | plans, applied and cancelled |
//! | [`checks`] | I1 to I12, at every write, after every `apply`, now and then, and at rest |
//! | [`mutant`] | rules broken on purpose |
//! | [`runner`] | many seeds on all cores, and the line that repeats a failure |

pub mod admin;
pub mod agent;
pub mod bus;
pub mod checks;
pub mod coordinator;
pub mod faults;
pub mod gate;
pub mod losses;
pub mod mutant;
pub mod offers;
pub mod queue;
pub mod rng;
pub mod runner;
pub mod scenario;
pub mod store;

pub use mutant::Mutant;
pub use runner::{Outcome, run};

use bus::Bus;
use checks::History;
use coordinator::Coordinator;
use faults::{Fault, Menu};
use queue::{Actor, Ev, Msg, Queue};
use rng::Rng;
use scenario::Scenario;
use store::Store;

/// Virtual time within which a healed world must come to rest.
const REST_WITHIN_MS: u64 = 3_600_000;

/// Everything there is in one run.
pub struct World {
    pub now: u64,
    pub rng: Rng,
    queue: Queue,
    pub scenario: Scenario,
    /// Faults that may happen now; empty once healed.
    pub menu: Menu,
    /// All faults are over.
    pub calm: bool,
    pub bus: Bus,
    pub store: Store,
    pub coordinators: Vec<Coordinator>,
    pub nodes: Vec<agent::Node>,
    pub admin: admin::Admin,
    pub history: History,
    pub mutant: Option<Mutant>,
    /// The first broken rule.
    pub failure: Option<String>,
    pub tracing: bool,
    pub events: u64,
}

impl World {
    pub fn new(seed: u64, mutant: Option<Mutant>, tracing: bool) -> World {
        let mut rng = Rng::new(seed);
        let scenario = Scenario::of(&mut rng);
        let mut w = World {
            now: 1_000,
            rng,
            queue: Queue::default(),
            menu: scenario.menu.clone(),
            calm: false,
            bus: Bus::default(),
            store: Store::default(),
            coordinators: (0..scenario.coordinators).map(|_| Coordinator::default()).collect(),
            nodes: scenario.nodes.iter().enumerate().map(|(n, d)| agent::Node::new(n, d)).collect(),
            admin: admin::Admin::default(),
            history: History::default(),
            mutant,
            failure: None,
            tracing,
            events: 0,
            scenario,
        };
        w.trace(|| "seed begins".to_owned());
        for c in 0..w.coordinators.len() {
            let delay = w.rng.range(0, 2_000);
            w.after(delay, Ev::Fault(Fault::Start { actor: Actor::Coordinator(c) }));
        }
        for n in 0..w.nodes.len() {
            let delay = w.rng.range(0, 4_000);
            w.after(delay, Ev::Fault(Fault::Start { actor: Actor::Node(n) }));
        }
        for (at, fault) in w.scenario.faults.clone() {
            w.after(at, Ev::Fault(fault));
        }
        w.after(w.scenario.heal_at, Ev::Fault(Fault::Heal));
        admin::schedule(&mut w);
        w.after(5_000, Ev::Audit);
        w
    }

    /// Plays until everything rests; `Err` with the broken rule.
    pub fn play(&mut self) -> Result<(), String> {
        let deadline = self.scenario.heal_at + REST_WITHIN_MS;
        while let Some((time, ev)) = self.queue.pop() {
            self.now = time;
            self.events += 1;
            self.happen(ev);
            if let Some(failure) = self.failure.take() {
                return Err(format!("at {time} ms: {failure}"));
            }
            if self.history.at_rest {
                return Ok(());
            }
            if self.now > deadline {
                return Err(format!("liveness: not at rest: {}", checks::rest::who_is_not(self)));
            }
        }
        Err("the queue ran dry".to_owned())
    }

    fn happen(&mut self, ev: Ev) {
        match ev {
            Ev::Arrive { from, op, answer } => bus::arrive(self, from, op, answer),
            Ev::To { actor, life, msg } => self.deliver(actor, life, msg),
            Ev::Child { node, pid } => agent::trainer::step(self, node, pid),
            Ev::ChildKilled { node, pid } => agent::trainer::killed(self, node, pid),
            Ev::Admin(ev) => admin::happen(self, ev),
            Ev::Fault(fault) => faults::happen(self, fault),
            Ev::Audit => checks::audit::round(self),
        }
    }

    pub fn deliver(&mut self, actor: Actor, life: u32, msg: Msg) {
        if self.life(actor) != life && !matches!(msg, Msg::Offer { .. }) {
            return;
        }
        if self.is_paused(actor) {
            return self.keep_for_later(actor, msg);
        }
        match (actor, msg) {
            (Actor::Coordinator(c), Msg::Reply { token, reply }) => {
                coordinator::on_reply(self, c, token, reply);
            }
            (Actor::Coordinator(c), Msg::Stored { token }) => coordinator::on_stored(self, c, token),
            (Actor::Coordinator(c), msg) => coordinator::on_message(self, c, msg),
            (Actor::Node(n), msg) => agent::on_message(self, n, msg),
        }
    }

    pub fn after(&mut self, delay_ms: u64, ev: Ev) {
        let tie = self.rng.draw();
        self.queue.push(self.now + delay_ms, tie, ev);
    }

    pub fn tell(&mut self, delay_ms: u64, actor: Actor, life: u32, msg: Msg) {
        self.after(delay_ms, Ev::To { actor, life, msg });
    }

    /// A broken rule ends the run.
    pub fn violated(&mut self, rule: &str, text: impl std::fmt::Display) {
        self.failure.get_or_insert_with(|| format!("{rule}: {text}"));
    }

    pub fn trace(&self, line: impl FnOnce() -> String) {
        if self.tracing {
            println!("{:>9} {}", self.now, line());
        }
    }

    /// Into the digest of the run.
    pub fn record(&mut self, bucket: u64, revision: common::ids::Revision) {
        self.history.digest(&[self.now, bucket, revision.0]);
    }
}
