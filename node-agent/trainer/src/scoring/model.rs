//! What is scored with.

use std::path::{Path, PathBuf};

use common::ids::Phase;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tch::{Device, Tensor};

use super::{Request, ScoreError};
use crate::fit::trainee;
use crate::metrics::ChosenThreshold;
use crate::nn::qnet::QNet;
use crate::phase::fuse::{DQN, FusionFile};
use crate::phase::fusion::scaling::Scaling;
use crate::phase::model_file::{
    GAT, LoadedPair, MODEL, ModelFile, SETTINGS, Settings, VGAE, VOCABULARY, Weights, weights_digest,
};
use crate::pth;

/// A pair of detectors, and the agent that weighs them if the model is a fusion.
#[derive(Debug)]
pub struct ScoringModel {
    pub pair: LoadedPair,
    pub fusion: Option<FusionPart>,
}

#[derive(Debug)]
pub struct FusionPart {
    pub net: QNet,
    pub scaling: Scaling,
    pub threshold: ChosenThreshold,
}

impl ScoringModel {
    /// Reads what the request names.
    ///
    /// # Errors
    /// `Model`, `NoSettings` or `NoDetectors`, which say what is missing; what the files' readers report.
    pub fn load(request: &Request) -> Result<Self, ScoreError> {
        let mut files = Files::read(&request.model)?;
        if let Some(like) = &request.like {
            files.settings = Files::read(like)?.settings;
        }
        if files.phase()? != Phase::Fusion {
            return Ok(Self { pair: files.pair(request.device)?, fusion: None });
        }
        let file: FusionFile = files.model()?;
        let (net, path) = (QNet::new(&file.arch, request.device), &files.path);
        let saved = files.weights.get("dqn").ok_or_else(|| wrong(path, "it holds no dqn"))?;
        trainee::copy_into(&trainee::named(&net.store), saved).map_err(|e| wrong(path, e))?;
        let pair = match &request.detectors {
            Some(detectors) => Files::read(detectors)?,
            None => detectors_beside(path, &file)?,
        };
        let pair = pair.pair(request.device)?;
        if pair.digest != file.pair {
            return Err(wrong(
                path,
                format!("it was made for detectors {}, these are {}", file.pair, pair.digest),
            ));
        }
        let fusion = FusionPart { net, scaling: file.scaling, threshold: file.threshold };
        Ok(Self { pair, fusion: Some(fusion) })
    }
}

/// Weights with the settings that go with them.
struct Files {
    path: PathBuf,
    weights: Weights,
    settings: Option<Settings>,
}

impl Files {
    /// From a result's folder, a `.pth` or a `.safetensors`.
    fn read(path: &Path) -> Result<Self, ScoreError> {
        let (path, extension) = (path.to_owned(), path.extension().and_then(|end| end.to_str()));
        let settings = |bytes: Option<Vec<u8>>| {
            let parsed = bytes.map(|bytes| serde_json::from_slice(&bytes)).transpose();
            parsed.map_err(|error| wrong(&path, format!("{SETTINGS}: {error}")))
        };
        if path.is_dir() {
            return Self::of_folder(path);
        }
        if !path.is_file() {
            return Err(wrong(&path, "there is no such file or folder"));
        }
        if extension == Some("safetensors") {
            let tensors = Tensor::read_safetensors(&path).map_err(|e| wrong(&path, e))?;
            return Ok(Self { weights: by_prefix(tensors), settings: None, path });
        }
        let weights = pth::read(&path).map_err(|e| wrong(&path, e))?;
        let settings = settings(pth::read_extra(&path, SETTINGS).map_err(|e| wrong(&path, e))?)?;
        Ok(Self { path, weights, settings })
    }

    fn of_folder(path: PathBuf) -> Result<Self, ScoreError> {
        let mut weights = Weights::new();
        for (model, name) in [("vgae", VGAE), ("gat", GAT), ("dqn", DQN)] {
            let file = path.join(name);
            if file.is_file() {
                let tensors = Tensor::read_safetensors(&file).map_err(|e| wrong(&file, e))?;
                weights.insert(model.to_owned(), tensors.into_iter().collect());
            }
        }
        let digest = if weights.contains_key("gat") { Some(weights_digest(&path)?) } else { None };
        let settings = Settings {
            model: json(&path.join(MODEL))?,
            vocabulary: json(&path.join(VOCABULARY))?,
            weights: digest,
        };
        Ok(Self { path, weights, settings: Some(settings) })
    }

    fn settings(&self) -> Result<&Settings, ScoreError> {
        self.settings.as_ref().ok_or_else(|| ScoreError::NoSettings { path: self.path.clone() })
    }

    fn model<T: DeserializeOwned>(&self) -> Result<T, ScoreError> {
        T::deserialize(&self.settings()?.model)
            .map_err(|error| wrong(&self.path, format!("{MODEL}: {error}")))
    }

    fn phase(&self) -> Result<Phase, ScoreError> {
        #[derive(Deserialize)]
        struct Head {
            phase: Phase,
        }
        Ok(self.model::<Head>()?.phase)
    }

    fn pair(&self, device: Device) -> Result<LoadedPair, ScoreError> {
        let (file, settings): (ModelFile, _) = (self.model()?, self.settings()?);
        let digest = settings.weights.clone().unwrap_or_default();
        let vocabulary = settings.vocabulary.clone();
        let pair = LoadedPair::assemble(&self.path, file, vocabulary, &self.weights, digest, device);
        pair.map_err(|error| wrong(&self.path, error))
    }
}

/// The pair a fusion was made for, by the names that results are exported under.
fn detectors_beside(fusion: &Path, file: &FusionFile) -> Result<Files, ScoreError> {
    let folder = fusion.parent().unwrap_or(Path::new(""));
    let names = [
        format!("final_student_model_{}.pth", file.dataset),
        format!("best_teacher_model_{}.pth", file.dataset),
    ];
    for path in names.map(|name| folder.join(name)).into_iter().filter(|path| path.is_file()) {
        let files = Files::read(&path)?;
        if files.settings.as_ref().is_some_and(|settings| settings.weights.as_ref() == Some(&file.pair)) {
            return Ok(files);
        }
    }
    Err(ScoreError::NoDetectors { path: fusion.to_owned(), pair: file.pair.clone() })
}

/// `gat.convs.0.bias` is tensor `convs.0.bias` of model `gat`.
fn by_prefix(tensors: Vec<(String, Tensor)>) -> Weights {
    let mut weights = Weights::new();
    for (name, tensor) in tensors {
        if let Some((model, name)) = name.split_once('.') {
            weights.entry(model.to_owned()).or_default().insert(name.to_owned(), tensor);
        }
    }
    weights
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, ScoreError> {
    let text = std::fs::read(path).map_err(|e| wrong(path, e))?;
    serde_json::from_slice(&text).map_err(|e| wrong(path, e))
}

fn wrong(path: &Path, reason: impl std::fmt::Display) -> ScoreError {
    let reason = reason.to_string().lines().next().unwrap_or("unreadable").to_owned();
    ScoreError::Model { path: path.to_owned(), reason }
}
