//! What of all that was observed still asks for something, so that a decision does not walk through the
//! history. Every entry follows from the observations; [`check`] reckons them anew.

use crate::state::{ChainSeen, State};
use common::ids::{ChainId, JobName, NodeId, Phase, PlanId};
use common::job_key::JobKey;
use common::messages::NodeBeat;
use common::plan::{Decision, Plan};
use common::registry::CommittedRef;
use common::units::UnixMs;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// Chains that follow from a plan and are not there.
    pub unmade: BTreeSet<ChainId>,
    /// Of each job the newest plan that has a result to put in use.
    newest: BTreeMap<JobName, (UnixMs, PlanId)>,
    /// Jobs whose newest result is not the one in use.
    pub behind: BTreeSet<JobName>,
    /// Slots whose holder has no business any more.
    pub to_fence: BTreeSet<JobKey>,
    /// Nodes whose newest beat says that they work for a key.
    workers: BTreeMap<JobKey, BTreeSet<NodeId>>,
}

impl Index {
    /// The chain whose result of this job is to be the one in use.
    pub fn newest(&self, name: &JobName) -> Option<ChainId> {
        let (_, plan) = self.newest.get(name)?;
        Some(ChainId { plan: plan.clone(), dataset: name.dataset.clone() })
    }

    pub fn workers(&self, key: &JobKey) -> impl Iterator<Item = &NodeId> {
        self.workers.get(key).into_iter().flatten()
    }
}

pub(crate) fn node_changed(state: &mut State, node: &NodeId, before: Option<&NodeBeat>) {
    let keys = |beat: &NodeBeat| beat.running.iter().map(|r| r.key).collect::<BTreeSet<JobKey>>();
    let before = before.map(keys).unwrap_or_default();
    let after = state.nodes.get(node).map(|seen| keys(&seen.beat)).unwrap_or_default();
    for key in before.difference(&after) {
        if let Some(nodes) = state.index.workers.get_mut(key) {
            nodes.remove(node);
            if nodes.is_empty() {
                state.index.workers.remove(key);
            }
        }
    }
    for key in after.difference(&before) {
        state.index.workers.entry(*key).or_default().insert(node.clone());
    }
}

pub(crate) fn plan_seen(state: &mut State, id: &PlanId) {
    let Some(plan) = state.plans.get(id) else { return };
    let unmade: Vec<ChainId> = unmade(state, plan).collect();
    state.index.unmade.extend(unmade);
}

pub(crate) fn chain_seen(state: &mut State, id: &ChainId) {
    state.index.unmade.remove(id);
    let Some(chain) = state.chains.get(id) else { return };
    let age = (chain.record.plan_created, id.plan.clone());
    let keys: Vec<JobKey> = chain.keys.values().copied().collect();
    let results: Vec<JobName> = results(chain).map(|(phase, _)| chain.record.job_id(phase).name).collect();
    for name in results {
        if state.index.newest.get(&name).is_none_or(|known| *known < age) {
            state.index.newest.insert(name.clone(), age.clone());
        }
        registry_changed(state, &name);
    }
    keys.iter().for_each(|key| slot_changed(state, key));
}

/// Rare: a chain was deleted by hand or by retention.
pub(crate) fn chain_gone(state: &mut State, id: &ChainId) {
    plan_seen(state, &id.plan);
    for phase in Phase::ALL {
        let name = JobName::new(id.dataset.clone(), phase);
        match newest_of(state, &name) {
            Some(age) => drop(state.index.newest.insert(name.clone(), age)),
            None => drop(state.index.newest.remove(&name)),
        }
        registry_changed(state, &name);
    }
    let slots = state.slots.iter().filter(|(_, s)| s.slot.job.plan == id.plan).map(|(key, _)| *key);
    for key in slots.collect::<Vec<_>>() {
        slot_changed(state, &key);
    }
}

pub(crate) fn registry_changed(state: &mut State, name: &JobName) {
    if is_behind(state, state.index.newest(name), name) {
        state.index.behind.insert(name.clone());
    } else {
        state.index.behind.remove(name);
    }
}

