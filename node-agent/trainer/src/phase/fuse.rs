//! The fusion phase: states of the committed pair, the agent's episodes, the figures of every combiner.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use common::config::semantic::{FusionSemantic, StatesFrom};
use common::ids::Phase;
use common::trainer_protocol::{EpochReport, Stage};
use dataset::GraphSet;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::fusion::baselines::{Logistic, WeightedAverage};
use super::fusion::learn::{EpisodeNews, FusionProgress, Learner};
use super::fusion::mlp::Mlp;
use super::fusion::report::{Combiner, FusionReport, judge};
use super::fusion::scaling::{Scaling, States};
use super::fusion::states::{ROW_WIDTH, RawStates, state_rows};
use super::job::{Job, Outcome};
use super::model_file::{self, LoadedPair, MODEL_SCHEMA, Settings};
use super::{PhaseError, data, output};
use crate::checkpoint::{self, CheckpointFolder, Loaded, Snapshot};
use crate::fit::loader::Loader;
use crate::fit::{FitError, Listener, seed, trainee};
use crate::metrics::ChosenThreshold;
use crate::nn::parameter_count;
use crate::nn::qnet::QNet;
use crate::torchscript;

/// Name of the agent's weights.
pub const DQN: &str = "dqn.safetensors";
/// Name of the weights of the perceptron beside it.
pub const MLP: &str = "mlp.safetensors";

/// `model.json` of a fusion.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FusionFile {
    pub schema: u32,
    pub dataset: common::ids::DatasetId,
    pub phase: Phase,
    pub num_ids: u32,
    pub states_from: StatesFrom,
    /// Digest of the weights of the pair whose states these are.
    pub pair: String,
    pub arch: common::config::semantic::DqnArch,
    pub parameters: i64,
    pub scaling: Scaling,
    /// An attack iff the logit of α·g + (1−α)·a is above it.
    pub threshold: ChosenThreshold,
    pub weighted_average: f64,
    pub logistic: Logistic,
    pub episodes_run: u32,
    pub best_on_validation: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    fingerprint: String,
    progress: FusionProgress,
}

/// States of all splits, scaled.
struct AllStates {
    scaling: Scaling,
    train: States,
    /// What the agent is validated with, and its name in reports.
    val: States,
    val_name: &'static str,
    /// Thresholds are chosen on the first so many of `val`.
    for_threshold: usize,
    tests: BTreeMap<String, States>,
}

/// Phase 3.
///
/// # Errors
/// [`PhaseError`]; a pair of another vocabulary is refused.
pub fn run(job: &Job, semantic: &FusionSemantic, listener: &mut dyn Listener) -> Result<Outcome, PhaseError> {
    let parent = match semantic.states_from {
        StatesFrom::Student => Phase::Student,
        StatesFrom::Teacher => Phase::Teacher,
    };
    let parent_dir = job.parent(parent)?;
    let pair = LoadedPair::load(parent_dir, job.device)?;
    let prepared = data::prepare(job, listener)?;
    pair.check_vocabulary(&prepared.vocabulary, parent_dir)?;

    listener.stage(Stage::Training);
    let states = all_states(job, semantic, &pair, &prepared, listener)?;
    let fingerprint =
        job.fingerprint(&prepared.report.key.to_string(), std::slice::from_ref(&pair.digest))?;
    let (net, episodes_run) = learn(job, semantic, &states, &fingerprint, listener)?;

    listener.stage(Stage::Evaluating);
    let average = WeightedAverage::fit(&states.train)?;
    let weighted_average = average.gat_weight;
    let logistic = Logistic::fit(&states.train)?;
    let mlp = Mlp::fit(&states.train, semantic.seed)?;
    let combiners = [
        Combiner::Dqn(&net),
        Combiner::WeightedAverage(average),
        Combiner::Logistic(logistic.clone()),
        Combiner::Mlp(&mlp),
        Combiner::GatOnly,
        Combiner::VgaeOnly,
    ];
    let val = (states.val_name, &states.val, states.for_threshold);
    let report = judge(&combiners, val, &states.tests, &semantic.threshold)?;
    let file = FusionFile {
        schema: MODEL_SCHEMA,
        dataset: job.dataset.clone(),
        phase: job.phase,
        num_ids: prepared.vocabulary.num_ids(),
        states_from: semantic.states_from,
        pair: pair.digest,
        arch: net.arch.clone(),
        parameters: parameter_count(&net.store),
        scaling: states.scaling,
        threshold: report.combiners["dqn"].threshold,
        weighted_average,
        logistic,
        episodes_run,
        best_on_validation: report.best_on_validation.clone(),
    };
    let mut outcome = write(job, &pair.vocabulary, &net, &mlp, &file, &report)?;
    outcome.tuning_used.insert(data::PREPARED.to_owned(), prepared.report.key.to_string());
    Ok(outcome)
}

