//! The invariants of `ARCHITECTURE.md`, held against the run: some by the cores' own checks after every
//! `apply`, the others here, against the whole history.
//!
//! | file | checks |
//! |--|--|
//! | here | after every `apply` and every decision: the cores' own, I3 |
//! | `writes` | at every write of the bus and every start of a child: I1, I2, I3, I4, I11, leases, fences |
//! | `plans` | each plan: I8, I10 |
//! | `audit` | every few seconds: I5, I6, I12 |
//! | `rest` | at the end: I5, I9, nothing left over |

pub mod audit;
pub mod plans;
pub mod rest;
pub mod writes;

use super::World;
use super::coordinator;
use common::ids::{DeviceId, NodeId};
use common::job_key::JobKey;
use common::registry::CommittedRef;
use common::slot::SlotState;
use coordinator_core::{Effect, invariants};
use std::collections::BTreeMap;

/// What no single moment shows.
#[derive(Default)]
pub struct History {
    /// Every commit there ever was.
    pub commits: BTreeMap<JobKey, CommittedRef>,
    pub at_rest: bool,
    /// How often the run came by a place worth coming by: what no seed reaches, no seed checks.
    pub marks: BTreeMap<&'static str, u64>,
    digest: u64,
}

impl History {
    pub fn mark(&mut self, place: &'static str) {
        *self.marks.entry(place).or_default() += 1;
    }

    /// FNV-1a over words: enough to tell two runs apart.
    pub fn digest(&mut self, words: &[u64]) {
        for word in words {
            self.digest = (self.digest ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub fn finish(&self) -> u64 {
        self.digest
    }
}

/// After every `apply` of a coordinator.
pub fn coordinator_state(w: &mut World, c: usize) {
    let Some(state) = w.coordinators[c].state.as_ref() else { return };
    if let Some(broken) = invariants::check(state).into_iter().next() {
        w.violated(broken.invariant, format!("coordinator {c}: {}", broken.text));
    }
}

/// After every `apply` of an agent.
pub fn agent_state(w: &mut World, n: usize) {
    let Some(state) = w.nodes[n].agent.as_ref() else { return };
    if let Err(broken) = agent_core::invariants::check(state) {
        w.violated("agent", format!("{n}: {broken}"));
    }
}

/// I3, as the coordinator can know it: whatever stands already, a new offer leaves its device within budget.
/// Reckoned anew from slots and beats, not with the core's own placement.
pub fn offers(w: &mut World, c: usize, effects: &[Effect]) {
    let now = coordinator::now(w, c);
    let Some(state) = w.coordinators[c].state.as_ref() else { return };
    let mut fresh: BTreeMap<(NodeId, DeviceId), (u64, u64)> = BTreeMap::new();
    let mut offered = Vec::new();
    for effect in effects {
        let Effect::WriteSlot { key, slot, .. } = effect else { continue };
        let SlotState::Offered { place } = &slot.state else { continue };
        let sum = fresh.entry((place.node.clone(), place.device.clone())).or_default();
        *sum = (sum.0 + place.reserve_mib.0, sum.1 + 1);
        offered.push(*key);
    }
    let mut broken = None;
    for ((node, device), (new_mib, new_jobs)) in fresh {
        let stands = state.slots_on(&node, &device).filter(|(key, _)| !offered.contains(key));
        // An offer that nobody took in time stands no more.
        let stands = stands.filter(|(_, seen)| !seen.is_stale_offer(now, &state.options));
        let stands = stands.filter_map(|(_, seen)| seen.slot.state.reserved());
        let (mib, jobs) = stands.fold((new_mib, new_jobs), |(m, j), p| (m + p.reserve_mib.0, j + 1));
        let report = state.nodes.get(&node).and_then(|s| s.beat.devices.iter().find(|d| d.id == device));
        let fits = report.is_some_and(|d| {
            d.foreign_mib.is_some_and(|f| mib + f.0 <= d.budget_mib.0) && jobs <= u64::from(d.max_jobs)
        });
        if !fits || !state.is_reachable(&node, now) {
            broken = Some(format!("offers of {mib} MiB, {jobs} jobs on {node} {device}: {report:?}"));
        }
    }
    if let Some(broken) = broken {
        w.violated("I3 never over-committed", broken);
    }
    let broken = w.coordinators[c].state.as_ref().map(|s| invariants::check_fleet(s, now));
    if let Some(broken) = broken.into_iter().flatten().next() {
        w.violated(broken.invariant, broken.text);
    }
}
