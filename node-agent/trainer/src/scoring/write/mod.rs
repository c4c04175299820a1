//! Where scores go: JSON lines or a parquet file.

mod parquet;

use std::io::Write;

pub use self::parquet::ParquetFile;
use super::ScoreError;
use super::scorer::WindowScore;

/// Takes scores in order.
pub trait Sink {
    /// # Errors
    /// `Write` when the disk or the reader of a pipe refuses.
    fn put(&mut self, rows: &[WindowScore<'_>]) -> Result<(), ScoreError>;
    /// Everything was put.
    ///
    /// # Errors
    /// As [`Self::put`].
    fn finish(&mut self) -> Result<(), ScoreError>;
}

/// One JSON object a line, each line out before the next window is waited for.
pub struct JsonLines<W: Write> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> JsonLines<W> {
    pub fn new(out: W) -> Self {
        Self { out, line: Vec::new() }
    }
}

impl<W: Write> Sink for JsonLines<W> {
    fn put(&mut self, rows: &[WindowScore<'_>]) -> Result<(), ScoreError> {
        self.line.clear();
        let failed = |source| ScoreError::Write { what: "JSON lines".to_owned(), source };
        for row in rows {
            serde_json::to_writer(&mut self.line, row).map_err(|error| failed(error.into()))?;
            self.line.push(b'\n');
        }
        self.out.write_all(&self.line).and_then(|()| self.out.flush()).map_err(failed)
    }

    fn finish(&mut self) -> Result<(), ScoreError> {
        Ok(())
    }
}
