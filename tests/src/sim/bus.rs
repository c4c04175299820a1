//! The simulated bus: buckets with revisions and compare-and-swap, watches that fall behind, outages in which
//! a call fails though it may have been done.

use super::World;
use super::checks::writes;
use super::coordinator::WatchKey;
use super::offers::{self, Offers};
use super::queue::{Actor, Ev, Msg};
use common::chain::ChainRecord;
use common::ids::{ChainId, JobName, NodeId, PlanId, Revision};
use common::job_key::JobKey;
use common::messages::JobOffer;
use common::node::NodeRecord;
use common::plan::Plan;
use common::registry::RegistryEntry;
use common::slot::Slot;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who waits for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    pub actor: Actor,
    pub life: u32,
    pub token: u64,
}

#[derive(Debug, Clone)]
pub enum Op {
    GetChain(ChainId),
    GetSlot(JobKey),
    GetRegistry(JobName),
    GetNode(NodeId),
    ListSlots,
    Info,
    /// `judged_at`: when the slot it rests on was read.
    PutChain {
        record: Arc<ChainRecord>,
        expected: Option<Revision>,
        judged_at: u64,
    },
    PutSlot {
        key: JobKey,
        slot: Slot,
        expected: Option<Revision>,
    },
    PutRegistry {
        entry: Arc<RegistryEntry>,
        expected: Option<Revision>,
    },
    PutNode {
        record: Arc<NodeRecord>,
        expected: Option<Revision>,
    },
    Publish(Arc<JobOffer>),
}

#[derive(Debug, Clone)]
pub enum Reply {
    Written(Revision),
    /// Somebody else was first.
    Lost,
    Chain(Option<(Revision, Arc<ChainRecord>)>),
    Slot {
        read_at: u64,
        found: Option<(Revision, Slot)>,
    },
    Registry(Option<(Revision, Arc<RegistryEntry>)>),
    Node(Option<(Revision, Arc<NodeRecord>)>),
    Slots(Vec<(JobKey, Revision, Slot)>),
    Done,
    Unavailable,
}

#[derive(Debug, Clone)]
pub struct SlotEntry {
    pub revision: Revision,
    pub slot: Slot,
    pub written_at: u64,
    /// The value before, and when it was written.
    pub before: Option<(Revision, Slot, u64)>,
    /// Times of all its writes, oldest first.
    pub writes: Vec<u64>,
}

#[derive(Default)]
pub struct Bus {
    pub plans: BTreeMap<PlanId, (Revision, Arc<Plan>)>,
    pub chains: BTreeMap<ChainId, (Revision, Arc<ChainRecord>)>,
    pub slots: BTreeMap<JobKey, SlotEntry>,
    pub registry: BTreeMap<JobName, (Revision, Arc<RegistryEntry>)>,
    pub nodes: BTreeMap<NodeId, (Revision, Arc<NodeRecord>)>,
    pub offers: Offers,
    /// How often a bucket has lost something.
    pub losses: u32,
    /// The bucket of slots has lost writes at some time.
    pub has_lost_slots: bool,
    revision: u64,
    down_until: u64,
    outages: Vec<(u64, u64)>,
}

impl Bus {
    pub fn is_up(&self, now: u64) -> bool {
        now >= self.down_until
    }

    pub fn up_again_at(&self) -> u64 {
        self.down_until
    }

    pub fn go_down(&mut self, now: u64, for_ms: u64) {
        let from = self.down_until.max(now);
        self.down_until = self.down_until.max(now + for_ms);
        if from < self.down_until {
            self.outages.push((from, self.down_until));
        }
    }

    pub fn come_back(&mut self, now: u64) {
        self.down_until = self.down_until.min(now);
        self.outages.iter_mut().for_each(|(_, to)| *to = (*to).min(now));
    }

