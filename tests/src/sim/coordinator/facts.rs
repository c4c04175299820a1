//! What watches and listings of the buckets tell.

use crate::sim::bus::Bus;
use common::chain::ChainRecord;
use common::ids::{ChainId, JobName, NodeId, PlanId, Revision};
use common::job_key::JobKey;
use common::node::NodeRecord;
use common::plan::Plan;
use common::registry::RegistryEntry;
use common::slot::Slot;
use coordinator_core::Event;
use std::sync::Arc;

/// A key of one of the buckets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchKey {
    Plan(PlanId),
    Chain(ChainId),
    Slot(JobKey),
    Registry(JobName),
    Node(NodeId),
}

/// A value that a watch told.
#[derive(Debug, Clone)]
pub enum Fact {
    Plan(Arc<Plan>),
    Chain(Arc<ChainRecord>, Revision),
    Slot(JobKey, Slot, Revision),
    Registry(Arc<RegistryEntry>, Revision),
    Node(Arc<NodeRecord>, Revision),
}

impl Fact {
    pub fn key(&self) -> WatchKey {
        match self {
            Fact::Plan(plan) => WatchKey::Plan(plan.id.clone()),
            Fact::Chain(record, _) => WatchKey::Chain(record.id.clone()),
            Fact::Slot(key, ..) => WatchKey::Slot(*key),
            Fact::Registry(entry, _) => WatchKey::Registry(entry.name.clone()),
            Fact::Node(record, _) => WatchKey::Node(record.node.clone()),
        }
    }

    pub fn into_event(self) -> Event {
        match self {
            Fact::Plan(plan) => Event::PlanSeen { plan: Box::new(plan.as_ref().clone()) },
            Fact::Chain(record, revision) => {
                Event::ChainSeen { record: Box::new(record.as_ref().clone()), revision }
            }
            Fact::Slot(key, slot, revision) => Event::SlotSeen { key, slot, revision },
            Fact::Registry(entry, revision) => {
                Event::RegistrySeen { entry: Box::new(entry.as_ref().clone()), revision }
            }
            Fact::Node(record, revision) => {
                Event::NodeDecided { record: Box::new(record.as_ref().clone()), revision }
            }
        }
    }
}

/// What a key holds now.
pub fn current(bus: &Bus, key: &WatchKey) -> Option<Fact> {
    Some(match key {
        WatchKey::Plan(id) => Fact::Plan(bus.plans.get(id)?.1.clone()),
        WatchKey::Chain(id) => bus.chains.get(id).map(|(r, record)| Fact::Chain(record.clone(), *r))?,
        WatchKey::Slot(key) => bus.slots.get(key).map(|e| Fact::Slot(*key, e.slot.clone(), e.revision))?,
        WatchKey::Registry(name) => {
            bus.registry.get(name).map(|(r, entry)| Fact::Registry(entry.clone(), *r))?
        }
        WatchKey::Node(node) => bus.nodes.get(node).map(|(r, record)| Fact::Node(record.clone(), *r))?,
    })
}

/// All that one bucket holds, as facts.
pub fn bucket(bus: &Bus, which: usize) -> Vec<Fact> {
    match which {
        0 => bus.plans.values().map(|(_, plan)| Fact::Plan(plan.clone())).collect(),
        1 => bus.chains.values().map(|(r, record)| Fact::Chain(record.clone(), *r)).collect(),
        2 => bus.slots.iter().map(|(k, e)| Fact::Slot(*k, e.slot.clone(), e.revision)).collect(),
        3 => bus.registry.values().map(|(r, entry)| Fact::Registry(entry.clone(), *r)).collect(),
        _ => bus.nodes.values().map(|(r, record)| Fact::Node(record.clone(), *r)).collect(),
    }
}
