//! Tables as parquet files, written column by column without arrow: whole at their name, or not there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FloatType, Int32Type, Int64Type,
};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::error::{DataError, Result};

/// Values of one column; none only where the schema says OPTIONAL.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    Text(Vec<Option<String>>),
    I64(Vec<Option<i64>>),
    I32(Vec<Option<i32>>),
    F64(Vec<Option<f64>>),
    F32(Vec<Option<f32>>),
    Bool(Vec<Option<bool>>),
}

/// A file in the making.
pub struct TableFile {
    path: PathBuf,
    temporary: PathBuf,
    /// None once it is finished.
    writer: Option<SerializedFileWriter<File>>,
}

impl TableFile {
    /// Begins a file that appears at `path` when it is whole; `schema` as parquet writes message types.
    ///
    /// # Errors
    /// `Io` when the folder refuses, or for a schema that is none.
    pub fn create(path: &Path, schema: &str) -> Result<Self> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary).map_err(|e| DataError::io("write", path, e))?;
        let failed = |error: ParquetError| DataError::io("write", path, std::io::Error::other(error));
        let schema = parse_message_type(schema).map_err(failed)?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer =
            SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), temporary, writer: Some(writer) })
    }

    /// Writes rows, the columns in the order of the schema and of equal length.
    ///
    /// # Errors
    /// `Io` when the disk refuses, or for columns that are not those of the schema.
    pub fn write(&mut self, columns: &[Column]) -> Result<()> {
        let Some(writer) = self.writer.as_mut() else { return Ok(()) };
        let written = writer.next_row_group().and_then(|mut group| {
            columns.iter().try_for_each(|column| write_column(&mut group, column))?;
            group.close()
        });
        written.map(|_| ()).map_err(|error| self.failed(error))
    }

    /// Puts the file to its name.
    ///
    /// # Errors
    /// `Io` when the disk refuses.
    pub fn finish(&mut self) -> Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let file = writer.into_inner().map_err(|error| self.failed(error))?;
        let whole = file.sync_all().and_then(|()| std::fs::rename(&self.temporary, &self.path));
        whole.map_err(|error| DataError::io("write", &self.path, error))
    }

    fn failed(&self, error: ParquetError) -> DataError {
        DataError::io("write", &self.path, std::io::Error::other(error))
    }
}

impl Drop for TableFile {
    fn drop(&mut self) {
        if self.writer.is_some() {
            // Not whole; a rest that cannot be removed does no harm under its name.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

fn write_column(group: &mut SerializedRowGroupWriter<'_, File>, column: &Column) -> Result<(), ParquetError> {
    match column {
        Column::Text(values) => {
            let bytes = |text: &String| ByteArray::from(text.as_str());
            put::<ByteArrayType>(group, values.iter().map(|text| text.as_ref().map(bytes)).collect())
        }
        Column::I64(values) => put::<Int64Type>(group, values.clone()),
        Column::I32(values) => put::<Int32Type>(group, values.clone()),
        Column::F64(values) => put::<DoubleType>(group, values.clone()),
        Column::F32(values) => put::<FloatType>(group, values.clone()),
        Column::Bool(values) => put::<BoolType>(group, values.clone()),
    }
}

/// The next column of the schema. Levels are passed over where it is a required one.
fn put<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, File>,
    values: Vec<Option<T::T>>,
) -> Result<(), ParquetError> {
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values: Vec<T::T> = values.into_iter().flatten().collect();
    let missing = || ParquetError::General("the schema has no further column".to_owned());
    let mut column = group.next_column()?.ok_or_else(missing)?;
    column.typed::<T>().write_batch(&values, Some(&levels), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    const SCHEMA: &str = "message t { REQUIRED BYTE_ARRAY name (UTF8); OPTIONAL FLOAT score; }";

    #[test]
    fn rows_come_back_and_a_half_written_file_does_not_appear() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        let rows = [
            Column::Text(vec![Some("a".to_owned()), Some("b".to_owned())]),
            Column::F32(vec![None, Some(2.5)]),
        ];
        let mut table = TableFile::create(&path, SCHEMA).unwrap();
        table.write(&rows).unwrap();
        drop(table);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut table = TableFile::create(&path, SCHEMA).unwrap();
        table.write(&rows).unwrap();
        table.finish().unwrap();
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let read: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), 2);
        assert!(read[0].get_string(0).unwrap() == "a" && read[0].get_float(1).is_err());
        assert_eq!(read[1].get_float(1).unwrap(), 2.5);
        assert!(TableFile::create(&path, "no schema").is_err());
    }
}
