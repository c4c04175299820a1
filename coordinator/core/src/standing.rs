//! What was decided about nodes, and what speaks against one: fast failures of distinct jobs, one after the other.
//!
//! The failures are counted by each coordinator from what it sees happen, and are not kept: one that starts anew
//! counts from nothing. The quarantine itself is a record, which lasts until somebody lifts it.

use crate::effect::Effect;
use crate::state::{NodeSeen, SlotSeen, State};
use common::ids::{NodeId, Revision};
use common::job_key::JobKey;
use common::messages::DeviceReport;
use common::node::{NodeRecord, NodeStanding};
use common::slot::{Cause, Place, Slot, SlotState};
use common::units::Millis;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub struct StandingSeen {
    pub record: NodeRecord,
    pub revision: Revision,
    /// When this revision arrived here; a drain's deadline counts from it.
    pub seen_at: Millis,
}

/// Jobs whose attempts failed soon after their start, with what was told of each.
pub type Suspicion = BTreeMap<JobKey, String>;

impl State {
    pub fn is_closed_by_decision(&self, node: &NodeId) -> bool {
        self.standings.get(node).is_some_and(|seen| seen.record.standing != NodeStanding::Open)
    }

    /// Why nothing new is placed on a node by decision of somebody, if so.
    pub fn closed_by_decision(&self, node: &NodeId) -> Option<String> {
        self.standings.get(node)?.record.closed_because()
    }
}

/// A newer decision: whatever was held against the node before is settled by it.
pub(crate) fn decided(state: &mut State, now: Millis, record: NodeRecord, revision: Revision) {
    let node = record.node.clone();
    state.suspects.remove(&node);
    state.standings.insert(node, StandingSeen { record, revision, seen_at: now });
}

/// To be called before the slot of a job takes the place of `before`. What is only read at the start, by a
/// coordinator that did not see it happen, does not count.
pub(crate) fn slot_moves(state: &mut State, key: &JobKey, slot: &Slot) {
    match (&slot.state, state.slots.get(key)) {
        (SlotState::Finished { place, .. }, _) => drop(state.suspects.remove(&place.node)),
        (SlotState::Failed { place, failure }, Some(before)) if state.loaded && is_news(before, slot) => {
            let fast = failure.trained_ms.is_some_and(|ms| ms < state.options.fast_failure.0);
            if failure.cause == Cause::Infrastructure && fast {
                let first_line = failure.message.lines().next().unwrap_or_default();
                let told = format!("{}: {first_line}", slot.job.name);
                state.suspects.entry(place.node.clone()).or_default().insert(*key, told);
            }
        }
        _ => {}
    }
}

fn is_news(before: &SlotSeen, slot: &Slot) -> bool {
    let open = matches!(before.slot.state, SlotState::Offered { .. } | SlotState::Held { .. });
    open && before.slot.attempt == slot.attempt
}

/// Nodes to be quarantined. One whose devices no other node can stand in for never is: there a job fails by its
/// own budget and tells why, instead of waiting for ever.
pub(crate) fn quarantines(state: &State, now: Millis) -> Vec<Effect> {
    if state.options.quarantine_after == 0 {
        return Vec::new();
    }
    let enough = |s: &Suspicion| s.len() >= state.options.quarantine_after as usize;
    let bad = state.suspects.iter().filter(|(_, suspicion)| enough(suspicion));
    let one = bad.filter(|(node, _)| !state.is_closed_by_decision(node) && can_be_spared(state, now, node));
    // One at a time, so that two bad ones do not each count on the other.
    let effect = one.take(1).map(|(node, suspicion)| {
        let mut told: Vec<&str> = suspicion.values().map(String::as_str).collect();
        told.sort_unstable();
        let reason =
            format!("{} jobs in a row failed soon after their start: {}", told.len(), told.join("; "));
        let expected = state.standings.get(node).map(|seen| seen.revision);
        Effect::Quarantine { node: node.clone(), reason, expected }
    });
    effect.collect()
}

/// Whether every device of the node has a stand-in, as large at least, on another node that takes jobs.
fn can_be_spared(state: &State, now: Millis, node: &NodeId) -> bool {
    let takes_jobs = |other: &NodeId| {
        other != node && state.is_reachable(other, now) && !state.is_closed_by_decision(other)
    };
    let others =
        state.nodes.iter().filter(|(other, seen)| takes_jobs(other) && seen.beat.closed_because.is_none());
    let there: Vec<&DeviceReport> = others.flat_map(|(_, seen)| sound(seen)).collect();
    let stands_in = |ours: &DeviceReport| {
        there.iter().any(|theirs| theirs.kind == ours.kind && theirs.budget_mib >= ours.budget_mib)
    };
    !there.is_empty() && state.nodes.get(node).is_some_and(|seen| sound(seen).all(stands_in))
}

fn sound(seen: &NodeSeen) -> impl Iterator<Item = &DeviceReport> {
    seen.beat.devices.iter().filter(|device| device.fault.is_none())
}

/// Why a drain wants this attempt to yield now, and how long it may take to save.
pub(crate) fn drain_asks(state: &State, now: Millis, place: &Place) -> Option<(String, Millis)> {
    let seen = state.standings.get(&place.node)?;
    let due = now.since(seen.seen_at) >= seen.record.standing.asks_after()?;
    let NodeStanding::Draining { grace_ms, .. } = seen.record.standing else { return None };
    let grace = grace_ms.map_or(state.options.yield_grace, Millis);
    due.then(|| (format!("{} is draining: {}", place.node, seen.record.reason), grace))
}
