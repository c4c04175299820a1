//! `model.json`: everything needed to use a pair of detectors, beside their weights.

use std::collections::BTreeMap;
use std::path::Path;

use common::config::semantic::{DataSemantic, GatArch, VgaeArch};
use common::ids::{DatasetId, Phase};
use dataset::Vocabulary;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

use super::PhaseError;
use super::anomaly::AnomalyScale;
use super::job::hex;
use super::silence::SilencePart;
use crate::fit::{FitSummary, trainee};
use crate::metrics::ChosenThreshold;
use crate::nn::gat::Gat;
use crate::nn::vgae::Vgae;

/// Raised when an older reader could misunderstand the file.
pub const MODEL_SCHEMA: u32 = 3;
/// Names of the files of a pair.
pub const MODEL: &str = "model.json";
pub const METRICS: &str = "metrics.json";
pub const VOCABULARY: &str = "vocabulary.json";
pub const VGAE: &str = "vgae.safetensors";
pub const GAT: &str = "gat.safetensors";

/// Entry of a `.pth` that holds its [`Settings`].
pub const SETTINGS: &str = "coord.json";

/// What a `.pth` carries beside the weights, so that it can be used alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `model.json`.
    pub model: serde_json::Value,
    pub vocabulary: Vocabulary,
    /// Digest of the weights of a pair; a fusion names the pair it was made for by it.
    pub weights: Option<String>,
}

impl Settings {
    /// As bytes of the entry.
    ///
    /// # Errors
    /// `Semantic` if they cannot be written as JSON, e.g. for a threshold that is no number.
    pub fn of(
        model: &impl Serialize,
        vocabulary: &Vocabulary,
        weights: Option<String>,
    ) -> Result<Vec<u8>, PhaseError> {
        let words = |error: serde_json::Error| PhaseError::Semantic(error.to_string());
        let model = serde_json::to_value(model).map_err(words)?;
        let settings = Self { model, vocabulary: vocabulary.clone(), weights };
        serde_json::to_vec_pretty(&settings).map_err(words)
    }
}

/// A trained pair without its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelFile {
    pub schema: u32,
    pub dataset: DatasetId,
    pub phase: Phase,
    pub num_ids: u32,
    /// Windows and split the pair was trained with.
    pub data: DataSemantic,
    pub vgae: VgaePart,
    pub gat: GatPart,
    /// The alarm for messages that stay away; none without a benign training capture.
    pub silence: Option<SilencePart>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VgaePart {
    pub arch: VgaeArch,
    pub parameters: i64,
    /// Errors to anomaly score; an attack iff that score is above the threshold.
    pub scale: AnomalyScale,
    pub threshold: ChosenThreshold,
    pub fit: FitSummary,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatPart {
    pub arch: GatArch,
    pub parameters: i64,
    /// An attack iff the logit of attack minus the logit of benign is above it.
    pub threshold: ChosenThreshold,
    pub fit: FitSummary,
}

/// A committed pair with its weights.
#[derive(Debug)]
pub struct LoadedPair {
    pub file: ModelFile,
    pub vocabulary: Vocabulary,
    pub vgae: Vgae,
    pub gat: Gat,
    /// Digest of both weight files.
    pub digest: String,
}

impl LoadedPair {
    /// Reads a pair from the output folder of a committed phase.
    ///
    /// # Errors
    /// `BrokenParent` naming the file and what is wrong with it.
    pub fn load(dir: &Path, device: Device) -> Result<Self, PhaseError> {
        let file: ModelFile = read_json(&dir.join(MODEL))?;
        let vocabulary: Vocabulary = read_json(&dir.join(VOCABULARY))?;
        let mut weights = Weights::new();
        for (model, name) in [("vgae", VGAE), ("gat", GAT)] {
            let path = dir.join(name);
            let saved = Tensor::read_safetensors(&path).map_err(|e| broken(&path, e))?;
            weights.insert(model.to_owned(), saved.into_iter().collect());
        }
        Self::assemble(dir, file, vocabulary, &weights, weights_digest(dir)?, device)
    }

    /// Puts a pair together; `path` names in errors where its parts come from.
    ///
    /// # Errors
    /// `BrokenParent` with what does not fit.
    pub fn assemble(
        path: &Path,
        file: ModelFile,
        vocabulary: Vocabulary,
        weights: &Weights,
        digest: String,
        device: Device,
    ) -> Result<Self, PhaseError> {
        if file.schema != MODEL_SCHEMA {
            return Err(broken(path, format!("schema {} is not {MODEL_SCHEMA}", file.schema)));
        }
        if vocabulary.num_ids() != file.num_ids {
            let reason = format!("{} ids, but {MODEL} says {}", vocabulary.num_ids(), file.num_ids);
            return Err(broken(path, reason));
        }
        let num_ids = i64::from(file.num_ids);
        let vgae = Vgae::new(&file.vgae.arch, num_ids, device);
        let gat = Gat::new(&file.gat.arch, num_ids, device);
        for (name, store) in [("vgae", &vgae.store), ("gat", &gat.store)] {
            let saved = weights.get(name).ok_or_else(|| broken(path, format!("it holds no {name}")))?;
            trainee::copy_into(&trainee::named(store), saved)
                .map_err(|e| broken(path, format!("{name}: {e}")))?;
        }
        Ok(Self { file, vocabulary, vgae, gat, digest })
    }

    /// Refuses a pair that numbers ids in another way than `ours`: its embedding rows would mean other ids.
    ///
    /// # Errors
    /// `Vocabulary`.
    pub fn check_vocabulary(&self, ours: &Vocabulary, dir: &Path) -> Result<(), PhaseError> {
        if self.vocabulary == *ours {
            return Ok(());
        }
        let (theirs, ours) = (self.vocabulary.num_ids(), ours.num_ids());
        Err(PhaseError::Vocabulary { path: dir.to_owned(), theirs, ours })
    }
}

/// Tensors by model (`vgae`, `gat`, `dqn`, ..) and name.
pub type Weights = BTreeMap<String, BTreeMap<String, Tensor>>;

/// Digest of both weight files of a pair.
///
/// # Errors
/// `BrokenParent` for a file that cannot be read.
pub fn weights_digest(dir: &Path) -> Result<String, PhaseError> {
    let mut hasher = Sha256::new();
    for name in [VGAE, GAT] {
        let path = dir.join(name);
        hasher.update(std::fs::read(&path).map_err(|e| broken(&path, e))?);
    }
    Ok(hex(&hasher.finalize()))
}

pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, PhaseError> {
    let text = std::fs::read(path).map_err(|e| broken(path, e))?;
    serde_json::from_slice(&text).map_err(|e| broken(path, e))
}

pub(crate) fn broken(path: &Path, error: impl std::fmt::Display) -> PhaseError {
    let reason = error.to_string().lines().next().unwrap_or("unreadable").to_owned();
    PhaseError::BrokenParent { path: path.to_owned(), reason }
}