    /// How long the bus answered between two moments.
    pub fn uptime(&self, from: u64, to: u64) -> u64 {
        let away = self.outages.iter().map(|(a, b)| (*b).min(to).saturating_sub((*a).max(from))).sum();
        to.saturating_sub(from).saturating_sub(away)
    }

    fn next_revision(&mut self) -> Revision {
        self.revision += 1;
        Revision(self.revision)
    }
}

/// Sends a request; the answer comes as [`Msg::Reply`].
pub fn send(w: &mut World, from: Caller, op: Op) {
    let timeout = w.rng.range(1_000, 5_000);
    let reachable = w.reaches_bus(from.actor);
    if !reachable || (w.menu.lost_ops && w.rng.chance(25)) {
        w.disturb(from.actor, timeout);
        answer(w, timeout, from, Reply::Unavailable);
        return;
    }
    if w.menu.lost_ops && w.rng.chance(25) {
        // Done, at once or long after, but the answer does not come back.
        w.disturb(from.actor, timeout);
        answer(w, timeout, from, Reply::Unavailable);
        let late = if w.rng.chance(300) { 15_000 } else { 30 };
        let delay = w.rng.range(1, late);
        w.after(delay, Ev::Arrive { from, op, answer: false });
        return;
    }
    let delay = w.rng.range(1, 15);
    w.after(delay, Ev::Arrive { from, op, answer: true });
}

pub fn arrive(w: &mut World, from: Caller, op: Op, wants_answer: bool) {
    if !w.bus.is_up(w.now) {
        if wants_answer {
            let timeout = w.rng.range(1_000, 5_000);
            answer(w, timeout, from, Reply::Unavailable);
        }
        return;
    }
    let reply = perform(w, op);
    if wants_answer {
        let delay = w.rng.range(1, 15);
        answer(w, delay, from, reply);
    }
}

fn answer(w: &mut World, delay: u64, to: Caller, reply: Reply) {
    w.tell(delay, to.actor, to.life, Msg::Reply { token: to.token, reply });
}

fn perform(w: &mut World, op: Op) -> Reply {
    let read_at = w.now;
    match op {
        Op::Info => Reply::Done,
        Op::GetChain(id) => Reply::Chain(w.bus.chains.get(&id).cloned()),
        Op::GetRegistry(name) => Reply::Registry(w.bus.registry.get(&name).cloned()),
        Op::GetNode(node) => Reply::Node(w.bus.nodes.get(&node).cloned()),
        Op::GetSlot(key) => {
            let stale = w.menu.stale_reads && w.rng.chance(100);
            let entry = w.bus.slots.get(&key);
            let found = entry.map(|e| match &e.before {
                Some((revision, slot, _)) if stale => (*revision, slot.clone()),
                _ => (e.revision, e.slot.clone()),
            });
            Reply::Slot { read_at, found }
        }
        Op::ListSlots => {
            Reply::Slots(w.bus.slots.iter().map(|(k, e)| (*k, e.revision, e.slot.clone())).collect())
        }
        Op::PutChain { record, expected, judged_at } => put_chain(w, record, expected, judged_at),
        Op::PutSlot { key, slot, expected } => put_slot(w, key, slot, expected),
        Op::PutRegistry { entry, expected } => {
            let known = w.bus.registry.get(&entry.name);
            if known.map(|(revision, _)| *revision) != expected {
                return Reply::Lost;
            }
            writes::registry(w, &entry);
            let revision = w.bus.next_revision();
            let key = WatchKey::Registry(entry.name.clone());
            w.bus.registry.insert(entry.name.clone(), (revision, entry));
            w.record(3, revision);
            notify(w, key);
            Reply::Written(revision)
        }
        Op::PutNode { record, expected } => {
            let known = w.bus.nodes.get(&record.node);
            if known.map(|(revision, _)| *revision) != expected {
                return Reply::Lost;
            }
            Reply::Written(decide_node(w, record))
        }
        Op::Publish(offer) => {
            offers::publish(w, offer);
            Reply::Done
        }
    }
}

