//! Takes messages and bad lines from a reader, keeps the budget, hands on chunks.

use std::path::Path;

use super::{BadLine, ReadOptions, ReadReport};
use crate::error::{DataError, Result};
use crate::frames::{Frame, Frames, RowHasher};

const CHUNK_ROWS: usize = 65_536;
/// Bad lines kept with their text; all are counted.
const EXAMPLES: usize = 5;
/// Longest piece of a bad line that is shown.
const SHOWN_CHARS: usize = 80;

pub(super) struct Collector<'a> {
    path: &'a Path,
    options: &'a ReadOptions,
    sink: &'a mut dyn FnMut(&Frames) -> Result<()>,
    frames: Frames,
    hasher: RowHasher,
    report: ReadReport,
    last_s: f64,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        path: &'a Path,
        options: &'a ReadOptions,
        sink: &'a mut dyn FnMut(&Frames) -> Result<()>,
    ) -> Self {
        let report = ReadReport {
            rows: 0,
            attack_rows: 0,
            has_labels: true,
            bad_lines: 0,
            bad_examples: Vec::new(),
            backward_steps: 0,
            min_time_s: f64::INFINITY,
            max_time_s: f64::NEG_INFINITY,
            rows_hash: String::new(),
        };
        let frames = Frames { has_labels: true, ..Frames::default() };
        Self { path, options, sink, frames, hasher: RowHasher::new(), report, last_s: f64::NEG_INFINITY }
    }

    /// Says that this form of file has no label column.
    pub(super) fn without_labels(&mut self) {
        self.frames.has_labels = false;
        self.report.has_labels = false;
    }

    /// Takes a message.
    pub(super) fn good(&mut self, frame: Frame) -> Result<()> {
        let report = &mut self.report;
        report.rows += 1;
        report.attack_rows += u64::from(frame.label);
        report.backward_steps += u64::from(frame.timestamp_s < self.last_s);
        report.min_time_s = report.min_time_s.min(frame.timestamp_s);
        report.max_time_s = report.max_time_s.max(frame.timestamp_s);
        self.last_s = frame.timestamp_s;
        self.frames.push(frame);
        if self.frames.len() >= CHUNK_ROWS { self.flush() } else { Ok(()) }
    }

    /// Takes a line that is no message; an error once the budget of lines is spent.
    pub(super) fn bad(&mut self, line: u64, expected: impl Into<String>, found: &[u8]) -> Result<()> {
        self.report.bad_lines += 1;
        if self.report.bad_examples.len() < EXAMPLES {
            let found = String::from_utf8_lossy(found).trim_end().chars().take(SHOWN_CHARS).collect();
            self.report.bad_examples.push(BadLine { line, expected: expected.into(), found });
        }
        if self.report.bad_lines > self.options.max_bad_lines { Err(self.over_budget()) } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<ReadReport> {
        self.flush()?;
        if !self.options.allows(self.report.bad_lines, self.report.rows) {
            return Err(self.over_budget());
        }
        if self.report.rows < 2 {
            return Err(DataError::EmptyCapture { path: self.path.into(), rows: self.report.rows });
        }
        self.report.rows_hash = format!("{:032x}", self.hasher.finish());
        Ok(self.report)
    }

    /// Hands on what is there.
    pub(super) fn flush(&mut self) -> Result<()> {
        if self.frames.is_empty() {
            return Ok(());
        }
        self.hasher.add(&self.frames);
        (self.sink)(&self.frames)?;
        self.frames.clear();
        Ok(())
    }

    fn over_budget(&self) -> DataError {
        DataError::TooManyBadLines {
            path: self.path.into(),
            bad: self.report.bad_lines,
            rows: self.report.rows + self.report.bad_lines,
            max_bad_lines: self.options.max_bad_lines,
            max_bad_percent: self.options.max_bad_share * 100.0,
            // Called only after a bad line, and the first ones are always kept.
            first: Box::new(self.report.bad_examples[0].clone()),
        }
    }
}
