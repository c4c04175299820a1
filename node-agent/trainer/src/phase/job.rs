//! What a phase is given and what it gives back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use common::config::semantic::PhaseSemantic;
use common::ids::{DatasetId, Phase};
use common::trainer_protocol::{self, Start, TrainerTuning};
use sha2::{Digest, Sha256};
use tch::Device;

use super::{PhaseError, detectors, fuse};
use crate::fit::loader::Loader;
use crate::fit::{Evaluator, FitOptions, Listener};
use crate::memory::Memory;

/// Raised when the mathematics of a phase changes, so that no checkpoint of the older one is resumed.
pub const MATHEMATICS_VERSION: u32 = 3;
/// Graphs per evaluation batch.
const EVAL_BATCH_CPU: u32 = 128;
const EVAL_BATCH_CUDA: u32 = 2048;

/// One phase of one dataset, ready to run.
#[derive(Debug, Clone)]
pub struct Job {
    pub dataset: DatasetId,
    pub phase: Phase,
    pub semantic: PhaseSemantic,
    pub tuning: TrainerTuning,
    pub device: Device,
    /// `<root>/<dataset>`.
    pub captures_dir: PathBuf,
    pub cache_dir: PathBuf,
    /// Results go here.
    pub out_dir: PathBuf,
    /// Checkpoints go here.
    pub checkpoint_dir: PathBuf,
    pub resume_from: Option<PathBuf>,
    pub parents: BTreeMap<Phase, PathBuf>,
}

/// What a finished phase says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Outcome {
    /// Names below the output folder.
    pub files: Vec<String>,
    /// Flat figures: `gat.test_01….f1` and the like.
    pub metrics: BTreeMap<String, f64>,
    pub tuning_used: BTreeMap<String, String>,
}

/// Runs the job.
///
/// # Errors
/// [`PhaseError`]; a requested stop is one of them.
pub fn run(job: &Job, listener: &mut dyn Listener) -> Result<Outcome, PhaseError> {
    for dir in [&job.out_dir, &job.checkpoint_dir] {
        std::fs::create_dir_all(dir).map_err(|source| PhaseError::Io {
            action: "create",
            path: dir.clone(),
            source,
        })?;
    }
    let mut outcome = match (&job.semantic, job.phase) {
        (PhaseSemantic::Teacher { teacher, .. }, Phase::Teacher) => {
            detectors::teacher(job, teacher, listener)
        }
        (PhaseSemantic::Student { student, .. }, Phase::Student) => {
            detectors::student(job, student, listener)
        }
        (PhaseSemantic::Fusion { fusion, .. }, Phase::Fusion) => fuse::run(job, fusion, listener),
        _ => Err(PhaseError::WrongPhase { job: job.phase.to_string() }),
    }?;
    outcome.tuning_used.insert("device".to_owned(), format!("{:?}", job.device).to_lowercase());
    outcome.tuning_used.insert("precision".to_owned(), "fp32".to_owned());
    outcome.tuning_used.insert("threads".to_owned(), tch::get_num_threads().to_string());
    Ok(outcome)
}

impl Job {
    /// Reads the agent's order.
    ///
    /// # Errors
    /// `Semantic` for settings that cannot be read, `Device` for one that is not there.
    pub fn from_start(start: &Start) -> Result<Self, PhaseError> {
        let semantic: PhaseSemantic = serde_json::from_value(start.semantic.clone())
            .map_err(|error| PhaseError::Semantic(error.to_string()))?;
        Ok(Self {
            dataset: start.dataset.clone(),
            phase: start.phase,
            semantic,
            device: device(start.tuning.device)?,
            tuning: start.tuning.clone(),
            captures_dir: start.captures_dir.clone(),
            cache_dir: start.cache_dir.clone(),
            out_dir: start.scratch_dir.join("out"),
            checkpoint_dir: start.scratch_dir.join("ckpt"),
            resume_from: start.resume_from.clone(),
            parents: start.parents.clone(),
        })
    }