pub(crate) fn slot_changed(state: &mut State, key: &JobKey) {
    if because_to_fence(state, key).is_some() {
        state.index.to_fence.insert(*key);
    } else {
        state.index.to_fence.remove(key);
    }
}

/// Results made from exactly the inputs of the chain: one that was kept though its inputs have changed stays
/// what it was.
pub(crate) fn results(chain: &ChainSeen) -> impl Iterator<Item = (Phase, &CommittedRef)> {
    chain.record.jobs.iter().filter_map(|(phase, job)| {
        let committed = job.state.result()?;
        (chain.keys.get(phase) == Some(&committed.key)).then_some((*phase, committed))
    })
}

/// Why the holder of a slot must stop: its job is over, was cancelled, or is at a later attempt.
pub(crate) fn because_to_fence(state: &State, key: &JobKey) -> Option<&'static str> {
    let slot = &state.slots.get(key)?.slot;
    slot.state.reserved()?;
    let (plan, JobName { dataset, phase }) = (slot.job.plan.clone(), slot.job.name.clone());
    let job = state.chains.get(&ChainId { plan, dataset })?.record.jobs.get(&phase)?;
    match job.open_attempt() {
        Some(attempt) if attempt > slot.attempt => Some("a later attempt follows"),
        Some(_) => None,
        None => Some("the job is over"),
    }
}

fn unmade<'s>(state: &'s State, plan: &'s Plan) -> impl Iterator<Item = ChainId> + 's {
    let with_runs = plan
        .by_dataset()
        .into_iter()
        .filter(|(_, jobs)| jobs.values().any(|j| matches!(j.decision, Decision::Run { .. })));
    let ids = with_runs.map(|(dataset, _)| ChainId { plan: plan.id.clone(), dataset: dataset.clone() });
    ids.filter(|id| !state.chains.contains_key(id))
}

/// A later plan's result replaces an earlier one's, never the other way round.
fn is_behind(state: &State, newest: Option<ChainId>, name: &JobName) -> bool {
    let Some(chain) = newest.and_then(|id| state.chains.get(&id)) else { return false };
    let Some(result) = chain.record.jobs.get(&name.phase).and_then(|j| j.state.result()) else {
        return false;
    };
    state.registry.get(name).is_none_or(|known| {
        known.entry.committed != *result && known.entry.plan_created < chain.record.plan_created
    })
}

fn newest_of(state: &State, name: &JobName) -> Option<(UnixMs, PlanId)> {
    let chains = state.chains.values().filter(|c| c.record.id.dataset == name.dataset);
    let with_result = chains.filter(|c| results(c).any(|(phase, _)| phase == name.phase));
    with_result.map(|c| (c.record.plan_created, c.record.id.plan.clone())).max()
}

/// The index as it follows from the observations, all of them walked through.
pub(crate) fn check(state: &State) -> Result<(), String> {
    let mut anew = Index {
        unmade: state.plans.values().flat_map(|plan| unmade(state, plan)).collect(),
        to_fence: state.slots.keys().filter(|k| because_to_fence(state, k).is_some()).copied().collect(),
        ..Index::default()
    };
    for chain in state.chains.values() {
        for (phase, _) in results(chain) {
            let age = (chain.record.plan_created, chain.record.id.plan.clone());
            let known = anew.newest.entry(chain.record.job_id(phase).name).or_insert_with(|| age.clone());
            if *known < age {
                *known = age;
            }
        }
    }
    for (node, seen) in &state.nodes {
        for running in &seen.beat.running {
            anew.workers.entry(running.key).or_default().insert(node.clone());
        }
    }
    let is_behind = |name: &&JobName| is_behind(state, anew.newest(name), name);
    anew.behind = anew.newest.keys().filter(is_behind).cloned().collect();
    if anew == state.index { Ok(()) } else { Err(format!("{:?} instead of {anew:?}", state.index)) }
}
