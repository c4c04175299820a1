//! Reading a capture of any known form as chunks of columns.

mod candump;
mod collector;
mod csv_forms;
mod format;
mod hex;
mod parquet_form;

use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::frames::Frames;
use crate::layout::CaptureFile;
use collector::Collector;
pub use format::CaptureFormat;

/// How much damage is let pass.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// More bad lines than this in one capture and it is refused.
    pub max_bad_lines: u64,
    /// A larger share of bad lines (0 to 1) and it is refused, be they ever so few: a thousandth by default.
    pub max_bad_share: f64,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { max_bad_lines: 20, max_bad_share: 0.001 }
    }
}

impl ReadOptions {
    /// True if a capture of `rows` messages may have so many bad lines.
    pub fn allows(&self, bad_lines: u64, rows: u64) -> bool {
        bad_lines <= self.max_bad_lines && bad_lines as f64 <= self.max_bad_share * (rows + bad_lines) as f64
    }
}

/// A line (a row, in parquet) that is no message; it is left out of everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadLine {
    /// Counted from 1, a header included.
    pub line: u64,
    pub expected: String,
    pub found: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: expected {}, found `{}`", self.line, self.expected, self.found)
    }
}

/// What was seen while reading one capture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadReport {
    /// Good messages.
    pub rows: u64,
    pub attack_rows: u64,
    pub has_labels: bool,
    /// Lines left out, within the budget.
    pub bad_lines: u64,
    /// The first bad lines.
    pub bad_examples: Vec<BadLine>,
    /// Messages whose time is before that of the message in front of them. Allowed: order is the file's.
    pub backward_steps: u64,
    pub min_time_s: f64,
    pub max_time_s: f64,
    /// Hash of all messages, in hex; equal for copies, whatever the form of the file.
    pub rows_hash: String,
}

/// Reads a capture, handing chunks of up to 65,536 messages to `sink` in file order.
///
/// Rows are never sorted. Errors: no or too few messages, columns of no known form, damaged parquet, CAN FD,
/// more bad lines than `options` allow, and whatever `sink` returns.
pub fn read_capture(
    file: &CaptureFile,
    options: &ReadOptions,
    sink: &mut dyn FnMut(&Frames) -> Result<()>,
) -> Result<ReadReport> {
    check_options(options)?;
    let mut collector = Collector::new(&file.path, options, sink);
    match file.format {
        CaptureFormat::Parquet => parquet_form::read(&file.path, &mut collector)?,
        CaptureFormat::CanCsv => csv_forms::read_can(&file.path, &mut collector)?,
        CaptureFormat::HcrlCsv => csv_forms::read_hcrl(&file.path, &mut collector)?,
        CaptureFormat::Candump => candump::read(&file.path, &mut collector)?,
    }
    collector.finish()
}

/// Reads lines of `candump -L` from a pipe until it ends; `name` stands for it in errors. Messages are handed on
/// before the pipe is waited for, so `sink` hears of them at once.
///
/// Errors as [`read_capture`].
pub fn read_candump(
    source: impl Read,
    name: &Path,
    options: &ReadOptions,
    sink: &mut dyn FnMut(&Frames) -> Result<()>,
) -> Result<ReadReport> {
    check_options(options)?;
    let mut collector = Collector::new(name, options, sink);
    candump::read_from(source, name, &mut collector)?;
    collector.finish()
}

fn check_options(options: &ReadOptions) -> Result<()> {
    if (0.0..=1.0).contains(&options.max_bad_share) {
        return Ok(());
    }
    Err(DataError::BadSetting {
        key: "max_bad_share",
        value: options.max_bad_share.to_string(),
        expected: "a share from 0 to 1",
    })
}

#[cfg(test)]
mod tests;
