//! What a checkpoint of a phase holds: the models it has finished and the state of the one in training.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::early_stop::EarlyStop;
use super::run::FitSummary;
use super::{FitError, Listener};
use crate::checkpoint::{self, CheckpointFolder, Snapshot};

/// Scalars of a running fit, as of its last whole step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitState {
    /// Epoch in work, from 1.
    pub epoch: u32,
    /// Steps of that epoch that are done.
    pub steps_done: u64,
    /// Sum of the losses of those steps.
    pub loss_sum: f64,
    pub early_stop: EarlyStop,
    pub micro_batch: u32,
    /// 1, or less after a loss that was no number.
    pub lr_factor: f64,
    /// Mean training loss and validation loss of each finished epoch.
    pub history: Vec<(f64, f64)>,
}

/// A fit in work, tensors included.
#[derive(Debug)]
pub struct Running {
    pub model: String,
    pub state: FitState,
    /// Current weights, best weights (`best`), optimiser state (`optim.…`).
    pub now: BTreeMap<String, Tensor>,
    pub best: BTreeMap<String, Tensor>,
    pub optim: BTreeMap<String, Tensor>,
}

/// A fit that is over.
#[derive(Debug)]
pub struct Finished {
    pub summary: FitSummary,
    pub weights: BTreeMap<String, Tensor>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// What is trained on what: a checkpoint of anything else is not ours to resume.
    fingerprint: String,
    running: Option<(String, FitState)>,
    finished: BTreeMap<String, FitSummary>,
}

/// Progress of one phase: finished models, and whatever a checkpoint gave to go on from.
#[derive(Debug)]
pub struct PhaseProgress {
    folder: CheckpointFolder,
    fingerprint: String,
    finished: BTreeMap<String, Finished>,
    resume: Option<Running>,
}

impl PhaseProgress {
    /// Starts anew, or from the checkpoint in `resume_from` if it is whole and of the same `fingerprint`;
    /// anything else there is told as a warning and left alone.
    ///
    /// # Errors
    /// When the folder of new checkpoints cannot be made.
    pub fn open(folder: &Path, fingerprint: String, resume_from: Option<&Path>) -> Result<Self, FitError> {
        let folder = CheckpointFolder::open(folder)?;
        let mut progress = Self { folder, fingerprint, finished: BTreeMap::new(), resume: None };
        if let Some(dir) = resume_from {
            match checkpoint::load::<Header>(dir) {
                Ok(loaded) if loaded.header.fingerprint == progress.fingerprint => {
                    progress.take(loaded.header, loaded.tensors);
                    tracing::info!(dir = %dir.display(), "resuming from a checkpoint");
                }
                Ok(_) => {
                    tracing::warn!(dir = %dir.display(), "checkpoint of another job or version: not used");
                }
                Err(error) => tracing::warn!(dir = %dir.display(), %error, "checkpoint not used"),
            }
        }
        Ok(progress)
    }

    fn take(&mut self, header: Header, tensors: BTreeMap<String, Tensor>) {
        let under = |prefix: &str| -> BTreeMap<String, Tensor> {
            tensors
                .iter()
                .filter_map(|(name, tensor)| {
                    Some((name.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone()))
                })
                .collect()
        };
        for (model, summary) in header.finished {
            let weights = under(&format!("done.{model}."));
            self.finished.insert(model, Finished { summary, weights });
        }
        self.resume = header.running.map(|(model, state)| Running {
            model,
            state,
            now: under("now."),
            best: under("best."),
            optim: under("state."),
        });
    }

    /// The finished model of this name, if a checkpoint had it.
    #[must_use]
    pub fn finished(&self, model: &str) -> Option<&Finished> {
        self.finished.get(model)
    }

    /// The epoch that a checkpoint was made in.
    #[must_use]
    pub fn resume_epoch(&self) -> Option<u32> {
        self.resume.as_ref().map(|running| running.state.epoch)
    }

    /// Takes the state to go on from, if it is of this model.
    pub fn take_running(&mut self, model: &str) -> Option<Running> {
        self.resume.take_if(|running| running.model == model)
    }

    /// Notes a model as done; the next checkpoint carries it.
    pub fn finish(&mut self, model: &str, finished: Finished) {
        self.finished.insert(model.to_owned(), finished);
    }

    /// Writes a checkpoint with the finished models and `running`, and tells `listener`.
    ///
    /// # Errors
    /// When the disk refuses; what was there before stays.
    pub fn save(&self, running: Option<Running>, listener: &mut dyn Listener) -> Result<(), FitError> {
        let mut tensors = Vec::new();
        let mut push = |prefix: &str, from: &BTreeMap<String, Tensor>| {
            tensors.extend(
                from.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.shallow_clone())),
            );
        };
        for (model, finished) in &self.finished {
            push(&format!("done.{model}."), &finished.weights);
        }
        if let Some(running) = &running {
            push("now.", &running.now);
            push("best.", &running.best);
            push("state.", &running.optim);
        }
        let (model, epoch) = match &running {
            Some(running) => (running.model.clone(), running.state.epoch),
            None => (self.finished.keys().next_back().cloned().unwrap_or_default(), 0),
        };
        let header = Header {
            fingerprint: self.fingerprint.clone(),
            running: running.map(|running| (running.model, running.state)),
            finished: self
                .finished
                .iter()
                .map(|(model, done)| (model.clone(), done.summary.clone()))
                .collect(),
        };
        let dir = self.folder.write(&Snapshot { header, tensors })?;
        listener.checkpoint(&dir, &model, epoch);
        Ok(())
    }
}
