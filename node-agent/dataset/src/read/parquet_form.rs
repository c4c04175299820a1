//! Parquet captures: timestamp, id, data_field, label, read column by column without arrow.

use std::fs::File;
use std::path::Path;

use parquet::basic::{Repetition, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::SchemaDescriptor;

use super::collector::Collector;
use super::hex;
use crate::error::{DataError, Result};
use crate::frames::Frame;

const BATCH_ROWS: usize = 8192;
const EXPECTED: &str = "timestamp (double), id (integer or hex string), data_field (hex string), label (0/1)";

struct Wanted {
    names: &'static [&'static str],
    kinds: &'static [Physical],
}

const WANTED: [Wanted; 4] = [
    Wanted { names: &["timestamp"], kinds: &[Physical::DOUBLE, Physical::FLOAT] },
    Wanted {
        names: &["id", "arbitration_id"],
        kinds: &[Physical::INT32, Physical::INT64, Physical::BYTE_ARRAY],
    },
    Wanted { names: &["data_field"], kinds: &[Physical::BYTE_ARRAY] },
    Wanted { names: &["label", "attack"], kinds: &[Physical::INT32, Physical::INT64, Physical::BOOLEAN] },
];

pub(super) fn read(path: &Path, collector: &mut Collector<'_>) -> Result<()> {
    let broken = |e: ParquetError| DataError::BrokenParquet { path: path.into(), reason: e.to_string() };
    let file = File::open(path).map_err(|e| DataError::io("open", path, e))?;
    let reader = SerializedFileReader::new(file).map_err(broken)?;
    let columns = find_columns(reader.metadata().file_metadata().schema_descr(), path)?;
    let mut row = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(broken)?;
        let mut cursors = Vec::with_capacity(columns.len());
        for &column in &columns {
            let max_level = group.metadata().column(column).column_descr().max_def_level();
            cursors.push(Cursor::new(group.get_column_reader(column).map_err(broken)?, max_level));
        }
        let [time, id, data, label] = &mut cursors[..] else {
            unreachable!("one cursor for each of the four columns");
        };
        let rows = u64::try_from(group.metadata().num_rows()).unwrap_or(0);
        for _ in 0..rows {
            row += 1;
            match read_row(time, id, data, label).map_err(broken)? {
                Ok(frame) => collector.good(frame)?,
                Err((expected, found)) => collector.bad(row, expected, found.as_bytes())?,
            }
        }
    }
    Ok(())
}

fn find_columns(schema: &SchemaDescriptor, path: &Path) -> Result<[usize; 4]> {
    let wrong = || {
        let found: Vec<String> =
            schema.columns().iter().map(|c| format!("{} ({})", c.name(), c.physical_type())).collect();
        DataError::WrongColumns { path: path.into(), found: found.join(", "), expected: EXPECTED.into() }
    };
    let mut columns = [0; 4];
    for (column, wanted) in columns.iter_mut().zip(&WANTED) {
        *column = schema
            .columns()
            .iter()
            .position(|c| {
                wanted.names.contains(&c.name().to_ascii_lowercase().as_str())
                    && wanted.kinds.contains(&c.physical_type())
                    && c.max_rep_level() == 0
                    && c.self_type().get_basic_info().repetition() != Repetition::REPEATED
            })
            .ok_or_else(wrong)?;
    }
    Ok(columns)
}

