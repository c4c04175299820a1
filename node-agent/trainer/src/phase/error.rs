//! Why a phase has no result, and whose matter that is.

use std::path::PathBuf;

use common::trainer_protocol::FailureKind;
use thiserror::Error;

use super::fusion::FusionError;
use crate::checkpoint::CheckpointError;
use crate::fit::FitError;
use crate::metrics::MetricsError;
use crate::pth::PthError;

#[derive(Debug, Error)]
pub enum PhaseError {
    #[error(transparent)]
    Data(#[from] dataset::DataError),
    #[error("the semantic configuration cannot be read: {0}")]
    Semantic(String),
    #[error("the job is a {job} but its configuration is that of another phase")]
    WrongPhase { job: String },
    #[error("phase {phase} needs the committed {parent}, which was not given")]
    NoParent { phase: String, parent: String },
    #[error("{path}: {reason}; retrain that parent phase (`--force` it) or fetch its files again")]
    BrokenParent { path: PathBuf, reason: String },
    #[error(
        "the parent in {path} knows {theirs} ids, these captures give {ours}: it was trained on other captures \
         or with another vocabulary scope; retrain it first"
    )]
    Vocabulary { path: PathBuf, theirs: u32, ours: u32 },
    #[error("{0}")]
    Device(String),
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Fit(#[from] FitError),
    #[error(transparent)]
    Fusion(FusionError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Pth(#[from] PthError),
}

impl From<tch::TchError> for PhaseError {
    fn from(error: tch::TchError) -> Self {
        Self::Fit(error.into())
    }
}

impl From<FusionError> for PhaseError {
    fn from(error: FusionError) -> Self {
        match error {
            FusionError::Fit(error) => Self::Fit(error),
            error => Self::Fusion(error),
        }
    }
}

impl From<CheckpointError> for PhaseError {
    fn from(error: CheckpointError) -> Self {
        Self::Fit(error.into())
    }
}

impl PhaseError {
    /// The reason of a requested stop, if that is what this is.
    #[must_use]
    pub fn stopped(&self) -> Option<&str> {
        match self {
            Self::Fit(FitError::Stopped { reason }) => Some(reason),
            _ => None,
        }
    }

    /// Whether another try can help.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Data(dataset::DataError::Io { .. }) => FailureKind::Internal,
            Self::Data(_)
            | Self::Semantic(_)
            | Self::WrongPhase { .. }
            | Self::NoParent { .. }
            | Self::Vocabulary { .. }
            | Self::Fit(FitError::NothingToLearn { .. })
            | Self::Fusion(FusionError::NoStates(_)) => FailureKind::UserError,
            Self::Fit(FitError::Diverged { .. } | FitError::Metrics(MetricsError::NotFinite { .. }))
            | Self::Metrics(MetricsError::NotFinite { .. })
            | Self::Fusion(
                FusionError::Diverged { .. }
                | FusionError::NotFinite { .. }
                | FusionError::Metrics(MetricsError::NotFinite { .. }),
            ) => FailureKind::Diverged,
            Self::Fit(FitError::OutOfMemory { .. }) => FailureKind::OutOfMemory,
            Self::Fusion(FusionError::Torch(error))
                if crate::fit::error::is_out_of_memory(&error.to_string()) =>
            {
                FailureKind::OutOfMemory
            }
            Self::Device(_) => FailureKind::Device,
            Self::BrokenParent { .. }
            | Self::Io { .. }
            | Self::Fit(_)
            | Self::Fusion(_)
            | Self::Metrics(_)
            | Self::Pth(_) => FailureKind::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_that_are_no_numbers_are_a_diverged_model_wherever_they_are_met() {
        let not_finite = || MetricsError::NotFinite { index: 3, value: f32::NAN };
        let errors = [
            PhaseError::Metrics(not_finite()),
            PhaseError::Fit(FitError::Metrics(not_finite())),
            PhaseError::Fusion(FusionError::Metrics(not_finite())),
        ];
        for error in errors {
            assert_eq!(error.kind(), FailureKind::Diverged, "{error}");
        }
        assert_eq!(PhaseError::Metrics(MetricsError::Empty).kind(), FailureKind::Internal);
    }
}
