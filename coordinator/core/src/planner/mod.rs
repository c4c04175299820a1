//! What must be retrained, and why: a pure function of what was asked, what the captures and the
//! configuration are, and what is committed. `coord plan` prints it, `coord apply` writes exactly it; there
//! is no second way to decide.

pub mod history;
pub mod predict;
mod reasons;
pub mod selector;

use common::config::Tuning;
use common::digest::Digest;
use common::ids::{BadName, DatasetId, JobName, Phase, PlanId};
use common::job_key::{JobInputs, JobKey, ParentResult, code_version};
use common::plan::{BlockedReason, Decision, JobSpec, MemoryNeed, Plan, PlanOptions, PlannedJob, RunReason};
use common::registry::{CommittedRef, RegistryEntry};
use common::units::UnixMs;
use selector::{BadSelector, Selector};
use std::collections::{BTreeMap, BTreeSet};

/// What is committed and running, as the buckets told at one moment.
#[derive(Debug, Clone, Default)]
pub struct Base {
    pub registry: BTreeMap<JobName, RegistryEntry>,
    /// Every committed key, also of versions that are not in use.
    pub committed: BTreeMap<JobKey, CommittedRef>,
    /// Datasets that a plan is retraining right now.
    pub running: BTreeMap<DatasetId, PlanId>,
}

impl Base {
    /// Digest of all that a plan over these datasets depends on; when it has moved, the plan is stale.
    pub fn revision(&self, datasets: &[DatasetId]) -> Digest {
        let mut text = String::new();
        for dataset in datasets {
            text += &format!("{dataset} running={:?}\n", self.running.get(dataset).map(PlanId::as_str));
            for phase in Phase::ALL {
                if let Some(entry) = self.registry.get(&JobName::new(dataset.clone(), phase)) {
                    text += &format!("{}={} {}\n", entry.name, entry.committed.key, entry.committed.manifest);
                }
            }
        }
        Digest::of(text.as_bytes())
    }
}

/// What was asked, with everything read that the decision needs.
#[derive(Debug, Clone)]
pub struct Request {
    pub created: UnixMs,
    pub datasets: Vec<DatasetRequest>,
    /// Parents of each phase, from `conf/pipeline.yaml`.
    pub depends_on: BTreeMap<Phase, Vec<Phase>>,
    pub options: PlanOptions,
    pub data_url: String,
    /// Results in use of which an object is gone, with the key of that object.
    pub missing: BTreeMap<JobName, String>,
    pub traceparent: Option<String>,
}

#[derive(Debug, Clone)]
pub struct DatasetRequest {
    pub id: DatasetId,
    /// Digest of its captures, or why they can not be read.
    pub digest: Result<Digest, String>,
    pub priority: i32,
    pub phases: BTreeMap<Phase, PhaseRequest>,
}

