//! Why nothing could be scored.

use std::path::PathBuf;

use thiserror::Error;

use crate::fit::FitError;
use crate::metrics::MetricsError;
use crate::phase::PhaseError;
use crate::phase::fusion::FusionError;

#[derive(Debug, Error)]
pub enum ScoreError {
    #[error("{path} cannot be scored with: {reason}")]
    Model { path: PathBuf, reason: String },
    #[error(
        "{path} holds weights and nothing else: name a model of the same shape whose settings (ids, windows, \
         thresholds) are to be used, --like FOLDER or FILE.pth"
    )]
    NoSettings { path: PathBuf },
    #[error(
        "{path} is a fusion of detectors that do not lie beside it: name the folder or .pth of the phase it \
         was made for, --detectors PATH (weights with digest {pair})"
    )]
    NoDetectors { path: PathBuf, pair: String },
    #[error(transparent)]
    Phase(#[from] PhaseError),
    #[error(transparent)]
    Data(#[from] dataset::DataError),
    #[error(transparent)]
    Fit(#[from] FitError),
    #[error(transparent)]
    Fusion(#[from] FusionError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error("cannot write scores to {what}: {source}")]
    Write { what: String, source: std::io::Error },
}

impl ScoreError {
    /// True if whoever read the scores went away, which is no failure of ours.
    #[must_use]
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
    }
}
