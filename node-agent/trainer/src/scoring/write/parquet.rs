//! Scores as a parquet file.

use std::path::Path;

use dataset::table::{Column, TableFile};

use super::Sink;
use crate::scoring::ScoreError;
use crate::scoring::scorer::WindowScore;

/// Windows of one row group.
const GROUP_ROWS: usize = 65_536;

const SCHEMA: &str = "message windows {
    REQUIRED BYTE_ARRAY capture (UTF8);
    REQUIRED INT64 window;
    REQUIRED DOUBLE start_s;
    REQUIRED DOUBLE end_s;
    REQUIRED BOOLEAN attack;
    REQUIRED FLOAT gat_score;
    REQUIRED BOOLEAN gat_attack;
    REQUIRED FLOAT vgae_score;
    REQUIRED BOOLEAN vgae_attack;
    OPTIONAL FLOAT fusion_score;
    OPTIONAL BOOLEAN fusion_attack;
    OPTIONAL FLOAT silence_score;
    OPTIONAL BOOLEAN silence_alarm;
    OPTIONAL INT32 label;
}";

/// A file in the making: it appears at its name when it is whole.
pub struct ParquetFile {
    table: TableFile,
    /// Names of the captures, and the rest of each row.
    rows: Vec<(String, WindowScore<'static>)>,
}

impl ParquetFile {
    /// # Errors
    /// `Data` when the folder refuses.
    pub fn create(path: &Path) -> Result<Self, ScoreError> {
        Ok(Self { table: TableFile::create(path, SCHEMA)?, rows: Vec::new() })
    }

    fn write_group(&mut self) -> Result<(), ScoreError> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Ok(());
        }
        let columns = [
            Column::Text(rows.iter().map(|(name, _)| Some(name.clone())).collect()),
            Column::I64(rows.iter().map(|(_, row)| Some(row.window as i64)).collect()),
            Column::F64(rows.iter().map(|(_, row)| Some(row.start_s)).collect()),
            Column::F64(rows.iter().map(|(_, row)| Some(row.end_s)).collect()),
            Column::Bool(rows.iter().map(|(_, row)| Some(row.attack)).collect()),
            Column::F32(rows.iter().map(|(_, row)| Some(row.gat_score)).collect()),
            Column::Bool(rows.iter().map(|(_, row)| Some(row.gat_attack)).collect()),
            Column::F32(rows.iter().map(|(_, row)| Some(row.vgae_score)).collect()),
            Column::Bool(rows.iter().map(|(_, row)| Some(row.vgae_attack)).collect()),
            Column::F32(rows.iter().map(|(_, row)| row.fusion_score).collect()),
            Column::Bool(rows.iter().map(|(_, row)| row.fusion_attack).collect()),
            Column::F32(rows.iter().map(|(_, row)| row.silence_score).collect()),
            Column::Bool(rows.iter().map(|(_, row)| row.silence_alarm).collect()),
            Column::I32(rows.iter().map(|(_, row)| row.label.map(i32::from)).collect()),
        ];
        Ok(self.table.write(&columns)?)
    }
}

impl Sink for ParquetFile {
    fn put(&mut self, rows: &[WindowScore<'_>]) -> Result<(), ScoreError> {
        let owned =
            |row: &WindowScore<'_>| (row.capture.to_owned(), WindowScore { capture: "", ..row.clone() });
        self.rows.extend(rows.iter().map(owned));
        if self.rows.len() >= GROUP_ROWS { self.write_group() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), ScoreError> {
        self.write_group()?;
        Ok(self.table.finish()?)
    }
}
