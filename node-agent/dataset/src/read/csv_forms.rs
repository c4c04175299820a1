//! The two CSV forms: can-train-and-test's and HCRL's own.

use std::fs::File;
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder};

use super::collector::Collector;
use super::hex;
use crate::error::{DataError, Result};
use crate::frames::Frame;

const CAN_COLUMNS: [&[&str]; 4] = [
    &["timestamp", "time"],
    &["arbitration_id", "id", "can_id"],
    &["data_field", "data", "payload"],
    &["attack", "label"],
];
const CAN_EXPECTED: &str = "timestamp, arbitration_id, data_field, attack";

/// Why a record is no message: what was expected, and the field that is not it.
type Wrong<'a> = (&'static str, &'a [u8]);

fn open(path: &Path) -> Result<csv::Reader<File>> {
    let file = File::open(path).map_err(|e| DataError::io("open", path, e))?;
    // No field of a capture needs quotes, and a stray one would swallow the lines up to the next.
    Ok(ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .quoting(false)
        .buffer_capacity(256 * 1024)
        .from_reader(file))
}

fn next(reader: &mut csv::Reader<File>, record: &mut ByteRecord, path: &Path) -> Result<bool> {
    reader.read_byte_record(record).map_err(|e| {
        let source = match e.into_kind() {
            csv::ErrorKind::Io(source) => source,
            kind => std::io::Error::other(format!("{kind:?}")),
        };
        DataError::io("read", path, source)
    })
}

fn line_of(record: &ByteRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

/// Reads timestamp, arbitration_id, data_field, attack in the order of the header.
pub(super) fn read_can(path: &Path, collector: &mut Collector<'_>) -> Result<()> {
    let mut reader = open(path)?;
    let mut record = ByteRecord::new();
    if !next(&mut reader, &mut record, path)? {
        return Ok(());
    }
    let columns = header_columns(&record, path)?;
    while next(&mut reader, &mut record, path)? {
        match can_row(&record, columns) {
            Ok(frame) => collector.good(frame)?,
            Err((expected, found)) => collector.bad(line_of(&record), expected, found)?,
        }
    }
    Ok(())
}

fn header_columns(header: &ByteRecord, path: &Path) -> Result<[usize; 4]> {
    let names: Vec<String> = header
        .iter()
        .map(|field| {
            String::from_utf8_lossy(field).trim_start_matches('\u{feff}').trim().to_ascii_lowercase()
        })
        .collect();
    let mut columns = [0; 4];
    for (column, known) in columns.iter_mut().zip(CAN_COLUMNS) {
        *column = names.iter().position(|name| known.contains(&name.as_str())).ok_or_else(|| {
            let mut found = names.join(", ");
            found.truncate(found.char_indices().nth(200).map_or(found.len(), |(at, _)| at));
            DataError::WrongColumns { path: path.into(), found, expected: CAN_EXPECTED.into() }
        })?;
    }
    Ok(columns)
}

fn can_row<'a>(record: &'a ByteRecord, columns: [usize; 4]) -> Result<Frame, Wrong<'a>> {
    let field = |column: usize| record.get(columns[column]).ok_or((CAN_EXPECTED, record.as_slice()));
    let timestamp_s = hex::seconds(field(0)?).ok_or(("a time in seconds", field(0)?))?;
    let id = hex::id(field(1)?).ok_or(("a hex id of at most 29 bits", field(1)?))?;
    let (payload, len) =
        hex::payload(field(2)?).map_err(|expected| (expected, field(2).unwrap_or_default()))?;
    let label = match field(3)?.trim_ascii() {
        b"0" => 0,
        b"1" => 1,
        found => return Err(("attack 0 or 1", found)),
    };
    Ok(Frame { timestamp_s, id, payload, len, label })
}

/// Reads Timestamp, ID, DLC, DLC data columns, Flag; a header line is passed over.
pub(super) fn read_hcrl(path: &Path, collector: &mut Collector<'_>) -> Result<()> {
    let mut reader = open(path)?;
    let mut record = ByteRecord::new();
    let mut first = true;
    while next(&mut reader, &mut record, path)? {
        let is_header = first && record.iter().any(|field| field.trim_ascii().eq_ignore_ascii_case(b"dlc"));
        first = false;
        if is_header {
            continue;
        }
        match hcrl_row(&record) {
            Ok(frame) => collector.good(frame)?,
            Err((expected, found)) => collector.bad(line_of(&record), expected, found)?,
        }
    }
    Ok(())
}

fn hcrl_row(record: &ByteRecord) -> Result<Frame, Wrong<'_>> {
    const SHAPE: &str = "Timestamp, ID, DLC, DATA0.., Flag";
    let whole = record.as_slice();
    let field = |column: usize| record.get(column).map(<[u8]>::trim_ascii).ok_or((SHAPE, whole));
    let timestamp_s =
        hex::seconds(field(0)?).ok_or(("a time in seconds", record.get(0).unwrap_or_default()))?;
    let id = hex::id(field(1)?).ok_or(("a hex id of at most 29 bits", record.get(1).unwrap_or_default()))?;
    let len = match field(2)? {
        [digit @ b'0'..=b'8'] => digit - b'0',
        found => return Err(("a DLC from 0 to 8", found)),
    };
    let mut payload = [0; 8];
    for (column, byte) in payload.iter_mut().enumerate().take(len as usize) {
        let text = field(3 + column)?;
        match hex::payload(text) {
            Ok((bytes, 1)) => *byte = bytes[0],
            _ => return Err(("two hex digits for each of the DLC's data bytes", text)),
        }
    }
    // Writers that pad to eight data columns leave the unused ones empty.
    let mut rest =
        record.iter().skip(3 + len as usize).map(<[u8]>::trim_ascii).filter(|text| !text.is_empty());
    let label = match (rest.next(), rest.next()) {
        (Some(b"R"), None) => 0,
        (Some(b"T"), None) => 1,
        _ => return Err(("Flag R or T behind the data bytes that DLC tells", whole)),
    };
    Ok(Frame { timestamp_s, id, payload, len, label })
}
