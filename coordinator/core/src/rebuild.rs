//! The buckets from the object store alone, after the bus has lost its memory.
//!
//! What is kept there: a marker and a manifest of each committed result, every plan that got chains, and the
//! last record of each chain that was over. What ran, who held it, and what was tried and failed is not kept:
//! holders write their slots anew by themselves, and numbers of attempts are read off the store before each
//! offer.

use crate::transition;
use common::chain::{ChainRecord, JobState};
use common::ids::{ChainId, JobName, Phase};
use common::job_key::JobKey;
use common::manifest::Manifest;
use common::plan::Plan;
use common::registry::{CommittedRef, RegistryEntry};
use std::collections::{BTreeMap, BTreeSet};

/// What the store holds.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Committed results with their manifests.
    pub results: Vec<(CommittedRef, Manifest)>,
    pub plans: Vec<Plan>,
    /// Chains that were over.
    pub over: Vec<ChainRecord>,
}

/// What the buckets are to hold, if they hold nothing else there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Draft {
    /// The newest result of each dataset's phase.
    pub registry: Vec<RegistryEntry>,
    pub chains: Vec<ChainRecord>,
    pub plans: Vec<Plan>,
}

/// The same for the same store, in whatever order it was listed.
pub fn draft(found: &Found) -> Draft {
    let results: BTreeMap<JobKey, (&CommittedRef, u64)> =
        found.results.iter().map(|(r, manifest)| (r.key, (r, manifest.made.duration_ms))).collect();
    let mut chains: BTreeMap<ChainId, ChainRecord> =
        found.over.iter().map(|record| (record.id.clone(), record.clone())).collect();
    for plan in &found.plans {
        for dataset in plan.by_dataset().into_keys() {
            let id = ChainId { plan: plan.id.clone(), dataset: dataset.clone() };
            if !chains.contains_key(&id)
                && let Some(record) = ChainRecord::from_plan(plan, &id)
            {
                chains.insert(id, with_results(record, &results));
            }
        }
    }
    let mut plans = found.plans.clone();
    plans.sort_by(|a, b| a.id.cmp(&b.id));
    Draft { registry: registry(found), chains: chains.into_values().collect(), plans }
}

/// The chain with every result that was committed for it, and its dependents unlocked.
fn with_results(mut record: ChainRecord, results: &BTreeMap<JobKey, (&CommittedRef, u64)>) -> ChainRecord {
    // Parents come before their dependents in this order, and each commit completes the next one's key.
    for phase in Phase::ALL {
        let job = record.jobs.get(&phase).filter(|job| matches!(job.state, JobState::Open { .. }));
        let result = job.and_then(|job| job.key()).and_then(|key| results.get(&key));
        if let Some((committed, duration_ms)) = result {
            record = transition::commit(&record, phase, (*committed).clone(), None, *duration_ms).0;
        }
    }
    record
}

fn registry(found: &Found) -> Vec<RegistryEntry> {
    let created: BTreeMap<_, _> = found.plans.iter().map(|plan| (&plan.id, plan.created)).collect();
    let mut newest: BTreeMap<JobName, RegistryEntry> = BTreeMap::new();
    for (committed, manifest) in &found.results {
        let entry = RegistryEntry {
            name: manifest.job.name.clone(),
            committed: committed.clone(),
            inputs: manifest.inputs.clone(),
            plan: manifest.job.plan.clone(),
            // Of a plan that is not kept, the start of its attempt is the nearest that is known.
            plan_created: created.get(&manifest.job.plan).copied().unwrap_or(manifest.made.started),
            duration_ms: manifest.made.duration_ms,
        };
        let age = |e: &RegistryEntry| (e.plan_created, e.committed.key);
        if newest.get(&entry.name).is_none_or(|known| age(known) < age(&entry)) {
            newest.insert(entry.name.clone(), entry);
        }
    }
    newest.into_values().collect()
}

impl Draft {
    /// Chains that would go on: jobs of them have no result.
    pub fn open_chains(&self) -> BTreeSet<&ChainId> {
        self.chains.iter().filter(|c| !c.is_finished()).map(|c| &c.id).collect()
    }
}
