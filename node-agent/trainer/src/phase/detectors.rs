//! Training and judging a pair of detectors: the teacher on its own, the student with the teacher beside it.

use std::collections::BTreeMap;

use common::config::semantic::{
    GatSemantic, Imbalance, KdSemantic, StudentSemantic, TeacherSemantic, TrainOn, VgaeSemantic,
};
use common::ids::Phase;
use common::trainer_protocol::Stage;
use dataset::{GraphSet, Prepared};

use super::anomaly::AnomalyScale;
use super::gat_fit::{GatTeaching, GatTrainee};
use super::job::{Job, Outcome};
use super::model_file::{self, GatPart, LoadedPair, MODEL_SCHEMA, ModelFile, Settings, VgaePart};
use super::vgae_fit::{VgaeTeaching, VgaeTrainee};
use super::{PhaseError, data, output, score, silence};
use crate::fit::loader::Loader;
use crate::fit::progress::PhaseProgress;
use crate::fit::{FitSummary, Listener, TrainData, fit, seed, trainee};
use crate::metrics::{ByTruth, ModelReport, ThresholdRule, choose_threshold, report_folder};
use crate::nn::gat::Gat;
use crate::nn::parameter_count;
use crate::nn::vgae::Vgae;
use crate::torchscript;

/// Name of the alarm for messages that stay away.
const SILENCE: &str = "silence";

/// What both phases have in common.
struct Pair<'a> {
    seed: u64,
    vgae: &'a VgaeSemantic,
    gat: &'a GatSemantic,
    kd: Option<&'a KdSemantic>,
}

/// Phase 1.
///
/// # Errors
/// [`PhaseError`].
pub fn teacher(
    job: &Job,
    semantic: &TeacherSemantic,
    listener: &mut dyn Listener,
) -> Result<Outcome, PhaseError> {
    let pair = Pair { seed: semantic.seed, vgae: &semantic.vgae, gat: &semantic.gat, kd: None };
    train(job, &pair, None, listener)
}

/// Phase 2.
///
/// # Errors
/// [`PhaseError`]; a teacher of another vocabulary is refused.
pub fn student(
    job: &Job,
    semantic: &StudentSemantic,
    listener: &mut dyn Listener,
) -> Result<Outcome, PhaseError> {
    let teacher = LoadedPair::load(job.parent(Phase::Teacher)?, job.device)?;
    let kd = Some(&semantic.kd);
    let pair = Pair { seed: semantic.seed, vgae: &semantic.vgae, gat: &semantic.gat, kd };
    train(job, &pair, Some(&teacher), listener)
}

fn train(
    job: &Job,
    pair: &Pair<'_>,
    teacher: Option<&LoadedPair>,
    listener: &mut dyn Listener,
) -> Result<Outcome, PhaseError> {
    let prepared = data::prepare(job, listener)?;
    if let Some(teacher) = teacher {
        teacher.check_vocabulary(&prepared.vocabulary, job.parent(Phase::Teacher)?)?;
    }
    let parents: Vec<String> = teacher.iter().map(|teacher| teacher.digest.clone()).collect();
    let fingerprint = job.fingerprint(&prepared.report.key.to_string(), &parents)?;
    let mut progress = PhaseProgress::open(&job.checkpoint_dir, fingerprint, job.resume_from.as_deref())?;

    listener.stage(Stage::Training);
    let num_ids = i64::from(prepared.vocabulary.num_ids());
    let (vgae, vgae_fit) = train_vgae(job, pair, teacher, &prepared, num_ids, &mut progress, listener)?;
    let hardness = match pair.gat.imbalance {
        Imbalance::HardNegatives => Some(difficulty(job, &vgae, &prepared, listener)?),
        _ => None,
    };
    let (gat, gat_fit) = train_gat(job, pair, teacher, &prepared, hardness, &mut progress, listener)?;

    listener.stage(Stage::Evaluating);
    let _span = tracing::info_span!("evaluating").entered();
    let (scale, vgae_report) = judge_vgae(job, pair, &vgae, &prepared, listener)?;
    let gat_report = judge_gat(job, pair, &gat, &prepared, listener)?;
    let silence = silence::judge(job, pair.vgae.threshold.target_fpr, listener)?;
    let (silence, silence_report) = silence.unzip();
    let file = ModelFile {
        schema: MODEL_SCHEMA,
        dataset: job.dataset.clone(),
        phase: job.phase,
        num_ids: prepared.vocabulary.num_ids(),
        data: job.semantic.data().clone(),
        vgae: VgaePart {
            arch: vgae.arch.clone(),
            parameters: parameter_count(&vgae.store),
            scale,
            threshold: vgae_report.threshold,
            fit: vgae_fit,
        },
        gat: GatPart {
            arch: gat.arch.clone(),
            parameters: parameter_count(&gat.store),
            threshold: gat_report.threshold,
            fit: gat_fit,
        },
        silence,
    };
    let mut reports = BTreeMap::from([("vgae", vgae_report), ("gat", gat_report)]);
    reports.extend(silence_report.map(|report| (SILENCE, report)));
    write(job, &prepared, &file, &vgae, &gat, reports)
}

