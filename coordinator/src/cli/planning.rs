//! Everything read that a plan needs, and the plan made of it. `plan`, `run` and `local run` share it.

use super::args::PlanArgs;
use super::context::{Context, DataRoot, now, unknown};
use super::exit::{Exit, Fault};
use super::link::Link;
use super::needs::{self, Models};
use anyhow::{Context as _, Result};
use artifacts::{Store, VerifyError, run as runs};
use common::chain::JobState;
use common::config::Config;
use common::digest::Digest;
use common::ids::{ChainId, DatasetId, JobName, NodeId, Phase, PlanId};
use common::manifest::Manifest;
use common::messages::NodeBeat;
use common::plan::{BlockedReason, Decision, Plan, PlanOptions};
use common::registry::RegistryEntry;
use coordinator_core::placement::Fleet;
use coordinator_core::planner::history::{History, Size};
use coordinator_core::planner::predict::{Forecast, Question, forecast};
use coordinator_core::planner::{self, Base, DatasetRequest, PhaseRequest, Request};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use tracing::Instrument;

/// Manifests read at once.
const CHECKS_IN_FLIGHT: usize = 8;
/// Plans of the same content that ended without all results.
const RERUNS_MAX: u32 = 10_000;
/// Priority of the last of `--priority-datasets`: above everything that files say.
const ASKED_PRIORITY: i32 = 1_000_000;

/// A plan with what people want to know around it.
pub struct Planned {
    pub plan: Plan,
    pub forecast: Forecast,
    pub fleet: Fleet,
    pub history: History,
    pub config: Config,
    /// Of the results in use that are whole.
    pub manifests: BTreeMap<JobName, Manifest>,
}

impl Planned {
    pub fn jobs_to_run(&self) -> usize {
        self.plan.to_run().count()
    }
}

/// The captures of one dataset as they are now.
pub struct Scanned {
    pub id: DatasetId,
    pub digest: Result<Digest, String>,
}

/// Whether the fleet is listened to. An "all up to date" never waits for it.
#[derive(Debug, Clone)]
pub enum Hear {
    Nodes,
    /// Nobody is there, or these were heard just now.
    Known(BTreeMap<NodeId, NodeBeat>),
}

/// Reads captures, registry, artifacts and, when something is to be run, beats; writes nothing.
pub async fn make(context: &Context, link: &Link, args: &PlanArgs, hear: Hear) -> Result<Planned> {
    read_and_decide(context, link, args, hear).instrument(tracing::info_span!("plan")).await
}

async fn read_and_decide(context: &Context, link: &Link, args: &PlanArgs, hear: Hear) -> Result<Planned> {
    let config = context.config()?;
    let data = context.data_root()?;
    let scanned = scan(context, &data, args).await?;
    let base = link.base().await?;
    let in_use = check_results(context, link, &base, &scanned).await?;
    let nothing = Known { base: &base, in_use: &in_use, models: Models::new(), history: History::default() };
    let quick = decide(&config, &data, args, &scanned, &nothing)?;
    // Who is there matters only for what is to be run: an "all up to date" waits for nobody.
    let beats = match (quick.to_run().next(), hear) {
        (Some(_), Hear::Nodes) => link.beats(&config, context.out).await?,
        (Some(_), Hear::Known(beats)) => beats,
        (None, _) => BTreeMap::new(),
    };
    let history = match quick.to_run().next() {
        Some(_) => needs::history(context, link, &base, &in_use.manifests).await,
        None => History::default(),
    };
    let known = Known { base: &base, in_use: &in_use, models: needs::models(&beats), history };
    let mut plan = decide(&config, &data, args, &scanned, &known)?;
    let history = known.history;
    plan.id = free_id(link, &plan).await?;
    plan.traceparent = telemetry::current_traceparent();
    let (fleet, depends_on) = (Fleet::of_beats(&beats), depends_on(&config));
    let question =
        Question { plan: &plan, fleet: &fleet, depends_on: &depends_on, history: &history, seed: None };
    let forecast = forecast(&question);
    Ok(Planned { plan, forecast, fleet, history, config, manifests: in_use.manifests })
}