fn all_states(
    job: &Job,
    semantic: &FusionSemantic,
    pair: &LoadedPair,
    prepared: &dataset::Prepared,
    listener: &mut dyn Listener,
) -> Result<AllStates, PhaseError> {
    let _span = tracing::info_span!("states").entered();
    let mut loader = Loader::new(job.device);
    let mut evaluator = job.evaluator(&mut loader, listener, "states", prepared.tests.len() + 2);
    let mut raw = |set: &GraphSet, pool: &[u32]| -> Result<RawStates, PhaseError> {
        let rows = evaluator.rows(set, pool, ROW_WIDTH, |batch| {
            state_rows(&pair.vgae.score_batch(batch), &pair.gat.score_batch(batch))
        })?;
        let all = data::truth(set);
        Ok(RawStates::new(&rows, pool.iter().map(|&graph| all[graph as usize]).collect())?)
    };
    let train_pool = sample(&prepared.train, semantic.train_states_max, semantic.seed, "states.train");
    // Without a validation window the training states have to do: better a biased threshold than none.
    let data::Calibration { name: val_name, set: val_set, windows } = data::calibration(prepared);
    let val_pool = sample(val_set, semantic.val_states_max, semantic.seed, "states.val");
    let train = raw(&prepared.train, &train_pool)?;
    let val = raw(val_set, &val_pool)?;
    let scaling = Scaling::fit(&train)?.for_encoding(job.semantic.data().encoding);
    let mut tests = BTreeMap::new();
    for (folder, set) in &prepared.tests {
        tests.insert(folder.clone(), scaling.apply(&raw(set, &data::everything(set))?, job.device));
    }
    let (train, val) = (scaling.apply(&train, job.device), scaling.apply(&val, job.device));
    let captured = val_pool.partition_point(|&graph| (graph as usize) < windows);
    let for_threshold = data::windows_for_threshold(&val.truth, captured);
    Ok(AllStates { scaling, train, val, val_name, for_threshold, tests })
}

/// At most `most` graphs of a set, ascending; a seeded sample beyond that.
fn sample(set: &GraphSet, most: u32, seed: u64, purpose: &str) -> Vec<u32> {
    let mut chosen = data::everything(set);
    if chosen.len() > most as usize {
        chosen.shuffle(&mut seed::rng(seed, purpose, &[]));
        chosen.truncate(most as usize);
        chosen.sort_unstable();
    }
    chosen
}

fn learn(
    job: &Job,
    semantic: &FusionSemantic,
    states: &AllStates,
    fingerprint: &str,
    listener: &mut dyn Listener,
) -> Result<(QNet, u32), PhaseError> {
    let _span = tracing::info_span!("dqn").entered();
    let folder = CheckpointFolder::open(&job.checkpoint_dir)?;
    let mut learner = Learner::new(semantic, &states.train, &states.val)?;
    if let Some(loaded) = job.resume_from.as_deref().and_then(|dir| resumable(dir, fingerprint)) {
        match learner.restore(&loaded) {
            Ok(()) => tracing::info!(episode = loaded.header.episodes_done, "resuming from a checkpoint"),
            Err(error) => {
                tracing::warn!(%error, "checkpoint not used");
                learner = Learner::new(semantic, &states.train, &states.val)?;
            }
        }
    }
    let every = job.tuning.checkpoint_every_epochs.saturating_mul(semantic.validate_every_episodes.max(1));
    let began = Instant::now();
    let first = learner.progress().episodes_done;
    let mut validation = BTreeMap::new();
    while !learner.finished() {
        let news = learner.run_episode()?;
        let seconds_each = began.elapsed().as_secs_f64() / f64::from(news.episode - first);
        let is_validation = news.validation.is_some();
        listener.epoch(&mut || episode_report(semantic, &news, &mut validation, seconds_each), is_validation);
        let stop = listener.stop_requested();
        let due = every > 0 && news.episode.is_multiple_of(every);
        if stop.as_ref().map_or(due, |stop| stop.checkpoint) {
            let Snapshot { header, tensors } = learner.snapshot();
            let header = Header { fingerprint: fingerprint.to_owned(), progress: header };
            let dir = folder.write(&Snapshot { header, tensors })?;
            listener.checkpoint(&dir, "dqn", news.episode);
        }
        if let Some(stop) = stop {
            return Err(FitError::Stopped { reason: stop.reason }.into());
        }
    }
    let episodes_run = learner.progress().episodes_done;
    Ok((learner.into_best(), episodes_run))
}

