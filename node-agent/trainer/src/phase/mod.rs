//! The three phases, from graphs to the files of a result.
//!
//! | Where | What |
//! |--|--|
//! | [`job`] | what a phase is given: semantic settings, folders, device |
//! | [`data`] | captures to graphs, and which windows a model learns from |
//! | [`gat_fit`], [`vgae_fit`] | the two detectors as [`crate::fit::Trainee`]s, with or without a teacher |
//! | [`detectors`] | training and judging a pair: the teacher and the student phase |
//! | [`fuse`], [`fusion`] | the fusion phase and its agent |
//! | [`score`] | detectors over whole sets, in batches |
//! | [`anomaly`] | three reconstruction errors to one score |
//! | [`silence`] | the alarm for messages that stay away |
//! | [`model_file`] | `model.json`, and reading a committed pair back |
//! | [`output`] | whole files or none |

pub mod anomaly;
pub mod data;
pub mod detectors;
pub mod error;
pub mod fuse;
pub mod fusion;
pub mod gat_fit;
pub mod job;
pub mod model_file;
pub mod output;
pub mod score;
pub mod silence;
pub mod vgae_fit;

pub use error::PhaseError;
pub use job::{Job, Outcome, run};
