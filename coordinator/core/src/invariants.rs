//! What must hold whatever happened (numbers I1-I12 as in the list of invariants in `ARCHITECTURE.md`).
//! Checked after every `apply` in tests and in debug builds; a violation is our own bug, never an input's.

use crate::effect::Effect;
use crate::index;
use crate::state::State;
use common::chain::JobState;
use common::ids::{ChainId, DeviceId, NodeId};
use common::slot::SlotState;
use common::units::{Mib, Millis};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub text: String,
}

/// Every violation in the state as it is.
pub fn check(state: &State) -> Vec<Violation> {
    let mut found = Vec::new();
    one_commit_per_key(state, &mut found);
    parents_before_children(state, &mut found);
    nothing_waits_for_nothing(state, &mut found);
    budgets_hold(state, &mut found);
    ledgers_hold(state, &mut found);
    if let Err(text) = index::check(state) {
        found.push(Violation { invariant: "I7 the index follows from the observations", text });
    }
    found
}

/// I1: all chains that hold a result of a key name the same attempt and manifest.
fn one_commit_per_key(state: &State, found: &mut Vec<Violation>) {
    let mut seen = BTreeMap::new();
    for chain in state.chains.values() {
        for (phase, job) in &chain.record.jobs {
            let Some(result) = job.state.result() else { continue };
            let first = seen.entry(result.key).or_insert((result.clone(), chain.record.id.clone()));
            if first.0 != *result {
                let text = format!(
                    "{} of {} and {}: {:?} and {:?}",
                    phase, first.1, chain.record.id, first.0, result
                );
                found.push(Violation { invariant: "I1 one commit per key", text });
            }
        }
    }
}

/// I4: a job is open or has a result only when each parent has the result its inputs name.
fn parents_before_children(state: &State, found: &mut Vec<Violation>) {
    for chain in state.chains.values() {
        for (phase, job) in &chain.record.jobs {
            let started = matches!(job.state, JobState::Open { .. } | JobState::Committed { .. });
            for parent in job.spec.inputs.parents.keys().filter(|_| started) {
                let result = chain.record.jobs.get(parent).and_then(|p| p.state.result());
                if result.is_none() {
                    let text = format!("{} {phase} is {:?} without {parent}", chain.record.id, job.state);
                    found.push(Violation { invariant: "I4 parents first", text });
                }
            }
        }
    }
}

/// I5: a job that is not over is open, or blocked by a parent that is not over.
fn nothing_waits_for_nothing(state: &State, found: &mut Vec<Violation>) {
    for chain in state.chains.values() {
        for (phase, job) in &chain.record.jobs {
            if job.state != JobState::Blocked {
                continue;
            }
            let mut parents = job.spec.inputs.parents.keys().filter_map(|p| chain.record.jobs.get(p));
            if !parents.any(|p| !p.state.is_terminal()) {
                let text = format!("{} {phase} is blocked by nothing", chain.record.id);
                found.push(Violation { invariant: "I5 nothing waits for nothing", text });
            }
        }
    }
}

/// I11: no cause cost more attempts than its budget and the one that ended the job.
fn budgets_hold(state: &State, found: &mut Vec<Violation>) {
    for chain in state.chains.values() {
        for (phase, job) in &chain.record.jobs {
            for (cause, spent) in &job.retries {
                if *spent > state.options.budget(*cause) + 1 {
                    let text = format!("{} {phase}: {spent} x {}", chain.record.id, cause.as_str());
                    found.push(Violation { invariant: "I11 budgets", text });
                }
            }
        }
    }
}

/// I3, of the ledgers as the nodes tell them: no device has promised more than its budget.
fn ledgers_hold(state: &State, found: &mut Vec<Violation>) {
    for (node, seen) in &state.nodes {
        for device in &seen.beat.devices {
            let (reserved, budget) = (device.reserved_mib, device.budget_mib);
            if reserved > budget {
                let text = format!("{node} {}: {reserved} reserved of {budget}", device.id);
                found.push(Violation { invariant: "I3 never over-committed", text });
            }
        }
    }
}

/// What a decision rests on besides the observations was kept in step with them.
pub fn check_indexes(state: &State) -> Vec<Violation> {
    if crate::placement::index::anew(state) == state.rooms {
        return Vec::new();
    }
    let text = "the index of rooms is out of step with slots and beats".to_owned();
    vec![Violation { invariant: "I7 indexes follow from the observations", text }]
}

/// I3, for the offers of one round of [`due`](crate::due): with all that stands already, they leave every
/// device within its budget, as its last beat told it. Reckoned from slots and beats, not with the
/// [`Fleet`](crate::placement::Fleet) that placed them.
pub fn check_offers(state: &State, now: Millis, effects: &[Effect]) -> Vec<Violation> {
    let mut offered = BTreeSet::new();
    let mut fresh: BTreeMap<(&NodeId, &DeviceId), (Mib, u32)> = BTreeMap::new();
    for effect in effects {
        let Effect::WriteSlot { key, slot, .. } = effect else { continue };
        let SlotState::Offered { place } = &slot.state else { continue };
        offered.insert(*key);
        let sum = fresh.entry((&place.node, &place.device)).or_default();
        *sum = (sum.0.saturating_add(place.reserve_mib), sum.1 + 1);
    }
    let mut found = Vec::new();
    for ((node, device), (new_mib, new_jobs)) in fresh {
        // An offer that nobody took in time stands no more.
        let stands = state
            .slots_on(node, device)
            .filter(|(key, seen)| !offered.contains(key) && !seen.is_stale_offer(now, &state.options))
            .filter_map(|(_, seen)| seen.slot.state.reserved());
        let sum = stands.fold((new_mib, new_jobs), |(m, j), p| (m.saturating_add(p.reserve_mib), j + 1));
        let report = state.nodes.get(node).and_then(|n| n.beat.devices.iter().find(|d| d.id == *device));
        let fits = report.is_some_and(|d| {
            let foreign = d.foreign_mib.unwrap_or(d.budget_mib);
            sum.0.saturating_add(foreign) <= d.budget_mib && sum.1 <= d.max_jobs
        });
        if !fits || !state.is_reachable(node, now) || state.is_closed_by_decision(node) {
            let text = format!("{} in {} jobs offered on {node} {device}: {report:?}", sum.0, sum.1);
            found.push(Violation { invariant: "I3 never over-committed", text });
        }
    }
    found
}

/// I2: every commit names the attempt that was open in the record it replaced.
pub fn check_commit(before: &State, after: &State, id: &ChainId) -> Vec<Violation> {
    let mut found = Vec::new();
    let (Some(before), Some(after)) = (before.chains.get(id), after.chains.get(id)) else { return found };
    for (phase, job) in &after.record.jobs {
        let (Some(was), JobState::Committed { committed, .. }) = (before.record.jobs.get(phase), &job.state)
        else {
            continue;
        };
        match &was.state {
            JobState::Open { attempt, .. } if *attempt == committed.attempt => {}
            JobState::Committed { committed: first, .. } if first == committed => {}
            other => {
                let text = format!("{id} {phase}: {other:?} -> {committed:?}");
                found.push(Violation { invariant: "I2 commit of the open attempt only", text });
            }
        }
    }
    found
}
