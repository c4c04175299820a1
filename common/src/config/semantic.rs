//! What a phase computes: every setting that can change its result.
//!
//! These structs are the *semantic* half of the configuration. Their text goes into the
//! job key, so a changed value makes the phase stale; settings that only decide how fast or where
//! a phase runs live in [`super::tuning`]. The values here are resolved: nothing is optional for
//! want of a default, and a struct met on the wire must name exactly the fields below.
//!
//! Defaults are those of `conf/base.yaml` (a test holds the two together).

use serde::{Deserialize, Serialize};

pub use super::arch::{DqnArch, GatArch, GatLayer, ModelSize, VgaeArch};

/// How captures become labelled graphs, and which of them are held back for validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSemantic {
    /// Messages per window.
    pub window: u32,
    /// Messages between the starts of two windows; equal to `window` = no overlap.
    pub stride: u32,
    /// Which rows have a successor, see [`ChunkRule`].
    pub chunk_rule: ChunkRule,
    /// What a graph's nodes say of the ids they stand for.
    pub encoding: NodeEncoding,
    /// First messages of a capture, presumed benign, that make the profile of its vehicle; used by
    /// [`NodeEncoding::Profile`] only.
    pub profile_messages: u32,
    /// Varied copies of each training capture: the attacker uses ids of the vehicle, slow messages come on
    /// events too; used by [`NodeEncoding::Profile`] only.
    pub varied_copies: u32,
    /// Which training rows may add an id to the vocabulary; used by [`NodeEncoding::Ids`] only.
    pub vocabulary: VocabularyScope,
    /// The validation split.
    pub split: SplitSemantic,
}

/// A message's graph edge leads to the id of the next message; this says where "next" stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkRule {
    /// Only the last row of a capture has no successor and is lost.
    Whole,
    /// One row in 5,000 is lost, as in the Python original; gives its published window counts.
    Original,
}

/// What a graph's nodes say of the ids they stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeEncoding {
    /// How each id of the window differs from what its own vehicle did before: holds for vehicles never
    /// seen in training.
    Profile,
    /// The Python original's: index among the training ids, mean data bytes, count, last position.
    Ids,
}

/// Rows whose ids enter the vocabulary; every other id shares the one out-of-vocabulary slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VocabularyScope {
    /// All rows of all training captures, attacks included.
    AllTrain,
    /// Only rows labelled benign.
    BenignTrain,
}

/// The validation split; identical windows always fall on one side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitSemantic {
    pub kind: SplitKind,
    /// Share of the unique training windows kept for validation, in (0, 0.5].
    pub val_fraction: f64,
    /// Windows dropped between the two sides; used by [`SplitKind::Contiguous`] only.
    pub embargo_windows: u32,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitKind {
    /// Seeded random choice of unique windows.
    RandomDedup,
    /// The last part of each capture, behind an embargo.
    Contiguous,
}

/// One supervised or self-supervised fit by Adam (L2 weight decay, as the reference) with early stopping; the
/// best epoch is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FitSemantic {
    /// Learning rate.
    pub lr: f64,
    /// Graphs per optimiser step. Micro-batches accumulate to it, so the result does not depend
    /// on how many graphs the card holds at once.
    pub batch_size: u32,
    /// Most epochs trained.
    pub epochs: u32,
    /// Epochs without a better validation loss before stopping; 0 = never stop early.
    pub patience: u32,
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 = no clipping.
    pub grad_clip: f64,
    pub schedule: LrSchedule,
    /// After a loss that is no number the epoch is begun once more with the learning rate times this;
    /// 0 = the fit fails at once. A second time it fails in any case.
    pub diverged_lr_factor: f64,
}

/// How the learning rate goes over a fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedule {
    /// As it is, as in the reference.
    Constant,
    /// Half a cosine from the full rate down to a hundredth of it over all `epochs`, step by step.
    Cosine,
}

/// How a fit copes with few attacks among many benign windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Imbalance {
    /// The windows as they come.
    None,
    /// Cross entropy weighted by the inverse class share.
    WeightedLoss,
    /// As many benign windows as attacks, drawn anew each epoch.
    BalancedSampling,
    /// Four benign windows for each attack, drawn anew each epoch: two from the quarter that the VGAE rebuilds
    /// worst, two from the others.
    HardNegatives,
}

