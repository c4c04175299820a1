//! Which slots sit on which node, and which nodes may have room: kept with each fact, so that a decision on a
//! large and full fleet looks at the few devices that changed.

use super::room::{Room, Size};
use crate::state::{NodeSeen, State};
use common::ids::NodeId;
use common::job_key::JobKey;
use common::messages::{DeviceReport, NodeBeat};
use common::slot::SlotState;
use common::units::{Mib, Millis};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoomIndex {
    holding: BTreeMap<NodeId, BTreeSet<JobKey>>,
    holder_of: BTreeMap<JobKey, NodeId>,
    roomy: BTreeSet<NodeId>,
    sizes: BTreeMap<Size, usize>,
    /// When the fleet was last searched for nodes to forget.
    pub(crate) looked_at: Millis,
}

impl RoomIndex {
    /// Jobs whose slots keep memory on a node.
    pub fn on(&self, node: &NodeId) -> impl Iterator<Item = &JobKey> {
        self.holding.get(node).into_iter().flatten()
    }

    /// Nodes that may have room.
    pub fn roomy(&self) -> &BTreeSet<NodeId> {
        &self.roomy
    }

    /// Every size of device there is.
    pub fn sizes(&self) -> impl Iterator<Item = &Size> {
        self.sizes.keys()
    }
}

/// To be called after the slot of a job was changed or removed.
pub(crate) fn slot_changed(state: &mut State, key: &JobKey) {
    let holder = state.slots.get(key).and_then(|s| s.slot.state.reserved()).map(|p| p.node.clone());
    let before = match &holder {
        Some(node) => state.rooms.holder_of.insert(*key, node.clone()),
        None => state.rooms.holder_of.remove(key),
    };
    if before != holder {
        if let Some(node) = &before
            && let Some(keys) = state.rooms.holding.get_mut(node)
        {
            keys.remove(key);
            if keys.is_empty() {
                state.rooms.holding.remove(node);
            }
        }
        if let Some(node) = &holder {
            state.rooms.holding.entry(node.clone()).or_default().insert(*key);
        }
    }
    // Also without a move: an offer that was taken up keeps its device for good.
    let touched = if before == holder { vec![holder] } else { vec![before, holder] };
    touched.into_iter().flatten().for_each(|node| look_for_room(state, &node));
}

/// To be called after a beat took the place of `before`.
pub(crate) fn node_changed(state: &mut State, node: &NodeId, before: Option<NodeBeat>) {
    before.iter().flat_map(|beat| &beat.devices).for_each(|device| {
        let size = Room::of_report(node, device).size();
        if let Some(count) = state.rooms.sizes.get_mut(&size) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.rooms.sizes.remove(&size);
            }
        }
    });
    for device in state.nodes.get(node).iter().flat_map(|seen| &seen.beat.devices) {
        *state.rooms.sizes.entry(Room::of_report(node, device).size()).or_default() += 1;
    }
    look_for_room(state, node);
}

fn look_for_room(state: &mut State, node: &NodeId) {
    if state.nodes.get(node).is_some_and(|seen| may_have_room(state, node, seen)) {
        if !state.rooms.roomy.contains(node) {
            state.rooms.roomy.insert(node.clone());
        }
    } else {
        state.rooms.roomy.remove(node);
    }
}

/// Whether a node may have room for anything, now or as soon as an offer it was made goes stale.
fn may_have_room(state: &State, node: &NodeId, seen: &NodeSeen) -> bool {
    let report_has_room = |report: &DeviceReport| {
        let (mut jobs, mut mib) = (0u32, Mib(0));
        for (_, seen) in state.slots_on(node, &report.id) {
            match &seen.slot.state {
                SlotState::Offered { .. } => return true,
                state => mib = mib.saturating_add(state.reserved().map_or(Mib(0), |p| p.reserve_mib)),
            }
            jobs = jobs.saturating_add(1);
        }
        jobs < report.max_jobs && mib < report.budget_mib
    };
    seen.beat.devices.iter().any(report_has_room)
}

/// What the index would be, had it been made from the observations at once.
pub(crate) fn anew(state: &State) -> RoomIndex {
    let mut fresh = State::new(state.options.clone());
    fresh.slots = state.slots.clone();
    fresh.nodes = state.nodes.clone();
    state.slots.keys().for_each(|key| slot_changed(&mut fresh, key));
    state.nodes.keys().for_each(|node| node_changed(&mut fresh, node, None));
    fresh.rooms.looked_at = state.rooms.looked_at;
    fresh.rooms
}