fn train_vgae(
    job: &Job,
    pair: &Pair<'_>,
    teacher: Option<&LoadedPair>,
    prepared: &Prepared,
    num_ids: i64,
    progress: &mut PhaseProgress,
    listener: &mut dyn Listener,
) -> Result<(Vgae, FitSummary), PhaseError> {
    let _span = tracing::info_span!("vgae").entered();
    seed::seed_torch(pair.seed, "vgae.init", &[]);
    let vgae = Vgae::new(&pair.vgae.arch, num_ids, job.device);
    let teaching = match teacher.zip(pair.kd) {
        None => None,
        Some((teacher, kd)) => {
            let mut loader = Loader::new(job.device);
            let mut evaluator = job.evaluator(&mut loader, listener, "vgae of the teacher", 1);
            Some(VgaeTeaching::new(kd, &teacher.vgae, &vgae, &mut evaluator, &prepared.train)?)
        }
    };
    let train_pool = data::pool_for(&prepared.train, pair.vgae.train_on);
    let val_pool = data::pool_for(&prepared.val, pair.vgae.train_on);
    let data = train_data(prepared, &train_pool, &val_pool);
    let options = job.fit_options(&pair.vgae.fit, pair.seed);
    let summary = fit(&VgaeTrainee::new(&vgae, pair.vgae, teaching), data, &options, progress, listener)?;
    Ok((vgae, summary))
}

fn train_gat(
    job: &Job,
    pair: &Pair<'_>,
    teacher: Option<&LoadedPair>,
    prepared: &Prepared,
    hardness: Option<Vec<f32>>,
    progress: &mut PhaseProgress,
    listener: &mut dyn Listener,
) -> Result<(Gat, FitSummary), PhaseError> {
    let _span = tracing::info_span!("gat").entered();
    seed::seed_torch(pair.seed, "gat.init", &[]);
    let gat = Gat::new(&pair.gat.arch, i64::from(prepared.vocabulary.num_ids()), job.device);
    let (train_pool, val_pool) = (data::everything(&prepared.train), data::everything(&prepared.val));
    let teaching = match teacher.zip(pair.kd) {
        None => None,
        Some((teacher, kd)) => {
            let mut loader = Loader::new(job.device);
            let mut evaluator = job.evaluator(&mut loader, listener, "gat of the teacher", 1);
            let logits = score::gat_logits(&teacher.gat, &mut evaluator, &prepared.train, &train_pool)?;
            Some(GatTeaching { kd, logits })
        }
    };
    let data = train_data(prepared, &train_pool, &val_pool);
    let options = job.fit_options(&pair.gat.fit, pair.seed);
    let trainee = GatTrainee::new(&gat, pair.gat, &prepared.train.label, teaching).with_difficulty(hardness);
    let summary = fit(&trainee, data, &options, progress, listener)?;
    Ok((gat, summary))
}

/// How badly the VGAE rebuilds each training window, in benign standard deviations.
fn difficulty(
    job: &Job,
    vgae: &Vgae,
    prepared: &Prepared,
    listener: &mut dyn Listener,
) -> Result<Vec<f32>, PhaseError> {
    let mut loader = Loader::new(job.device);
    let mut evaluator = job.evaluator(&mut loader, listener, "vgae", 1);
    let set = &prepared.train;
    let errors = score::errors(vgae, &mut evaluator, set, &data::everything(set))?;
    let benign = data::pool_for(set, TrainOn::Benign);
    let pick = |column: &[f32]| benign.iter().map(|&graph| column[graph as usize]).collect();
    let benign = score::Errors {
        feature_mse: pick(&errors.feature_mse),
        neighbourhood_bce: pick(&errors.neighbourhood_bce),
        id_ce: pick(&errors.id_ce),
    };
    Ok(AnomalyScale::fit(&benign).for_encoding(job.semantic.data().encoding).scores(&errors))
}

fn train_data<'a>(prepared: &'a Prepared, train_pool: &'a [u32], val_pool: &'a [u32]) -> TrainData<'a> {
    TrainData { train: &prepared.train, train_pool, val: &prepared.val, val_pool }
}

fn judge_vgae(
    job: &Job,
    pair: &Pair<'_>,
    vgae: &Vgae,
    prepared: &Prepared,
    listener: &mut dyn Listener,
) -> Result<(AnomalyScale, ModelReport), PhaseError> {
    let mut loader = Loader::new(job.device);
    let mut evaluator = job.evaluator(&mut loader, listener, "vgae", prepared.tests.len() + 2);
    let benign = data::pool_for(&prepared.train, TrainOn::Benign);
    let benign = score::errors(vgae, &mut evaluator, &prepared.train, &benign)?;
    let scale = AnomalyScale::fit(&benign).for_encoding(job.semantic.data().encoding);
    let report = judge(prepared, ThresholdRule::from(&pair.vgae.threshold), |set| {
        let errors = score::errors(vgae, &mut evaluator, set, &data::everything(set))?;
        Ok(scale.scores(&errors))
    })?;
    Ok((scale, report))
}