/// Windows an auto-encoder learns from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    Benign,
    All,
}

/// How a decision threshold is chosen on the validation split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThresholdSemantic {
    pub rule: ThresholdRule,
    /// Largest share of benign validation windows that may raise an alarm; used by
    /// [`ThresholdRule::TargetFpr`] only.
    pub target_fpr: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdRule {
    /// The threshold of the best F1.
    BestF1,
    /// The lowest threshold that keeps `target_fpr`.
    TargetFpr,
}

/// Weights of the VGAE's loss terms (each term a mean, see the reference's section 3.1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VgaeLoss {
    /// Mean squared error of the ten continuous features.
    pub feature: f64,
    /// Cross entropy of the node's id.
    pub id: f64,
    /// Binary cross entropy of the neighbourhood, mean over nodes x ids.
    pub neighbourhood: f64,
    /// Kullback-Leibler divergence from the unit normal.
    pub kl: f64,
}

/// The VGAE of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VgaeSemantic {
    pub arch: VgaeArch,
    pub fit: FitSemantic,
    pub loss: VgaeLoss,
    pub train_on: TrainOn,
    pub threshold: ThresholdSemantic,
}

/// The GAT classifier of one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatSemantic {
    pub arch: GatArch,
    pub fit: FitSemantic,
    pub imbalance: Imbalance,
    pub threshold: ThresholdSemantic,
}

/// Knowledge distillation of the student pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KdSemantic {
    /// Softening of both logit vectors; the GAT's term is scaled by its square.
    pub temperature: f64,
    /// Share of the teacher's term in the GAT's loss, 0 = no distillation.
    pub gat_alpha: f64,
    /// Share of the teacher's term in the VGAE's loss, 0 = no distillation.
    pub vgae_alpha: f64,
    /// Weight of the latent distance inside the VGAE's teacher term.
    pub latent: f64,
    /// Weight of the reconstruction distance inside the VGAE's teacher term.
    pub reconstruction: f64,
}

/// Phase 1: the large VGAE and GAT, trained on their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherSemantic {
    pub seed: u64,
    pub vgae: VgaeSemantic,
    pub gat: GatSemantic,
}

/// Phase 2: the small pair, distilled from the committed teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudentSemantic {
    pub seed: u64,
    pub vgae: VgaeSemantic,
    pub gat: GatSemantic,
    pub kd: KdSemantic,
}

/// Whose scores make the 15 numbers of a fusion state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatesFrom {
    Student,
    Teacher,
}

/// Phase 3: a DQN agent that weighs the two detectors, learning from cached states.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FusionSemantic {
    pub seed: u64,
    pub states_from: StatesFrom,
    pub arch: DqnArch,
    pub lr: f64,
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 = no clipping.
    pub grad_clip: f64,
    pub episodes: u32,
    /// Cached states drawn per episode, acted on in one vectorised step.
    pub samples_per_episode: u32,
    pub gradient_steps_per_episode: u32,
    /// Transitions per gradient step.
    pub batch_size: u32,
    /// Discount. The next window does not depend on the chosen weight, so a discount near 1 only
    /// adds a large offset that all actions share.
    pub gamma: f64,
    /// Share of random actions in the first episode.
    pub epsilon_start: f64,
    /// Lowest share of random actions.
    pub epsilon_end: f64,
    /// Factor on epsilon after each episode.
    pub epsilon_decay: f64,
    /// Transitions kept for replay.
    pub replay_size: u32,
    /// Gradient steps between two copies into the target network.
    pub target_copy_steps: u32,
    pub validate_every_episodes: u32,
    /// Validations without a better score before stopping; 0 = never stop early.
    pub patience: u32,
    /// Most training states cached (a seeded sample of the windows beyond that).
    pub train_states_max: u32,
    /// Most validation states cached.
    pub val_states_max: u32,
    pub threshold: ThresholdSemantic,
}

/// Everything that can change the result of one phase job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PhaseSemantic {
    Teacher { data: DataSemantic, teacher: TeacherSemantic },
    Student { data: DataSemantic, student: StudentSemantic },
    Fusion { data: DataSemantic, fusion: FusionSemantic },
}