fn put_chain(w: &mut World, record: Arc<ChainRecord>, expected: Option<Revision>, judged_at: u64) -> Reply {
    let known = w.bus.chains.get(&record.id).cloned();
    if known.as_ref().map(|(revision, _)| *revision) != expected {
        return Reply::Lost;
    }
    writes::chain(w, known.as_ref().map(|(_, before)| before.as_ref()), &record, judged_at);
    let revision = w.bus.next_revision();
    let key = WatchKey::Chain(record.id.clone());
    w.bus.chains.insert(record.id.clone(), (revision, record));
    w.record(1, revision);
    notify(w, key);
    Reply::Written(revision)
}

fn put_slot(w: &mut World, key: JobKey, slot: Slot, expected: Option<Revision>) -> Reply {
    let known = w.bus.slots.get(&key).cloned();
    if known.as_ref().map(|e| e.revision) != expected && w.mutant != Some(super::Mutant::SlotPut) {
        return Reply::Lost;
    }
    writes::slot(w, &key, known.as_ref().map(|e| &e.slot), &slot);
    let revision = w.bus.next_revision();
    let written_at = w.now;
    let mut writes = known.as_ref().map_or(Vec::new(), |e| e.writes.clone());
    writes.push(written_at);
    let before = known.map(|e| (e.revision, e.slot, e.written_at));
    w.bus.slots.insert(key, SlotEntry { revision, slot, written_at, before, writes });
    w.record(2, revision);
    notify(w, WatchKey::Slot(key));
    Reply::Written(revision)
}

/// Writes a plan as `coord apply` does; `false` when it was there.
pub fn create_plan(w: &mut World, plan: Arc<Plan>) -> bool {
    if w.bus.plans.contains_key(&plan.id) {
        return false;
    }
    let revision = w.bus.next_revision();
    let key = WatchKey::Plan(plan.id.clone());
    w.bus.plans.insert(plan.id.clone(), (revision, plan));
    w.record(0, revision);
    notify(w, key);
    true
}

/// Writes a chain from outside the coordinators, as `coord cancel` does.
pub fn replace_chain(w: &mut World, record: Arc<ChainRecord>, expected: Revision) -> bool {
    let judged_at = w.now;
    matches!(put_chain(w, record, Some(expected), judged_at), Reply::Written(_))
}

/// A decision about a node, over whatever was decided before.
pub fn decide_node(w: &mut World, record: Arc<NodeRecord>) -> Revision {
    let revision = w.bus.next_revision();
    let node = record.node.clone();
    w.bus.nodes.insert(node.clone(), (revision, record));
    w.record(4, revision);
    notify(w, WatchKey::Node(node));
    revision
}

/// Tells every coordinator that watches: in order per key, in any order over keys, now and then twice.
fn notify(w: &mut World, key: WatchKey) {
    let Some(fact) = super::coordinator::current(&w.bus, &key) else { return };
    for c in 0..w.coordinators.len() {
        if w.coordinators[c].state.is_none() {
            continue;
        }
        let slow = w.menu.slow_watch && w.rng.chance(80);
        let stalled = slow && w.rng.chance(100);
        let delay = match (stalled, slow) {
            (true, _) => w.rng.range(10_000, 45_000),
            (_, true) => w.rng.range(100, 8_000),
            _ => w.rng.range(1, 30),
        };
        let last = w.coordinators[c].told_at.get(&key).copied().unwrap_or(0);
        let at = (w.now + delay).max(last + 1);
        w.coordinators[c].told_at.insert(key.clone(), at);
        let (actor, life) = (Actor::Coordinator(c), w.coordinators[c].life);
        w.tell(at - w.now, actor, life, Msg::Fact(fact.clone()));
        if w.menu.slow_watch && w.rng.chance(50) {
            let again = w.rng.range(1, 10_000);
            w.tell(at - w.now + again, actor, life, Msg::Fact(fact.clone()));
        }
    }
}