/// Chooses the datasets and digests their captures.
async fn scan(context: &Context, data: &DataRoot, args: &PlanArgs) -> Result<Vec<Scanned>> {
    let known = dataset::layout::list_datasets(&data.path)?;
    let mut wanted: BTreeSet<String> = args.dataset.iter().cloned().collect();
    if wanted.is_empty() {
        wanted = known.iter().cloned().collect();
    }
    if wanted.is_empty() {
        let message = format!("no dataset in {}: no folder there holds captures", data.path.display());
        return Err(Fault::new(Exit::Error, message)
            .way_out("expected FOLDER/<dataset>/train_*/ and test_*/ with .csv, .parquet or .log files")
            .into());
    }
    for name in &wanted {
        // A folder that is there and holds nothing readable is told as a blocked job, with its reason.
        if !known.contains(name) && !data.path.join(name).is_dir() {
            return Err(unknown("dataset", name, &known).into());
        }
    }
    for name in &args.priority_datasets {
        if !wanted.contains(name) {
            let wanted: Vec<String> = wanted.into_iter().collect();
            return Err(unknown("dataset in this plan named", name, &wanted).into());
        }
    }
    let ids = wanted.iter().map(|n| DatasetId::new(n.as_str())).collect::<Result<Vec<_>, _>>()?;
    let (root, cache) = (data.path.clone(), context.home().hash_cache());
    let digested = tokio::task::spawn_blocking(move || {
        let digest = |id: &DatasetId| {
            let layout = dataset::layout::find(&root, id.as_str())?;
            dataset::dataset_digest(&layout, cache.as_deref())
        };
        // One after the other: each reads its files in parallel, and they share one cache file.
        let scan = |id: DatasetId| {
            let digest = digest(&id).map(|d| Digest::from_bytes(*d.sha256.as_bytes()));
            Scanned { digest: digest.map_err(|e| e.to_string()), id }
        };
        ids.into_iter().map(scan).collect()
    });
    digested.await.context("reading the captures")
}

/// The results in use, as the store has them.
#[derive(Default)]
struct InUse {
    manifests: BTreeMap<JobName, Manifest>,
    /// With the object that is missing or differs.
    missing: BTreeMap<JobName, String>,
}

async fn check_results(context: &Context, link: &Link, base: &Base, scanned: &[Scanned]) -> Result<InUse> {
    let ids: BTreeSet<&DatasetId> = scanned.iter().map(|s| &s.id).collect();
    let entries: Vec<&RegistryEntry> =
        base.registry.values().filter(|e| ids.contains(&e.name.dataset)).collect();
    if entries.is_empty() {
        return Ok(InUse::default());
    }
    let store = context.open_store(link.store_url.as_deref())?;
    let checks = stream::iter(entries.into_iter().map(|entry| check_result(&store, entry)));
    let checked: Vec<(JobName, Result<Manifest, String>)> =
        checks.buffered(CHECKS_IN_FLIGHT).try_collect().await?;
    let mut in_use = InUse::default();
    for (name, found) in checked {
        match found {
            Ok(manifest) => drop(in_use.manifests.insert(name, manifest)),
            Err(problem) => drop(in_use.missing.insert(name, problem)),
        }
    }
    Ok(in_use)
}

async fn check_result(store: &Store, entry: &RegistryEntry) -> Result<(JobName, Result<Manifest, String>)> {
    let committed = &entry.committed;
    match runs::verify_run(store, &committed.prefix(), &committed.manifest).await {
        Ok(manifest) => Ok((entry.name.clone(), Ok(manifest))),
        Err(e @ (VerifyError::Unavailable(_) | VerifyError::Store(_))) => {
            Err(e).with_context(|| format!("looking at the result of {} in the store", entry.name))
        }
        Err(broken) => {
            // People know the store; the key's first characters tell one run from another.
            let (key, root) = (&committed.key, store.url("") + "/");
            let problem = broken.to_string().replace(&root, "").replace(&key.to_string(), &key.0.short());
            Ok((entry.name.clone(), Err(problem)))
        }
    }
}

/// What was read for a decision.
struct Known<'a> {
    base: &'a Base,
    in_use: &'a InUse,
    models: Models,
    history: History,
}