    /// Output folder of a committed parent.
    ///
    /// # Errors
    /// `NoParent` when the agent gave none.
    pub fn parent(&self, parent: Phase) -> Result<&PathBuf, PhaseError> {
        self.parents
            .get(&parent)
            .ok_or_else(|| PhaseError::NoParent { phase: self.phase.to_string(), parent: parent.to_string() })
    }

    /// Graphs per evaluation batch.
    #[must_use]
    pub fn eval_batch(&self) -> usize {
        let usual = if self.device.is_cuda() { EVAL_BATCH_CUDA } else { EVAL_BATCH_CPU };
        usual.min(self.tuning.micro_batch.max(1)) as usize
    }

    /// For `passes` passes of the named model over folders.
    pub fn evaluator<'a>(
        &self,
        loader: &'a mut Loader,
        listener: &'a mut dyn Listener,
        model: &str,
        passes: usize,
    ) -> Evaluator<'a> {
        Evaluator::of_passes(loader, listener, self.eval_batch(), model, passes)
    }

    #[must_use]
    pub fn fit_options(&self, fit: &common::config::semantic::FitSemantic, seed: u64) -> FitOptions {
        FitOptions {
            semantic: fit.clone(),
            seed,
            device: self.device,
            micro_batch: self.tuning.micro_batch,
            memory: Memory::of(self.device, self.tuning.memory_budget_mib),
            eval_batch: self.eval_batch(),
            checkpoint_every_epochs: self.tuning.checkpoint_every_epochs,
            checkpoint_every: minutes(self.tuning.checkpoint_every_minutes),
        }
    }

    /// What is trained on what, as a hex digest: checkpoints carry it. `parents` are digests of the parents'
    /// weights or empty.
    ///
    /// # Errors
    /// `Semantic` if the settings cannot be written as JSON.
    pub fn fingerprint(&self, data_key: &str, parents: &[String]) -> Result<String, PhaseError> {
        let semantic =
            serde_json::to_string(&self.semantic).map_err(|error| PhaseError::Semantic(error.to_string()))?;
        let mut hasher = Sha256::new();
        let version = MATHEMATICS_VERSION.to_string();
        let parts = [version.as_str(), self.phase.as_str(), &semantic, data_key];
        for part in parts.into_iter().chain(parents.iter().map(String::as_str)) {
            // Lengths first: no two lists of parts give the same bytes.
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Ok(hex(&hasher.finalize()))
    }
}

/// None for 0.
fn minutes(minutes: u32) -> Option<Duration> {
    (minutes > 0).then(|| Duration::from_secs(u64::from(minutes) * 60))
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn device(asked: trainer_protocol::Device) -> Result<Device, PhaseError> {
    match asked {
        trainer_protocol::Device::Cpu => Ok(Device::Cpu),
        trainer_protocol::Device::Cuda(index) => {
            let count = tch::Cuda::device_count();
            if i64::from(index) < count {
                return usable(Device::Cuda(index as usize));
            }
            let library = crate::runtime::init();
            Err(PhaseError::Device(format!(
                "CUDA device {index} was asked for, {count} answer; libtorch_cuda: {library:?}; install a \
                 CUDA libtorch beside libtorch_cpu, or schedule on CPU"
            )))
        }
    }
}

/// A card that counts may still refuse to work (driver, ECC, a context that can not be made): found out now with a
/// small allocation, written and read back, not after the captures were prepared.
fn usable(device: Device) -> Result<Device, PhaseError> {
    const NUMBERS: i64 = 4 << 20;
    let refused = |error: tch::TchError| PhaseError::Device(format!("{device:?} can not be used: {error}"));
    let ones = tch::Tensor::f_ones([NUMBERS], (tch::Kind::Float, device)).map_err(refused)?;
    let sum = ones.f_sum(tch::Kind::Double).and_then(|sum| sum.f_double_value(&[])).map_err(refused)?;
    match sum as i64 {
        NUMBERS => Ok(device),
        other => Err(PhaseError::Device(format!("{device:?} can not count: {NUMBERS} ones make {other}"))),
    }
}
