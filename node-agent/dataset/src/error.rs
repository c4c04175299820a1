//! What can be wrong with captures and what is made of them. Every message names the file and the way out.

use std::path::{Path, PathBuf};

use crate::read::BadLine;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The data folder, a dataset folder or a file is not there.
    #[error("{what} {path} does not exist; {mend}")]
    Missing { what: &'static str, path: PathBuf, mend: String },

    /// Reading or writing failed.
    #[error("cannot {action} {path}: {source}")]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },

    /// A dataset folder without a single capture.
    #[error(
        "no captures in {path}: expected sub-folders train_*/ and test_*/ with .csv, .parquet or .log files, \
         or flat files named <folder>__<capture>.parquet"
    )]
    NoCaptures { path: PathBuf },

    /// The same capture twice in one folder, say as CSV and as parquet.
    #[error("{first} and {second} are the same capture in two forms; remove one of them")]
    TwoForms { first: PathBuf, second: PathBuf },

    /// Nothing to train on.
    #[error("dataset {dataset} has no training captures: put them into a folder whose name contains `train`")]
    NoTraining { dataset: String },

    /// A training capture without labels outside an attack-free folder.
    #[error(
        "{path} has no labels and its folder is not an attack-free one, so it cannot be trained on; move it \
         to a test_* folder, or to train_01_attack_free if nothing in it is an attack"
    )]
    UnlabelledTraining { path: PathBuf },

    /// A capture with fewer than two usable messages has no window.
    #[error("{path} is empty: {rows} messages, at least 2 are needed; remove the file or fetch it again")]
    EmptyCapture { path: PathBuf, rows: u64 },

    /// The columns are not those of any known form.
    #[error("{path}: wrong columns: found {found}; expected {expected}")]
    WrongColumns { path: PathBuf, found: String, expected: String },

    /// More bad lines than the budget allows.
    #[error(
        "{path}: {bad} bad lines in {rows} is over the budget of {max_bad_lines} lines and {max_bad_percent} % of the \
         rows; first: {first}; mend the file or raise the budget"
    )]
    TooManyBadLines {
        path: PathBuf,
        bad: u64,
        rows: u64,
        max_bad_lines: u64,
        max_bad_percent: f64,
        first: Box<BadLine>,
    },

    /// Truncated or damaged parquet.
    #[error("{path}: not a whole parquet file ({reason}); copy or download it again")]
    BrokenParquet { path: PathBuf, reason: String },

    /// CAN FD frames carry up to 64 bytes; every feature here is made for 8.
    #[error(
        "{path}, line {line}: CAN FD frame (`##`); only classic CAN with up to 8 data bytes is supported"
    )]
    CanFd { path: PathBuf, line: u64 },

    /// A folder we would write into holds somebody else's files.
    #[error(
        "{path} is not empty and holds no sample made by this program; give another folder or move it away"
    )]
    NotOurs { path: PathBuf },

    /// A setting out of its range.
    #[error("setting {key} = {value}: {expected}")]
    BadSetting { key: &'static str, value: String, expected: &'static str },

    /// A file of prepared graphs that is not whole or not ours.
    #[error("{path}: damaged file of prepared graphs ({reason}); delete it, it will be made again")]
    BrokenGraphs { path: PathBuf, reason: String },

    /// A JSON file of ours that cannot be read.
    #[error("{path}: {reason}; delete it, it will be made again")]
    BrokenJson { path: PathBuf, reason: String },

    /// Sets that cannot be joined.
    #[error("graph sets differ: {0}")]
    Mismatch(String),
}

/// Shorthand of this crate.
pub type Result<T, E = DataError> = std::result::Result<T, E>;

impl DataError {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }
}
