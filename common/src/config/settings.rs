//! The training settings people write: the keys of `conf/base.yaml`, with their defaults.
//!
//! `None` means "as the more general setting says": `teacher.gat.lr` falls back to `lr`,
//! `teacher.seed` to `seed`, `teacher.tuning.workers` to `workers`. [`super::resolve`] turns this
//! into the semantic and tuning structs a trainer gets, where nothing is left open.

use super::semantic::*;
use super::tuning::{DeviceChoice, precision_or_bool};
use crate::trainer_protocol::Precision;
use serde::{Deserialize, Serialize};

/// The whole of `base.yaml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSettings {
    pub batch_size: u32,
    pub lr: f64,
    pub epochs: u32,
    pub patience: u32,
    pub weight_decay: f64,
    pub grad_clip: f64,
    pub schedule: LrSchedule,
    pub diverged_lr_factor: f64,
    pub seed: u64,
    pub device: DeviceChoice,
    #[serde(deserialize_with = "precision_or_bool")]
    pub mixed_precision: Precision,
    pub micro_batch: Option<u32>,
    pub workers: Option<u32>,
    pub threads: Option<u32>,
    pub checkpoint_every_epochs: u32,
    pub checkpoint_every_minutes: u32,
    pub bad_lines_per_file_max: u32,
    pub data: DataSettings,
    pub models: Models,
    pub teacher: TeacherSettings,
    pub student: StudentSettings,
    pub fusion: FusionSettings,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    pub window: u32,
    pub stride: u32,
    pub chunk_rule: ChunkRule,
    pub encoding: NodeEncoding,
    pub profile_messages: u32,
    pub varied_copies: u32,
    pub vocabulary: VocabularyScope,
    pub split: SplitSettings,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSettings {
    pub kind: SplitKind,
    pub val_fraction: f64,
    pub embargo_windows: u32,
    pub seed: Option<u64>,
}

/// Network sizes; a phase picks one by its `size`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    pub vgae: Sizes<VgaeArch>,
    pub gat: Sizes<GatArch>,
    pub dqn: Sizes<DqnArch>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes<A> {
    pub large: A,
    pub small: A,
}