fn resumable(dir: &Path, fingerprint: &str) -> Option<Loaded<FusionProgress>> {
    match checkpoint::load::<Header>(dir) {
        Ok(Loaded { header, tensors }) if header.fingerprint == fingerprint => {
            Some(Loaded { header: header.progress, tensors })
        }
        Ok(_) => {
            tracing::warn!(dir = %dir.display(), "checkpoint of another job or version: not used");
            None
        }
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "checkpoint not used");
            None
        }
    }
}

fn episode_report(
    semantic: &FusionSemantic,
    news: &EpisodeNews,
    validation: &mut BTreeMap<String, f64>,
    seconds_each: f64,
) -> EpochReport {
    if let Some(v) = &news.validation {
        validation.extend(v.f1.map(|f1| ("val_f1".to_owned(), f1)));
        validation.extend(v.auc.map(|auc| ("val_auc".to_owned(), auc)));
        validation.insert("val_reward".to_owned(), v.reward);
        validation.insert("mean_alpha".to_owned(), v.mean_alpha);
    }
    let mut metrics = validation.clone();
    metrics.insert("epsilon".to_owned(), news.epsilon);
    metrics.insert("reward".to_owned(), news.mean_reward);
    let left = f64::from(semantic.episodes.saturating_sub(news.episode));
    EpochReport {
        model: "dqn".to_owned(),
        epoch: news.episode,
        epochs: semantic.episodes,
        fraction: 1.0,
        loss: Some(news.mean_loss),
        metrics,
        graphs_per_s: f64::from(semantic.samples_per_episode) / seconds_each.max(1e-9),
        eta_ms: Some((left * seconds_each * 1e3) as u64),
    }
}

fn write(
    job: &Job,
    vocabulary: &dataset::Vocabulary,
    net: &QNet,
    mlp: &Mlp,
    file: &FusionFile,
    report: &FusionReport,
) -> Result<Outcome, PhaseError> {
    let dir = &job.out_dir;
    let pth = format!("fusion_agent_{}.pth", job.dataset);
    let weights = trainee::named(&net.store);
    output::write_tensors(&dir.join(DQN), &weights)?;
    output::write_tensors(&dir.join(MLP), &trainee::named(&mlp.store))?;
    let scaling: Vec<(String, Tensor)> = file.scaling.tensors();
    let settings = Settings::of(file, vocabulary, None)?;
    let sections = [("dqn", output::for_python(&weights)), ("scaling", scaling)];
    crate::pth::write_with(&dir.join(&pth), &sections, &[(model_file::SETTINGS, &settings)])?;
    let script = format!("fusion_agent_{}.pt", job.dataset);
    torchscript::write_agent(&dir.join(&script), net, &file.scaling, file.threshold.value)?;
    output::write_json(&dir.join(model_file::VOCABULARY), vocabulary)?;
    output::write_json(&dir.join(model_file::METRICS), report)?;
    output::write_json(&dir.join(model_file::MODEL), file)?;

    let mut outcome = Outcome::default();
    for (combiner, report) in &report.combiners {
        output::flatten(combiner, report, &mut outcome.metrics);
    }
    outcome.tuning_used.insert("dqn.episodes_run".to_owned(), file.episodes_run.to_string());
    outcome.tuning_used.insert("best_on_validation".to_owned(), report.best_on_validation.clone());
    outcome.files = [DQN, MLP, model_file::VOCABULARY, model_file::METRICS, model_file::MODEL, &pth, &script]
        .map(str::to_owned)
        .to_vec();
    Ok(outcome)
}
