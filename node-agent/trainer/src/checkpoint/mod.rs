//! Crash-safe snapshots of a running fit: named tensors and a JSON header.
//!
//! ```text
//! <root>/<n>/state.safetensors     weights, optimiser, best weights, whatever the fit puts in
//! <root>/<n>/state.json            header of the fit + size and sha256 of the tensors
//! ```
//!
//! A snapshot is written into `<root>/.<n>.tmp/`, every file synced, and then the folder is renamed to
//! `<n>`: it is there whole or not at all. The scan still checks sizes and digests, for a checkpoint may
//! come back over a network. The two newest are kept: one may be on its way to the store.
//!
//! | file | what |
//! |--|--|
//! | `folder` | the root: write, newest whole, prune |
//! | `files` | one snapshot as files, digests, syncing |

mod files;
mod folder;

pub use files::{Loaded, Snapshot, load};
pub use folder::{CheckpointFolder, KEPT, Newest};

use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum CheckpointError {
    #[error("checkpoint file {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("checkpoint {dir} is torn: {why}; an older one or a fresh start must serve")]
    Torn { dir: PathBuf, why: String },
    #[error("header of checkpoint {dir}: {source}")]
    Header { dir: PathBuf, source: serde_json::Error },
    #[error("tensors of checkpoint {dir}: {source}")]
    Tensors { dir: PathBuf, source: tch::TchError },
}

impl CheckpointError {
    fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