impl<A> Sizes<A> {
    pub fn get(&self, size: ModelSize) -> &A {
        match size {
            ModelSize::Large => &self.large,
            ModelSize::Small => &self.small,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherSettings {
    pub size: ModelSize,
    pub seed: Option<u64>,
    pub vgae: VgaeSettings,
    pub gat: GatSettings,
    pub tuning: TuningSettings,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudentSettings {
    pub size: ModelSize,
    pub seed: Option<u64>,
    pub vgae: VgaeSettings,
    pub gat: GatSettings,
    pub kd: KdSemantic,
    pub tuning: TuningSettings,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VgaeSettings {
    pub lr: Option<f64>,
    pub batch_size: Option<u32>,
    pub epochs: Option<u32>,
    pub patience: Option<u32>,
    pub weight_decay: Option<f64>,
    pub grad_clip: Option<f64>,
    pub schedule: Option<LrSchedule>,
    pub diverged_lr_factor: Option<f64>,
    pub loss: VgaeLoss,
    pub train_on: TrainOn,
    pub threshold: ThresholdSemantic,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatSettings {
    pub lr: Option<f64>,
    pub batch_size: Option<u32>,
    pub epochs: Option<u32>,
    pub patience: Option<u32>,
    pub weight_decay: Option<f64>,
    pub grad_clip: Option<f64>,
    pub schedule: Option<LrSchedule>,
    pub diverged_lr_factor: Option<f64>,
    pub imbalance: Imbalance,
    pub threshold: ThresholdSemantic,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionSettings {
    pub size: ModelSize,
    pub seed: Option<u64>,
    pub states_from: StatesFrom,
    pub lr: Option<f64>,
    pub weight_decay: f64,
    pub grad_clip: Option<f64>,
    pub episodes: u32,
    pub samples_per_episode: u32,
    pub gradient_steps_per_episode: u32,
    pub batch_size: u32,
    pub gamma: f64,
    pub epsilon_start: f64,
    pub epsilon_end: f64,
    pub epsilon_decay: f64,
    pub replay_size: u32,
    pub target_copy_steps: u32,
    pub validate_every_episodes: u32,
    pub patience: u32,
    pub train_states_max: u32,
    pub val_states_max: u32,
    pub threshold: ThresholdSemantic,
    pub tuning: TuningSettings,
}

/// A phase's own tuning, where it differs from the general one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuningSettings {
    pub device: Option<DeviceChoice>,
    #[serde(deserialize_with = "super::tuning::optional_precision_or_bool")]
    pub mixed_precision: Option<Precision>,
    pub micro_batch: Option<u32>,
    pub workers: Option<u32>,
    pub threads: Option<u32>,
    pub checkpoint_every_epochs: Option<u32>,
    pub checkpoint_every_minutes: Option<u32>,
    pub bad_lines_per_file_max: Option<u32>,
}

impl Default for TrainingSettings {
    fn default() -> Self {
        let fit = FitSemantic::default();
        let data = DataSemantic::default();
        TrainingSettings {
            batch_size: fit.batch_size,
            lr: fit.lr,
            epochs: fit.epochs,
            patience: fit.patience,
            weight_decay: fit.weight_decay,
            grad_clip: fit.grad_clip,
            schedule: fit.schedule,
            diverged_lr_factor: fit.diverged_lr_factor,
            seed: DEFAULT_SEED,
            device: DeviceChoice::Auto,
            mixed_precision: Precision::Auto,
            micro_batch: None,
            workers: None,
            threads: None,
            checkpoint_every_epochs: 1,
            checkpoint_every_minutes: 10,
            bad_lines_per_file_max: 20,
            data: DataSettings {
                window: data.window,
                stride: data.stride,
                chunk_rule: data.chunk_rule,
                encoding: data.encoding,
                profile_messages: data.profile_messages,
                varied_copies: data.varied_copies,
                vocabulary: data.vocabulary,
                split: SplitSettings {
                    kind: data.split.kind,
                    val_fraction: data.split.val_fraction,
                    embargo_windows: data.split.embargo_windows,
                    seed: None,
                },
            },
            models: Models {
                vgae: sizes(VgaeArch::of_size),
                gat: sizes(GatArch::of_size),
                dqn: sizes(DqnArch::of_size),
            },
            teacher: TeacherSettings {
                size: ModelSize::Large,
                seed: None,
                vgae: VgaeSettings::default(),
                gat: GatSettings::default(),
                tuning: TuningSettings::default(),
            },
            student: StudentSettings {
                size: ModelSize::Small,
                seed: None,
                vgae: VgaeSettings::default(),
                gat: GatSettings::default(),
                kd: KdSemantic::default(),
                tuning: TuningSettings::default(),
            },
            fusion: FusionSettings::default(),
        }
    }
}

fn sizes<A>(of_size: impl Fn(ModelSize) -> A) -> Sizes<A> {
    Sizes { large: of_size(ModelSize::Large), small: of_size(ModelSize::Small) }
}

impl Default for VgaeSettings {
    fn default() -> Self {
        let like = VgaeSemantic::of_size(ModelSize::Large);
        VgaeSettings {
            lr: None,
            batch_size: None,
            epochs: None,
            patience: None,
            weight_decay: None,
            grad_clip: None,
            schedule: None,
            diverged_lr_factor: None,
            loss: like.loss,
            train_on: like.train_on,
            threshold: like.threshold,
        }
    }
}

impl Default for GatSettings {
    fn default() -> Self {
        let like = GatSemantic::of_size(ModelSize::Large);
        GatSettings {
            lr: None,
            batch_size: None,
            epochs: None,
            patience: None,
            weight_decay: None,
            grad_clip: None,
            schedule: None,
            diverged_lr_factor: None,
            imbalance: like.imbalance,
            threshold: like.threshold,
        }
    }
}

impl Default for FusionSettings {
    fn default() -> Self {
        let like = FusionSemantic::default();
        FusionSettings {
            size: ModelSize::Small,
            seed: None,
            states_from: like.states_from,
            lr: None,
            weight_decay: like.weight_decay,
            grad_clip: None,
            episodes: like.episodes,
            samples_per_episode: like.samples_per_episode,
            gradient_steps_per_episode: like.gradient_steps_per_episode,
            batch_size: like.batch_size,
            gamma: like.gamma,
            epsilon_start: like.epsilon_start,
            epsilon_end: like.epsilon_end,
            epsilon_decay: like.epsilon_decay,
            replay_size: like.replay_size,
            target_copy_steps: like.target_copy_steps,
            validate_every_episodes: like.validate_every_episodes,
            patience: like.patience,
            train_states_max: like.train_states_max,
            val_states_max: like.val_states_max,
            threshold: like.threshold,
            tuning: TuningSettings::default(),
        }
    }
}
