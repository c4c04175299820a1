//! A plan's outputs in `--output-dir`: plan, results, models, configurations.

use super::context::{Context, now};
use super::link::Link;
use super::observe::Observer;
use super::plan::write_whole;
use super::planning::Planned;
use crate::output;
use crate::output::results::{JobResult, PastText, Written, lines, table, written};
use crate::output::words;
use anyhow::{Context as _, Result};
use artifacts::{Store, run as runs};
use common::chain::{JobRecord, JobState};
use common::config::Config;
use common::ids::{ChainId, JobName};
use common::manifest::FileEntry;
use common::plan::{Decision, Plan};
use common::registry::CommittedRef;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const MODELS: &str = "saved_models";
const CONFIGS: &str = "generated_configs";
const LOGS: [&str; 3] = ["coordinator_logs", "orchestrator_logs", "process_logs"];

/// Writes everything of plans that ended (or of what there is of them so far), prints table and paths.
pub async fn export(context: &Context, link: &Link, observer: &Observer, plans: &[Plan]) -> Result<()> {
    let config = context.config()?;
    let mut all = Vec::new();
    let mut last_files = (None, None);
    for plan in plans {
        let results = results(context, link, observer, plan).await?;
        let (plan_file, results_file) =
            (format!("{}_plan.json", plan.id), format!("{}_results.json", plan.id));
        let dir = &context.global.output_dir;
        let page =
            output::schema("plan", json!({"id": plan.id, "created": plan.created.to_string(), "plan": plan}));
        write_whole(&dir.join(&plan_file), (output::pretty(&page) + "\n").as_bytes())?;
        let page = output::results::json(plan.id.as_str(), &results, now());
        write_whole(&dir.join(&results_file), (output::pretty(&page) + "\n").as_bytes())?;
        last_files = (Some(plan_file), Some(results_file));
        all.extend(results);
    }
    finish(context, link, &config, all, last_files).await
}

/// The same for a plan with nothing to run: no new plan or results, but models and configurations as they
/// should be.
pub async fn up_to_date(context: &Context, link: &Link, planned: &Planned) -> Result<()> {
    let mut results = Vec::new();
    for job in &planned.plan.jobs {
        let (name, committed) = (&job.spec.name, result_of(&job.decision));
        let (Some(committed), Some(manifest)) = (committed, planned.manifests.get(name)) else { continue };
        let mut result = JobResult::up_to_date(name.clone(), manifest);
        result.committed = Some(committed.clone());
        results.push(result);
    }
    let all = planned.plan.jobs.iter().all(|j| matches!(j.decision, Decision::UpToDate { .. }));
    let head = if all { "everything is up to date" } else { "nothing to run" };
    context.out.talk(&format!("{head}: {} with a result in use", words::plural(results.len(), "job")));
    finish(context, link, &planned.config, results, (None, None)).await
}

async fn finish(
    context: &Context,
    link: &Link,
    config: &Config,
    results: Vec<JobResult>,
    (plan_file, results_file): (Option<String>, Option<String>),
) -> Result<()> {
    let dir = &context.global.output_dir;
    write_configs(dir, config, &results)?;
    let mut models = Vec::new();
    if results.iter().any(|r| r.committed.is_some()) {
        let store = context.open_store(link.store_url.as_deref())?;
        for result in &results {
            models.extend(fetch_models(&store, dir, result).await?);
        }
    }
    let logs = LOGS.iter().all(|l| dir.join(l).is_dir());
    let page = output::schema(
        "run",
        json!({
            "jobs": results, "output_dir": dir, "plan_file": plan_file, "results_file": results_file, "models": models,
        }),
    );
    let ids = || results.iter().map(|r| r.job.to_string()).collect();
    let text = || {
        let figures = table(&lines(&results, context.out.verbose));
        let paths = Written { output_dir: dir, plan_file, results_file, models, logs };
        format!("{figures}\n\n{}", written(&paths)).trim_start().to_owned()
    };
    context.out.page(page, text, ids);
    Ok(())
}

/// How each job of a plan ended, with the figures of its manifest.
async fn results(context: &Context, link: &Link, observer: &Observer, plan: &Plan) -> Result<Vec<JobResult>> {
    let mut results = Vec::new();
    for job in &plan.jobs {
        let name = &job.spec.name;
        let chain = ChainId { plan: plan.id.clone(), dataset: name.dataset.clone() };
        let record = observer.state.chains.get(&chain).and_then(|c| c.record.jobs.get(&name.phase));
        let mut result = match record {
            Some(record) => of_record(name, record),
            None => of_decision(name, &job.decision),
        };
        if let Some(committed) = &result.committed {
            let store = context.open_store(link.store_url.as_deref())?;
            let manifest = runs::get_manifest(&store, &committed.prefix(), &committed.manifest).await;
            let manifest = manifest.with_context(|| format!("reading the result of {name}"))?;
            result = result.with_manifest(&manifest);
        }
        results.push(result);
    }
    Ok(results)
}