type Row = Result<Frame, (&'static str, String)>;

fn read_row(
    time: &mut Cursor,
    id: &mut Cursor,
    data: &mut Cursor,
    label: &mut Cursor,
) -> Result<Row, ParquetError> {
    // All four step forward before anything is judged, or they would part after a bad row.
    let (time, id, data, label) = (time.next()?, id.next()?, data.next()?, label.next()?);
    let timestamp_s = match time {
        Value::Float(seconds) if seconds.is_finite() => seconds,
        found => return Ok(Err(("a time in seconds", found.text()))),
    };
    let parsed = match id {
        Value::Integer(id) => u32::try_from(id).ok().filter(|&id| id <= hex::MAX_ID),
        Value::Bytes(text) => hex::id(text),
        _ => None,
    };
    let Some(id) = parsed else {
        return Ok(Err(("an id of at most 29 bits", id.text())));
    };
    let parsed = match data {
        Value::Bytes(text) => hex::payload(text),
        _ => Err("hex digits of data"),
    };
    let (payload, len) = match parsed {
        Ok(parsed) => parsed,
        Err(expected) => return Ok(Err((expected, data.text()))),
    };
    let label = match label {
        Value::Integer(0) => 0,
        Value::Integer(1) => 1,
        found => return Ok(Err(("label 0 or 1", found.text()))),
    };
    Ok(Ok(Frame { timestamp_s, id, payload, len, label }))
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Null,
    Float(f64),
    Integer(i64),
    Bytes(&'a [u8]),
}

impl Value<'_> {
    fn text(self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Float(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Bytes(value) => String::from_utf8_lossy(value).into_owned(),
        }
    }
}

enum Values {
    F64(Column<DoubleType>),
    F32(Column<FloatType>),
    I32(Column<Int32Type>),
    I64(Column<Int64Type>),
    Bool(Column<BoolType>),
    Bytes(Column<ByteArrayType>),
}

/// Steps through one column row by row.
struct Cursor {
    values: Values,
}

impl Cursor {
    fn new(reader: ColumnReader, max_level: i16) -> Self {
        let values = match reader {
            ColumnReader::DoubleColumnReader(r) => Values::F64(Column::new(r, max_level)),
            ColumnReader::FloatColumnReader(r) => Values::F32(Column::new(r, max_level)),
            ColumnReader::Int32ColumnReader(r) => Values::I32(Column::new(r, max_level)),
            ColumnReader::Int64ColumnReader(r) => Values::I64(Column::new(r, max_level)),
            ColumnReader::BoolColumnReader(r) => Values::Bool(Column::new(r, max_level)),
            ColumnReader::ByteArrayColumnReader(r) => Values::Bytes(Column::new(r, max_level)),
            _ => unreachable!("find_columns lets no other physical type pass"),
        };
        Self { values }
    }

    fn next(&mut self) -> Result<Value<'_>, ParquetError> {
        Ok(match &mut self.values {
            Values::F64(c) => c.next()?.map_or(Value::Null, |&v| Value::Float(v)),
            Values::F32(c) => c.next()?.map_or(Value::Null, |&v| Value::Float(v.into())),
            Values::I32(c) => c.next()?.map_or(Value::Null, |&v| Value::Integer(v.into())),
            Values::I64(c) => c.next()?.map_or(Value::Null, |&v| Value::Integer(v)),
            Values::Bool(c) => c.next()?.map_or(Value::Null, |&v| Value::Integer(v.into())),
            Values::Bytes(c) => c.next()?.map_or(Value::Null, |v: &ByteArray| Value::Bytes(v.data())),
        })
    }
}

struct Column<T: DataType> {
    reader: ColumnReaderImpl<T>,
    /// Definition levels of the batch: the highest one stands for a value, the others for null.
    levels: Vec<i16>,
    max_level: i16,
    values: Vec<T::T>,
    next_row: usize,
    next_value: usize,
    rows: usize,
}

impl<T: DataType> Column<T> {
    fn new(reader: ColumnReaderImpl<T>, max_level: i16) -> Self {
        Self {
            reader,
            levels: Vec::new(),
            max_level,
            values: Vec::new(),
            next_row: 0,
            next_value: 0,
            rows: 0,
        }
    }

    /// The next row's value, `None` for null; an error if the column ends before its row group does.
    fn next(&mut self) -> Result<Option<&T::T>, ParquetError> {
        if self.next_row == self.rows {
            self.levels.clear();
            self.values.clear();
            let levels = (self.max_level > 0).then_some(&mut self.levels);
            let (rows, ..) = self.reader.read_records(BATCH_ROWS, levels, None, &mut self.values)?;
            if rows == 0 {
                return Err(ParquetError::EOF("a column ends before its row group".into()));
            }
            (self.rows, self.next_row, self.next_value) = (rows, 0, 0);
        }
        let row = self.next_row;
        self.next_row += 1;
        if self.max_level > 0 && self.levels[row] < self.max_level {
            return Ok(None);
        }
        self.next_value += 1;
        Ok(self.values.get(self.next_value - 1))
    }
}