impl PhaseSemantic {
    /// The data half, which every phase has.
    pub fn data(&self) -> &DataSemantic {
        match self {
            PhaseSemantic::Teacher { data, .. }
            | PhaseSemantic::Student { data, .. }
            | PhaseSemantic::Fusion { data, .. } => data,
        }
    }
}

impl Default for DataSemantic {
    fn default() -> Self {
        DataSemantic {
            window: 100,
            stride: 100,
            chunk_rule: ChunkRule::Whole,
            encoding: NodeEncoding::Profile,
            profile_messages: 4_000,
            varied_copies: 2,
            vocabulary: VocabularyScope::AllTrain,
            split: SplitSemantic {
                kind: SplitKind::RandomDedup,
                val_fraction: 0.2,
                embargo_windows: 1,
                seed: DEFAULT_SEED,
            },
        }
    }
}

/// The one seed everything random starts from unless told otherwise.
pub const DEFAULT_SEED: u64 = 42;

impl Default for FitSemantic {
    fn default() -> Self {
        FitSemantic {
            lr: 1e-3,
            batch_size: 64,
            epochs: 10,
            patience: 3,
            weight_decay: 1e-4,
            grad_clip: 1.0,
            schedule: LrSchedule::Constant,
            diverged_lr_factor: 0.1,
        }
    }
}

impl Default for ThresholdSemantic {
    fn default() -> Self {
        ThresholdSemantic { rule: ThresholdRule::BestF1, target_fpr: 0.01 }
    }
}

impl Default for VgaeLoss {
    fn default() -> Self {
        VgaeLoss { feature: 1.0, id: 0.1, neighbourhood: 0.05, kl: 0.01 }
    }
}

impl Default for KdSemantic {
    fn default() -> Self {
        KdSemantic { temperature: 4.0, gat_alpha: 0.7, vgae_alpha: 0.7, latent: 0.5, reconstruction: 0.5 }
    }
}

impl VgaeSemantic {
    /// The reference's settings for a model of this size.
    pub fn of_size(size: ModelSize) -> Self {
        VgaeSemantic {
            arch: VgaeArch::of_size(size),
            fit: FitSemantic::default(),
            loss: VgaeLoss::default(),
            train_on: TrainOn::Benign,
            threshold: ThresholdSemantic::default(),
        }
    }
}

impl GatSemantic {
    /// The reference's settings for a model of this size.
    pub fn of_size(size: ModelSize) -> Self {
        GatSemantic {
            arch: GatArch::of_size(size),
            fit: FitSemantic::default(),
            imbalance: Imbalance::WeightedLoss,
            threshold: ThresholdSemantic::default(),
        }
    }
}

impl Default for TeacherSemantic {
    fn default() -> Self {
        TeacherSemantic {
            seed: DEFAULT_SEED,
            vgae: VgaeSemantic::of_size(ModelSize::Large),
            gat: GatSemantic::of_size(ModelSize::Large),
        }
    }
}

impl Default for StudentSemantic {
    fn default() -> Self {
        StudentSemantic {
            seed: DEFAULT_SEED,
            vgae: VgaeSemantic::of_size(ModelSize::Small),
            gat: GatSemantic::of_size(ModelSize::Small),
            kd: KdSemantic::default(),
        }
    }
}

impl Default for FusionSemantic {
    fn default() -> Self {
        FusionSemantic {
            seed: DEFAULT_SEED,
            states_from: StatesFrom::Student,
            arch: DqnArch::of_size(ModelSize::Small),
            lr: 1e-3,
            weight_decay: 1e-5,
            grad_clip: 1.0,
            episodes: 60,
            samples_per_episode: 4_000,
            gradient_steps_per_episode: 32,
            batch_size: 128,
            gamma: 0.5,
            epsilon_start: 0.9,
            epsilon_end: 0.05,
            epsilon_decay: 0.95,
            replay_size: 50_000,
            target_copy_steps: 50,
            validate_every_episodes: 5,
            patience: 6,
            train_states_max: 150_000,
            val_states_max: 30_000,
            threshold: ThresholdSemantic::default(),
        }
    }
}