fn judge_gat(
    job: &Job,
    pair: &Pair<'_>,
    gat: &Gat,
    prepared: &Prepared,
    listener: &mut dyn Listener,
) -> Result<ModelReport, PhaseError> {
    let mut loader = Loader::new(job.device);
    let mut evaluator = job.evaluator(&mut loader, listener, "gat", prepared.tests.len() + 1);
    judge(prepared, ThresholdRule::from(&pair.gat.threshold), |set| {
        Ok(score::attack_margins(gat, &mut evaluator, set)?)
    })
}

/// Threshold from validation (from training where there is no validation window), then every folder, whole.
fn judge(
    prepared: &Prepared,
    rule: ThresholdRule,
    mut scores: impl FnMut(&GraphSet) -> Result<Vec<f32>, PhaseError>,
) -> Result<ModelReport, PhaseError> {
    let calibration = data::calibration(prepared);
    let scored = scores(calibration.set)?;
    let truth = data::truth(calibration.set);
    let windows = calibration.windows;
    let known = ByTruth::of(&scored[..windows], &truth[..windows])?;
    let threshold = choose_threshold(&known.scored()?, rule)?;
    let report = report_folder(&scored, &truth, threshold.value)?;
    let mut folders = BTreeMap::from([(calibration.name.to_owned(), report)]);
    for (folder, set) in &prepared.tests {
        let report = report_folder(&scores(set)?, &data::truth(set), threshold.value)?;
        folders.insert(folder.clone(), report);
    }
    Ok(ModelReport { threshold, folders })
}

fn write(
    job: &Job,
    prepared: &Prepared,
    file: &ModelFile,
    vgae: &Vgae,
    gat: &Gat,
    reports: BTreeMap<&str, ModelReport>,
) -> Result<Outcome, PhaseError> {
    let dir = &job.out_dir;
    let pth = match job.phase {
        Phase::Teacher => format!("best_teacher_model_{}.pth", job.dataset),
        _ => format!("final_student_model_{}.pth", job.dataset),
    };
    let script = format!("final_student_model_{}.pt", job.dataset);
    if job.phase == Phase::Student {
        let thresholds = [file.gat.threshold.value, file.vgae.threshold.value];
        torchscript::write_pair(&dir.join(&script), vgae, gat, &file.vgae.scale, thresholds)?;
    }
    let (vgae, gat) = (trainee::named(&vgae.store), trainee::named(&gat.store));
    output::write_tensors(&dir.join(model_file::VGAE), &vgae)?;
    output::write_tensors(&dir.join(model_file::GAT), &gat)?;
    let sections = [("vgae", output::for_python(&vgae)), ("gat", output::for_python(&gat))];
    let weights = Some(model_file::weights_digest(dir)?);
    let settings = Settings::of(file, &prepared.vocabulary, weights)?;
    crate::pth::write_with(&dir.join(&pth), &sections, &[(model_file::SETTINGS, &settings)])?;
    output::write_json(&dir.join(model_file::VOCABULARY), &prepared.vocabulary)?;
    output::write_json(&dir.join(model_file::METRICS), &reports)?;
    output::write_json(&dir.join(model_file::MODEL), file)?;

    let mut outcome = Outcome::default();
    outcome.tuning_used.insert(data::PREPARED.to_owned(), prepared.report.key.to_string());
    for (model, report) in &reports {
        match *model {
            // Its figures on injected messages would only say that it is not made for them.
            SILENCE => output::flatten_alarms(model, report, &mut outcome.metrics),
            _ => output::flatten(model, report, &mut outcome.metrics),
        }
    }
    for (model, fit) in [("vgae", &file.vgae.fit), ("gat", &file.gat.fit)] {
        outcome.metrics.insert(format!("{model}.best_epoch"), f64::from(fit.best_epoch));
        outcome.tuning_used.insert(format!("{model}.micro_batch"), fit.micro_batch.to_string());
        outcome.tuning_used.insert(format!("{model}.epochs_run"), fit.epochs_run.to_string());
        if fit.lr_factor != 1.0 {
            outcome.tuning_used.insert(format!("{model}.lr_factor"), fit.lr_factor.to_string());
        }
    }
    let names = [
        model_file::VGAE,
        model_file::GAT,
        model_file::VOCABULARY,
        model_file::METRICS,
        model_file::MODEL,
        &pth,
    ];
    outcome.files = names.map(str::to_owned).to_vec();
    if job.phase == Phase::Student {
        outcome.files.push(script);
    }
    Ok(outcome)
}