fn of_record(name: &JobName, record: &JobRecord) -> JobResult {
    let (state, message, duration_ms) = match &record.state {
        JobState::Blocked => ("blocked", None, None),
        JobState::Open { .. } => ("open", None, None),
        JobState::Committed { duration_ms, .. } => ("committed", None, Some(*duration_ms)),
        JobState::UpToDate { .. } => ("up to date", None, None),
        JobState::Failed { cause, message } => {
            ("failed", Some(format!("{}: {message}", cause.as_str())), None)
        }
        JobState::Skipped { because } => ("skipped", Some(format!("{because} has no result")), None),
        JobState::Cancelled { reason } => ("cancelled", Some(reason.clone()), None),
    };
    let past = record.past.iter().map(|p| PastText {
        attempt: p.attempt,
        cause: p.cause.as_str(),
        message: p.message.clone(),
    });
    let ran = matches!(record.state, JobState::Committed { .. } | JobState::Open { .. });
    JobResult {
        job: name.clone(),
        state: state.to_owned(),
        committed: record.state.result().cloned(),
        attempts: record.retries.values().sum::<u32>() + u32::from(ran),
        past: past.collect(),
        duration_ms,
        message,
        metrics: BTreeMap::new(),
        files: Vec::new(),
        tuning_used: BTreeMap::new(),
    }
}

fn of_decision(name: &JobName, decision: &Decision) -> JobResult {
    let (state, message) = match decision {
        Decision::Run { .. } => ("applied", None),
        Decision::UpToDate { .. } => ("up to date", None),
        Decision::Excluded { .. } => ("excluded", None),
        Decision::Blocked { reason } => ("blocked", Some(reason.to_string())),
    };
    JobResult {
        job: name.clone(),
        state: state.to_owned(),
        committed: result_of(decision).cloned(),
        attempts: 0,
        past: Vec::new(),
        duration_ms: None,
        message,
        metrics: BTreeMap::new(),
        files: Vec::new(),
        tuning_used: BTreeMap::new(),
    }
}

fn result_of(decision: &Decision) -> Option<&CommittedRef> {
    match decision {
        Decision::UpToDate { committed } => Some(committed),
        Decision::Excluded { committed, .. } => committed.as_ref(),
        Decision::Run { .. } | Decision::Blocked { .. } => None,
    }
}

fn write_configs(dir: &Path, config: &Config, results: &[JobResult]) -> Result<()> {
    for JobResult { job, .. } in results {
        let path = dir.join(CONFIGS).join(format!("{}_{}.yaml", job.dataset, job.phase));
        let text = config.job(&job.dataset, job.phase).to_yaml_with_origins(config);
        if std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
            write_whole(&path, text.as_bytes())?;
        }
    }
    Ok(())
}

/// Fetches the model files of a result, each checked against its digest; those that are there already stay.
async fn fetch_models(store: &Store, dir: &Path, result: &JobResult) -> Result<Vec<String>> {
    let Some(committed) = &result.committed else { return Ok(Vec::new()) };
    let models = result.files.iter().filter(|f| [".pth", ".pt"].iter().any(|end| f.name.ends_with(end)));
    let mut names = Vec::new();
    for entry in models {
        let dest = dir.join(MODELS);
        if !is_there(dest.join(&entry.name), entry.clone()).await {
            let (prefix, entries) = (committed.prefix(), std::slice::from_ref(entry));
            let fetched = runs::fetch_files(store, &prefix, entries, &dest, None).await;
            fetched.with_context(|| format!("fetching {} of {}", entry.name, result.job))?;
        }
        names.push(entry.name.clone());
    }
    Ok(names)
}

async fn is_there(path: PathBuf, entry: FileEntry) -> bool {
    let check = move || {
        let same_size = std::fs::metadata(&path).is_ok_and(|m| m.len() == entry.bytes);
        same_size
            && dataset::digest::hash_file(&path).is_ok_and(|d| d.to_string() == entry.sha256.to_string())
    };
    tokio::task::spawn_blocking(check).await.unwrap_or(false)
}
