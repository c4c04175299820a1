//! The alarm for messages that stay away, which neither detector can raise: nothing is trained, the threshold
//! comes from training captures without an attack.

use std::collections::{BTreeMap, BTreeSet};

use dataset::{
    AttackKind, CaptureFile, Layout, ReadOptions, ReadReport, Silence, SilenceConfig, Vehicle, learn_vehicle,
    score_silence,
};
use serde::{Deserialize, Serialize};

use super::data::TRAINING;
use super::{Job, PhaseError, data};
use crate::fit::{FitError, Listener};
use crate::metrics::{
    ChosenThreshold, ModelReport, Scored, ThresholdRule, Truth, choose_threshold, report_folder,
};

/// No alarm below three of an id's own longest gaps, however quiet the training captures are: benign windows
/// of real cars were seen to stay below 2.
const THRESHOLD_MIN: f64 = 3.0;

/// What a user of the alarm needs: score by [`dataset::silence`], alarm above the threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SilencePart {
    pub config: SilenceConfig,
    /// What the benign training captures tell of their vehicles.
    pub vehicles: Vec<Vehicle>,
    pub threshold: ChosenThreshold,
}

/// Scores with their truth.
#[derive(Debug, Default)]
struct Folder {
    scores: Vec<f32>,
    truth: Vec<Truth>,
}

impl Folder {
    fn add(&mut self, silence: &Silence, labelled: bool) {
        self.scores.extend(&silence.scores);
        self.truth.extend(silence.labels.iter().map(|&label| labelled.then_some(label)));
    }
}

/// Scores all captures of the job. The threshold lets at most `target_fpr` of the windows of benign training
/// captures through as false alarms; there is none without such a capture.
///
/// # Errors
/// Whatever is wrong with the captures; `Stopped` on request.
pub fn judge(
    job: &Job,
    target_fpr: f64,
    listener: &mut dyn Listener,
) -> Result<Option<(SilencePart, ModelReport)>, PhaseError> {
    let _span = tracing::info_span!("silence").entered();
    let (layout, config) = (data::layout(job)?, SilenceConfig::default());
    let window = data::prepare_config(job.semantic.data()).window;
    let read = data::read_options(job);
    let vehicles = vehicles(&layout, &read, listener)?;
    if vehicles.is_empty() {
        tracing::warn!("no training capture is without attacks: no alarm for messages that stay away");
        return Ok(None);
    }
    let mut known = BTreeSet::new();
    let (mut benign, mut folders) = (Folder::default(), BTreeMap::<String, Folder>::new());
    let files = layout.train.iter().map(|file| (file, true));
    for (file, training) in files.chain(layout.tests.values().flatten().map(|file| (file, false))) {
        hear(listener)?;
        let silence = score_silence(file, &window, &read, &config, &vehicles)?;
        match (training, is_suppressed(file, &silence.report)) {
            (true, true) => folder(&mut folders, &format!("{}__suppress", file.folder)).add(&silence, false),
            (true, false) => {
                // Copies count once, as in training.
                if silence.report.attack_rows == 0 && known.insert(silence.report.rows_hash.clone()) {
                    benign.add(&silence, true);
                }
            }
            (false, suppressed) => {
                let labelled = silence.report.has_labels || file.in_attack_free_folder();
                folder(&mut folders, &file.folder).add(&silence, labelled && !suppressed);
            }
        }
    }
    let labels = vec![0; benign.scores.len()];
    let scored = Scored::new(&benign.scores, &labels)?;
    let mut threshold = choose_threshold(&scored, ThresholdRule::TargetFpr(target_fpr))?;
    threshold.value = threshold.value.max(THRESHOLD_MIN);
    folders.insert(TRAINING.to_owned(), benign);
    let mut reports = BTreeMap::new();
    for (name, folder) in folders {
        reports.insert(name, report_folder(&folder.scores, &folder.truth, threshold.value)?);
    }
    Ok(Some((SilencePart { config, vehicles, threshold }, ModelReport { threshold, folders: reports })))
}

fn folder<'a>(folders: &'a mut BTreeMap<String, Folder>, name: &str) -> &'a mut Folder {
    folders.entry(name.to_owned()).or_default()
}

/// What each benign training capture tells, copies once.
fn vehicles(
    layout: &Layout,
    read: &ReadOptions,
    listener: &dyn Listener,
) -> Result<Vec<Vehicle>, PhaseError> {
    let mut vehicles = Vec::new();
    let mut known = BTreeSet::new();
    for file in &layout.train {
        hear(listener)?;
        let (vehicle, report) = learn_vehicle(file, read)?;
        let benign = report.attack_rows == 0 && !is_suppressed(file, &report);
        if benign && known.insert(report.rows_hash) {
            vehicles.push(vehicle);
        }
    }
    Ok(vehicles)
}

fn hear(listener: &dyn Listener) -> Result<(), FitError> {
    listener.stop_requested().map_or(Ok(()), |stop| Err(FitError::Stopped { reason: stop.reason }))
}

/// As in preparation: suppress captures say 0 in every row though frames were taken away.
fn is_suppressed(file: &CaptureFile, report: &ReadReport) -> bool {
    file.attack_kind == AttackKind::Suppress && report.attack_rows == 0
}

#[cfg(test)]
mod tests {
    use common::config::semantic::{DataSemantic, PhaseSemantic, TeacherSemantic};
    use common::ids::{DatasetId, Phase};
    use common::trainer_protocol::{Device, Precision, TrainerTuning};
    use common::units::Mib;
    use dataset::sample::{self, SampleConfig};

    use super::*;
    use crate::fit::listener::Silent;
    use crate::metrics::FolderReport;

    fn job(captures: &std::path::Path) -> Job {
        let (data, teacher) = (DataSemantic::default(), TeacherSemantic::default());
        Job {
            dataset: DatasetId::new("sample").unwrap(),
            phase: Phase::Teacher,
            semantic: PhaseSemantic::Teacher { data, teacher },
            tuning: TrainerTuning {
                device: Device::Cpu,
                threads: 1,
                workers: 1,
                precision: Precision::Fp32,
                micro_batch: 8,
                memory_budget_mib: Mib(64),
                checkpoint_every_epochs: 1,
                checkpoint_every_minutes: 0,
                bad_lines_per_file_max: 20,
            },
            device: tch::Device::Cpu,
            captures_dir: captures.to_owned(),
            cache_dir: captures.join("cache"),
            out_dir: captures.join("out"),
            checkpoint_dir: captures.join("ckpt"),
            resume_from: None,
            parents: BTreeMap::new(),
        }
    }

    #[test]
    fn suppressed_messages_alarm_and_benign_traffic_does_not() {
        let dir = tempfile::tempdir().unwrap();
        sample::write(&SampleConfig { seed: 5, minutes: 4.0 }, dir.path()).unwrap();
        let job = job(&dir.path().join(sample::DATASET));
        let (part, report) = judge(&job, 0.01, &mut Silent).unwrap().unwrap();
        assert_eq!((part.threshold, part.vehicles.len()), (report.threshold, 2));
        let FolderReport::Labelled(train) = &report.folders[TRAINING] else { panic!("training is labelled") };
        assert!(train.fpr.unwrap() <= 0.01 && train.positives == 0, "{train:?}");
        let FolderReport::Unlabelled(suppress) = &report.folders["test_05_suppress"] else {
            panic!("suppress captures carry no labels")
        };
        assert!(suppress.alarm_rate.unwrap() > 0.2, "{suppress:?}");
    }
}