fn decide(
    config: &Config,
    data: &DataRoot,
    args: &PlanArgs,
    scanned: &[Scanned],
    known: &Known<'_>,
) -> Result<Plan> {
    let names =
        |texts: &[String]| texts.iter().map(|t| DatasetId::new(t.as_str())).collect::<Result<Vec<_>, _>>();
    let priority = names(&args.priority_datasets)?;
    let dataset = |scanned: &Scanned| DatasetRequest {
        id: scanned.id.clone(),
        digest: scanned.digest.clone(),
        priority: match priority.iter().position(|p| *p == scanned.id) {
            Some(place) => ASKED_PRIORITY + (priority.len() - place) as i32,
            None => config.dataset(&scanned.id).priority,
        },
        phases: Phase::ALL.map(|p| (p, phase_request(config, known, &scanned.id, p))).into(),
    };
    let request = Request {
        created: now(),
        datasets: scanned.iter().map(dataset).collect(),
        depends_on: depends_on(config),
        options: PlanOptions {
            datasets: names(&args.dataset)?,
            only: args.only.clone(),
            force: args.force.clone(),
            downstream: args.downstream,
            priority_datasets: priority.clone(),
        },
        data_url: data.url.clone(),
        missing: known.in_use.missing.clone(),
        traceparent: None,
    };
    Ok(planner::plan(&request, known.base)?)
}

fn phase_request(config: &Config, known: &Known<'_>, dataset: &DatasetId, phase: Phase) -> PhaseRequest {
    // Settings are structs of numbers, names and lists, which JSON can always hold.
    let semantic = serde_json::to_value(config.semantic(dataset, phase)).expect("settings serialise to JSON");
    let (name, size) = (JobName::new(dataset.clone(), phase), Size::of(&semantic));
    let (expected_ms, expected_basis) = needs::expected(config, known.base, &known.history, &name, &size);
    let need = needs::memory_need(config, &known.models, &known.history, dataset, phase, &size);
    PhaseRequest { semantic, tuning: config.tuning(phase), need, expected_ms, expected_basis }
}

pub fn depends_on(config: &Config) -> BTreeMap<Phase, Vec<Phase>> {
    Phase::ALL.map(|p| (p, config.pipeline.phases.get(p).depends_on.clone())).into()
}

/// The id of a plan that can be applied. A plan of the same content may have been applied before and ended
/// without all its results (failed, cancelled): what is planned now is another run of it, so it is numbered.
async fn free_id(link: &Link, plan: &Plan) -> Result<PlanId> {
    let applied: BTreeSet<PlanId> = link.plans().await?.into_iter().map(|p| p.id).collect();
    let mut id = plan.id.clone();
    for rerun in 2..RERUNS_MAX {
        if !applied.contains(&id) {
            return Ok(id);
        }
        if !is_over(link, plan, &id).await? {
            // Applied and not over: the very plan.
            return Ok(id);
        }
        id = PlanId::new(format!("{}-{rerun}", plan.id))?;
    }
    Ok(id)
}

/// Whether every chain of an applied plan has come to its end.
async fn is_over(link: &Link, plan: &Plan, id: &PlanId) -> Result<bool> {
    for dataset in plan.to_run().map(|j| &j.spec.name.dataset).collect::<BTreeSet<_>>() {
        let chain = ChainId { plan: id.clone(), dataset: dataset.clone() };
        match link.client.chain(&chain).await? {
            Some(at) if at.value.jobs.values().all(|j| JobState::is_terminal(&j.state)) => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Jobs whose captures can not be read, with the reason.
pub fn without_data(plan: &Plan) -> Vec<(JobName, String)> {
    let told = plan.jobs.iter().filter_map(|j| match &j.decision {
        Decision::Blocked { reason: BlockedReason::NoData { message } } => {
            Some((j.spec.name.clone(), message.clone()))
        }
        _ => None,
    });
    told.collect()
}

/// Plans that retrain datasets of this one right now.
pub fn running_elsewhere(plan: &Plan) -> Vec<PlanId> {
    let elsewhere = plan.jobs.iter().filter_map(|j| match &j.decision {
        Decision::Blocked { reason: BlockedReason::RunningIn { plan } } => Some(plan.clone()),
        _ => None,
    });
    elsewhere.collect::<BTreeSet<_>>().into_iter().collect()
}