#[derive(Debug, Clone)]
pub struct PhaseRequest {
    pub semantic: serde_json::Value,
    pub tuning: Tuning,
    pub need: MemoryNeed,
    pub expected_ms: u64,
    pub expected_basis: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    Selector(#[from] BadSelector),
    #[error("--force={selector} names no job of this plan: {known}")]
    SelectsNothing { selector: String, known: String },
    #[error(transparent)]
    Name(#[from] BadName),
}

/// The plan. The same arguments give the same bytes.
pub fn plan(request: &Request, base: &Base) -> Result<Plan, PlanError> {
    let forced = forced_jobs(request)?;
    let mut jobs = Vec::new();
    for dataset in &request.datasets {
        jobs.extend(plan_dataset(request, base, dataset, &forced));
    }
    order(&mut jobs, &request.depends_on);
    let ids: Vec<DatasetId> = request.datasets.iter().map(|d| d.id.clone()).collect();
    let base_revision = base.revision(&ids);
    let id = Plan::derive_id(base_revision, &jobs, &request.data_url)?;
    // The newest plan's result is the one in use, so a plan is never older than what it replaces, whatever
    // the clock of the planning machine says.
    let newest = base.registry.values().map(|entry| entry.plan_created.0.saturating_add(1)).max();
    let created = UnixMs(request.created.0.max(newest.unwrap_or(0)));
    Ok(Plan {
        id,
        created,
        base_revision,
        jobs,
        data_url: request.data_url.clone(),
        options: request.options.clone(),
        traceparent: request.traceparent.clone(),
    })
}

/// Jobs that a selector names, with the text of the selector. Exactly those, plus what depends on them when
/// `--downstream` was given.
fn forced_jobs(request: &Request) -> Result<BTreeMap<JobName, String>, PlanError> {
    let names: Vec<JobName> = request
        .datasets
        .iter()
        .flat_map(|d| d.phases.keys().map(|p| JobName::new(d.id.clone(), *p)))
        .collect();
    let mut forced = BTreeMap::new();
    for text in &request.options.force {
        let selector: Selector = text.parse()?;
        let mut chosen: BTreeSet<JobName> = names.iter().filter(|n| selector.matches(n)).cloned().collect();
        if chosen.is_empty() {
            let known = names.iter().map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
            return Err(PlanError::SelectsNothing { selector: text.clone(), known });
        }
        if request.options.downstream {
            for name in &names {
                let parents = request.depends_on.get(&name.phase).cloned().unwrap_or_default();
                let above = |p: &Phase| chosen.contains(&JobName::new(name.dataset.clone(), *p));
                if parents.iter().any(above) {
                    chosen.insert(name.clone());
                }
            }
        }
        chosen.into_iter().for_each(|name| drop(forced.insert(name, text.clone())));
    }
    Ok(forced)
}

/// The phases of one dataset, parents first: each decision needs the decisions above it.
fn plan_dataset(
    request: &Request,
    base: &Base,
    dataset: &DatasetRequest,
    forced: &BTreeMap<JobName, String>,
) -> Vec<PlannedJob> {
    let mut decided: BTreeMap<Phase, PlannedJob> = BTreeMap::new();
    for (phase, asked) in &dataset.phases {
        let name = JobName::new(dataset.id.clone(), *phase);
        let parents = request.depends_on.get(phase).cloned().unwrap_or_default();
        let parents = parents.into_iter().map(|p| (p, parent_result(&decided, p))).collect();
        let known = base.registry.get(&name);
        let inputs = JobInputs {
            phase: *phase,
            code_version: code_version(*phase),
            semantic: asked.semantic.clone(),
            dataset_digest: dataset.digest.clone().unwrap_or_else(|_| Digest::of(b"")),
            parents,
            force_generation: known.map_or(0, |k| k.inputs.force_generation),
        };
        let (inputs, decision) = decide(request, base, dataset, name.clone(), inputs, forced, &decided);
        let spec = JobSpec {
            name,
            inputs,
            tuning: asked.tuning.clone(),
            need: asked.need.clone(),
            priority: dataset.priority,
        };
        let job = PlannedJob {
            spec,
            decision,
            expected_ms: asked.expected_ms,
            expected_basis: asked.expected_basis.clone(),
        };
        decided.insert(*phase, job);
    }
    decided.into_values().collect()
}

/// What a dependent builds on: the committed result of the parent, or one that is not known yet.
fn parent_result(decided: &BTreeMap<Phase, PlannedJob>, parent: Phase) -> ParentResult {
    match decided.get(&parent).map(|j| &j.decision) {
        Some(Decision::UpToDate { committed } | Decision::Excluded { committed: Some(committed), .. }) => {
            ParentResult::Committed(committed.manifest)
        }
        _ => ParentResult::Pending,
    }
}

fn decide(
    request: &Request,
    base: &Base,
    dataset: &DatasetRequest,
    name: JobName,
    mut inputs: JobInputs,
    forced: &BTreeMap<JobName, String>,
    above: &BTreeMap<Phase, PlannedJob>,
) -> (JobInputs, Decision) {
    if let Some(reason) = blocked(base, dataset, &inputs, above) {
        return (inputs, Decision::Blocked { reason });
    }
    let known = base.registry.get(&name);
    let mut why = reasons::reasons(known, &inputs);
    let is_forced = forced.get(&name);
    if let Some(selector) = is_forced {
        why.insert(0, RunReason::Forced { selector: selector.clone() });
    }
    if let Some(key) = request.missing.get(&name) {
        why.push(RunReason::ArtifactMissing { key: key.clone() });
    }
    let fresh_key_needed = is_forced.is_some() || request.missing.contains_key(&name);
    if why.is_empty() {
        if let Some(known) = known {
            return (inputs, Decision::UpToDate { committed: known.committed.clone() });
        }
    } else if !fresh_key_needed && let Some(same) = inputs.key().and_then(|k| base.committed.get(&k)) {
        // Not the version in use, but made from exactly these inputs: the coordinator finds it by its key
        // and puts it back in use without training.
        why.push(RunReason::CommittedBefore { manifest: same.manifest });
    }
    let only = &request.options.only;
    if !only.is_empty() && !only.contains(&name.phase) {
        let committed = known.map(|k| k.committed.clone());
        return (inputs, Decision::Excluded { committed, reasons: why });
    }
    if fresh_key_needed && known.is_some() {
        // Another generation is another key: what is committed is never written over.
        inputs.force_generation = inputs.force_generation.saturating_add(1);
        while inputs.key().is_some_and(|key| base.committed.contains_key(&key)) {
            inputs.force_generation = inputs.force_generation.saturating_add(1);
        }
    }
    (inputs, Decision::Run { reasons: why })
}

fn blocked(
    base: &Base,
    dataset: &DatasetRequest,
    inputs: &JobInputs,
    above: &BTreeMap<Phase, PlannedJob>,
) -> Option<BlockedReason> {
    if let Err(message) = &dataset.digest {
        return Some(BlockedReason::NoData { message: message.clone() });
    }
    if let Some(plan) = base.running.get(&dataset.id) {
        return Some(BlockedReason::RunningIn { plan: plan.clone() });
    }
    let lacks = |phase: &Phase| match above.get(phase).map(|j| &j.decision) {
        Some(Decision::Excluded { committed: None, .. } | Decision::Blocked { .. }) | None => true,
        Some(_) => false,
    };
    inputs.parents.keys().find(|p| lacks(p)).map(|p| BlockedReason::ParentNotTrained { parent: *p })
}

/// Expected length of the longest line of jobs from each job to the end of its chain, itself included.
pub fn chain_ms(jobs: &[PlannedJob], depends_on: &BTreeMap<Phase, Vec<Phase>>) -> BTreeMap<JobName, u64> {
    let mut ahead: BTreeMap<JobName, u64> = BTreeMap::new();
    // Phases are ordered so that dependents come later: one pass from the end sees them first.
    let mut by_phase: Vec<&PlannedJob> = jobs.iter().collect();
    by_phase.sort_by_key(|j| std::cmp::Reverse(j.spec.name.phase));
    for job in by_phase {
        let name = &job.spec.name;
        let behind = depends_on
            .iter()
            .filter(|(_, parents)| parents.contains(&name.phase))
            .filter_map(|(phase, _)| ahead.get(&JobName::new(name.dataset.clone(), *phase)))
            .max()
            .copied()
            .unwrap_or(0);
        let own = if matches!(job.decision, Decision::Run { .. }) { job.expected_ms } else { 0 };
        ahead.insert(name.clone(), own.saturating_add(behind));
    }
    ahead
}

/// The order of placement: priority, then the longest chain ahead, then by name.
fn order(jobs: &mut [PlannedJob], depends_on: &BTreeMap<Phase, Vec<Phase>>) {
    let ahead = chain_ms(jobs, depends_on);
    jobs.sort_by_key(|j| {
        let name = j.spec.name.clone();
        let chain = ahead.get(&name).copied().unwrap_or(0);
        (std::cmp::Reverse(j.spec.priority), name.phase, std::cmp::Reverse(chain), name)
    });
}
