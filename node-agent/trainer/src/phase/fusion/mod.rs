//! The fusion phase: a DQN agent that weighs the GAT's and the VGAE's verdict window by window.
//!
//! | file | what |
//! |--|--|
//! | `states` | the 15 numbers of a window, from the scores of both detectors |
//! | `scaling` | what was fitted on training states: standardisation and the anomaly scale |
//! | `replay` | transitions kept on the device |
//! | `agent` | online and target network, vectorised choice, one learning step |
//! | `learn` | the episodes: draws, exploration, validation, early stopping, resume |
//! | `baselines` | weighted average and logistic regression on the same states |
//! | `mlp` | a small perceptron on the same states |
//! | `report` | thresholds on validation, figures of every folder, the best of all combiners |
//!
//! Departures from the reference, all because of faults written down there: α is used as the weight it
//! claims to be and the threshold is chosen on validation (it was `α > 0.5`); the GAT's probability goes in
//! as it is (it went through a second softmax); ε really decays; choosing, replay and learning are batched
//! on the device; all test windows are judged; the reward has no all-benign trap (see
//! [`crate::objective::reward`]).
//!
//! A choice does not change the next window, so the next state of a transition is the state itself: the
//! bootstrapped part is then the same for all actions of a window and adds no noise of its own.

pub mod agent;
pub mod baselines;
pub mod learn;
pub mod mlp;
pub mod replay;
pub mod report;
pub mod scaling;
pub mod states;

use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::metrics::MetricsError;
use crate::optim::OptimError;

#[derive(Debug, Error)]
pub enum FusionError {
    #[error("no {0} states: the dataset is too small for its split; add captures or lower val_fraction")]
    NoStates(&'static str),
    #[error("{rows} states with {labels} labels: they must be of the same windows")]
    LabelCount { rows: i64, labels: usize },
    #[error("column {column} of the fusion states is not finite: a detector of the parent phase diverged")]
    NotFinite { column: &'static str },
    #[error(transparent)]
    Fit(#[from] crate::fit::FitError),
    #[error("the loss of episode {episode} is {loss}; lower `lr` or clip gradients harder")]
    Diverged { episode: u32, loss: f64 },
    #[error("the checkpoint does not fit this agent: {0}")]
    Resume(String),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Optim(#[from] OptimError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Torch(#[from] tch::TchError),
}
