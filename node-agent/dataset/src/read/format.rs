//! Telling the forms of capture files apart, by content first.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::hex;
use crate::error::{DataError, Result};

/// Form of a capture file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureFormat {
    /// Columns timestamp, id, data_field, label.
    Parquet,
    /// Columns timestamp, arbitration_id, data_field, attack.
    CanCsv,
    /// HCRL's own: Timestamp, ID, DLC, DATA0..7, Flag (T = injected), with or without header.
    HcrlCsv,
    /// candump -l: `(1436509052.249713) can0 044#2A366C2BBA000000`.
    Candump,
}

/// A first line is looked for in this many bytes.
const SNIFFED_BYTES: u64 = 4096;

impl CaptureFormat {
    /// Form of the file from its first bytes, or where they tell nothing from its extension.
    pub fn detect(path: &Path) -> Result<Self> {
        let mut start = Vec::new();
        File::open(path)
            .and_then(|file| file.take(SNIFFED_BYTES).read_to_end(&mut start))
            .map_err(|e| DataError::io("read", path, e))?;
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        Ok(Self::from_start(&start, extension.as_deref().unwrap_or_default()))
    }

    fn from_start(start: &[u8], extension: &str) -> Self {
        let line = start.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
        let line = line.unwrap_or_default();
        if start.starts_with(b"PAR1") || extension == "parquet" {
            Self::Parquet
        } else if line.starts_with(b"(") || (extension == "log" && !line.contains(&b',')) {
            Self::Candump
        } else if is_hcrl(line) {
            Self::HcrlCsv
        } else {
            Self::CanCsv
        }
    }
}

fn is_hcrl(line: &[u8]) -> bool {
    let fields: Vec<&[u8]> = line.split(|&byte| byte == b',').map(<[u8]>::trim_ascii).collect();
    if fields.iter().any(|field| field.eq_ignore_ascii_case(b"dlc")) {
        return true;
    }
    fields.len() >= 4
        && hex::seconds(fields[0]).is_some()
        && matches!(fields[2], [b'0'..=b'8'])
        && matches!(fields[fields.len() - 1], b"R" | b"T")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_told_apart() {
        let form = |start: &str, extension| CaptureFormat::from_start(start.as_bytes(), extension);
        assert_eq!(form("PAR1....", "csv"), CaptureFormat::Parquet);
        assert_eq!(form("", "parquet"), CaptureFormat::Parquet);
        assert_eq!(form("timestamp,arbitration_id,data_field,attack\n", "csv"), CaptureFormat::CanCsv);
        assert_eq!(form("Timestamp, ID, DLC, DATA0, Flag\n", "csv"), CaptureFormat::HcrlCsv);
        assert_eq!(form("1478198376.389427,0316,2,05,21,R\n", "csv"), CaptureFormat::HcrlCsv);
        assert_eq!(form("\n(1436509052.249713) can0 044#2A36\n", "csv"), CaptureFormat::Candump);
        assert_eq!(form("", "log"), CaptureFormat::Candump);
        assert_eq!(form("", "csv"), CaptureFormat::CanCsv);
    }
}
