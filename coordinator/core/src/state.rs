//! What the coordinator has observed. Nothing else: no intention, no half-done change.

use crate::index::Index;
use crate::options::Options;
use crate::placement::index::RoomIndex;
use crate::standing::{StandingSeen, Suspicion};
use common::chain::ChainRecord;
use common::ids::{Attempt, ChainId, DeviceId, JobName, NodeId, Phase, PlanId, Revision};
use common::job_key::JobKey;
use common::messages::NodeBeat;
use common::plan::Plan;
use common::registry::{CommittedRef, RegistryEntry};
use common::slot::{Slot, SlotState};
use common::units::Millis;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone)]
pub struct State {
    pub options: Options,
    /// All buckets have been read to their end once; before that nothing is decided.
    pub loaded: bool,
    /// Since when: nodes may have had no time yet to say what they work for.
    pub loaded_at: Millis,
    /// The bus answers. While it does not, silence proves nothing and no lease runs out.
    pub bus_up: bool,
    pub plans: BTreeMap<PlanId, Plan>,
    pub chains: BTreeMap<ChainId, ChainSeen>,
    /// Chains with a job that is not over; what `due` walks through.
    pub active: BTreeSet<ChainId>,
    pub slots: BTreeMap<JobKey, SlotSeen>,
    pub registry: BTreeMap<JobName, RegistrySeen>,
    pub nodes: BTreeMap<NodeId, NodeSeen>,
    /// What was decided about them.
    pub standings: BTreeMap<NodeId, StandingSeen>,
    /// What was seen to speak against them since.
    pub suspects: BTreeMap<NodeId, Suspicion>,
    /// What the store said about a finished attempt.
    pub verified: BTreeMap<(JobKey, Attempt), Verified>,
    /// Results by key, from chains and registry: a key is never run again once it is here.
    pub committed: BTreeMap<JobKey, CommittedRef>,
    /// Offers whose message went out, by this process.
    pub published: BTreeMap<JobKey, (Attempt, u32)>,
    /// Newest attempt of a key that has left something in the store, as an offer of it came to know.
    pub used: BTreeMap<JobKey, Attempt>,
    /// When a node last declined a job.
    pub declined: BTreeMap<(JobKey, NodeId), Millis>,
    /// Follows from slots and nodes.
    pub rooms: RoomIndex,
    /// Follows from all the others, so that no decision walks through the history.
    pub index: Index,
}

#[derive(Debug, Clone)]
pub struct ChainSeen {
    pub record: ChainRecord,
    /// Keys of the jobs whose parents all have results. A key is a digest over a whole configuration: taken
    /// once for each record that is seen, not at each decision.
    pub keys: BTreeMap<Phase, JobKey>,
    pub revision: Revision,
    /// When this revision arrived here; back-offs count from it.
    pub seen_at: Millis,
}

#[derive(Debug, Clone)]
pub struct SlotSeen {
    pub slot: Slot,
    pub revision: Revision,
    /// When this revision arrived here; leases and offers count from it.
    pub seen_at: Millis,
}

#[derive(Debug, Clone)]
pub struct RegistrySeen {
    pub entry: RegistryEntry,
    pub revision: Revision,
}

#[derive(Debug, Clone)]
pub struct NodeSeen {
    pub beat: NodeBeat,
    pub heard_at: Millis,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// Manifest and every object it names are there.
    Whole,
    /// Something is missing or differs: this attempt has no result.
    Broken(String),
    /// The store could not be asked; ask again later.
    Unavailable { at: Millis, message: String },
}

impl ChainSeen {
    pub fn new(record: ChainRecord, revision: Revision, seen_at: Millis) -> ChainSeen {
        let keys = record.jobs.iter().filter_map(|(phase, job)| Some((*phase, job.key()?))).collect();
        ChainSeen { record, keys, revision, seen_at }
    }
}

impl SlotSeen {
    /// An offer that was not taken in time: to be made again.
    pub fn is_stale_offer(&self, now: Millis, options: &Options) -> bool {
        matches!(self.slot.state, SlotState::Offered { .. })
            && now.since(self.seen_at) >= options.offer_timeout
    }
}

impl State {
    pub fn new(options: Options) -> State {
        State {
            options,
            loaded: false,
            loaded_at: Millis(0),
            bus_up: true,
            plans: BTreeMap::new(),
            chains: BTreeMap::new(),
            active: BTreeSet::new(),
            slots: BTreeMap::new(),
            registry: BTreeMap::new(),
            nodes: BTreeMap::new(),
            standings: BTreeMap::new(),
            suspects: BTreeMap::new(),
            verified: BTreeMap::new(),
            committed: BTreeMap::new(),
            published: BTreeMap::new(),
            used: BTreeMap::new(),
            declined: BTreeMap::new(),
            rooms: RoomIndex::default(),
            index: Index::default(),
        }
    }

    pub fn is_reachable(&self, node: &NodeId, now: Millis) -> bool {
        self.nodes.get(node).is_some_and(|n| now.since(n.heard_at) <= self.options.unreachable)
    }

    /// A node in reach that says it works for `attempt` of `key` or a later one. Only slots give the right to
    /// run; but where the bus has lost a slot, its holder is about to write it anew.
    pub fn holder_heard(&self, key: &JobKey, attempt: Attempt, now: Millis) -> Option<&NodeId> {
        let works = |seen: &NodeSeen| seen.beat.running.iter().any(|r| r.key == *key && r.attempt >= attempt);
        self.index
            .workers(key)
            .find(|node| self.nodes.get(node).is_some_and(works) && self.is_reachable(node, now))
    }

    /// Chains that are not over, oldest plan first: of two that hold the same job, the first runs it.
    pub fn active_chains(&self) -> Vec<&ChainSeen> {
        let mut chains: Vec<&ChainSeen> = self.active.iter().filter_map(|id| self.chains.get(id)).collect();
        chains.sort_by(|a, b| {
            (a.record.plan_created, &a.record.id).cmp(&(b.record.plan_created, &b.record.id))
        });
        chains
    }

    /// Memory that slots keep on a device, whoever runs them.
    pub fn slots_on<'a>(
        &'a self,
        node: &'a NodeId,
        device: &'a DeviceId,
    ) -> impl Iterator<Item = (&'a JobKey, &'a SlotSeen)> {
        let here = self.rooms.on(node).filter_map(|key| Some((key, self.slots.get(key)?)));
        here.filter(move |(_, seen)| seen.slot.state.reserved().is_some_and(|p| p.device == *device))
    }
}
