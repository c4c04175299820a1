use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

use super::*;
use crate::attack::AttackKind;

const HEADER: &str = "timestamp,arbitration_id,data_field,attack\n";

fn file(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> CaptureFile {
    let path: PathBuf = folder.join(name);
    std::fs::write(&path, content).unwrap();
    CaptureFile {
        folder: "train_01".into(),
        name: name.into(),
        format: CaptureFormat::detect(&path).unwrap(),
        path,
        attack_kind: AttackKind::Normal,
    }
}

fn read_all(file: &CaptureFile) -> Result<(Frames, ReadReport)> {
    let mut all = Frames::default();
    let report = read_capture(file, &ReadOptions::default(), &mut |frames| {
        all.has_labels = frames.has_labels;
        all.timestamp_s.extend_from_slice(&frames.timestamp_s);
        all.id.extend_from_slice(&frames.id);
        all.payload.extend_from_slice(&frames.payload);
        all.len.extend_from_slice(&frames.len);
        all.label.extend_from_slice(&frames.label);
        Ok(())
    })?;
    Ok((all, report))
}

fn csv_rows(count: usize) -> String {
    (0..count).map(|i| format!("{}.5,{:03X},{:04X},{}\n", i, i % 5 + 0x100, i % 65536, i % 2)).collect()
}

/// Writes rows of (time, id, data, label) in the original's schema.
fn parquet_bytes(rows: &[(f64, i32, &str, i32)], id_name: &str) -> Vec<u8> {
    let schema = format!(
        "message schema {{ optional double timestamp; optional int32 {id_name} (INTEGER(32,false)); \
         optional binary data_field (STRING); optional int32 label (INTEGER(8,false)); }}"
    );
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    for group in rows.chunks(10_000) {
        let mut out = writer.next_row_group().unwrap();
        // A negative label stands for null in these tests.
        let levels: Vec<i16> = group.iter().map(|row| i16::from(row.3 >= 0)).collect();
        let ones = vec![1i16; group.len()];
        let times: Vec<f64> = group.iter().map(|row| row.0).collect();
        let ids: Vec<i32> = group.iter().map(|row| row.1).collect();
        let data: Vec<ByteArray> = group.iter().map(|row| ByteArray::from(row.2)).collect();
        let labels: Vec<i32> = group.iter().map(|row| row.3).filter(|&label| label >= 0).collect();
        let mut column = out.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&times, Some(&ones), None).unwrap();
        column.close().unwrap();
        let mut column = out.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&ids, Some(&ones), None).unwrap();
        column.close().unwrap();
        let mut column = out.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&data, Some(&ones), None).unwrap();
        column.close().unwrap();
        let mut column = out.next_column().unwrap().unwrap();
        column.typed::<Int32Type>().write_batch(&labels, Some(&levels), None).unwrap();
        column.close().unwrap();
        out.close().unwrap();
    }
    writer.into_inner().unwrap()
}

#[test]
fn all_forms_give_the_same_messages() {
    let folder = tempfile::tempdir().unwrap();
    let can =
        file(folder.path(), "a.csv", format!("{HEADER}1.5,0316,0521,0\n1.25,18DB33F1,,1\n2.0,7FF,FF,0\n"));
    let (frames, report) = read_all(&can).unwrap();
    assert_eq!(frames.id, [0x316, 0x18DB_33F1, 0x7FF]);
    assert_eq!(frames.payload[0], [5, 0x21, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        (&frames.len[..], &frames.label[..], frames.has_labels),
        (&[2, 0, 1][..], &[0, 1, 0][..], true)
    );
    assert_eq!((report.rows, report.attack_rows, report.backward_steps), (3, 1, 1));
    assert_eq!((report.min_time_s, report.max_time_s), (1.25, 2.0));

    let order = "attack,data_field,extra,arbitration_id,timestamp\n";
    let text = format!("{order}0,0521,x,316,1.5\n1,,x,18DB33F1,1.25\n0,ff,x,7ff,2.0\n");
    let hcrl = "1.5,0316,2,05,21,R\n1.25,18DB33F1,0,T\n2.0,07ff,1,ff,,,,,,,,R\n";
    let with_header = format!("Timestamp, ID, DLC, DATA0, DATA1, Flag\n{hcrl}");
    let rows = [(1.5, 0x316, "0521", 0), (1.25, 0x18DB_33F1, "", 1), (2.0, 0x7FF, "FF", 0)];
    let copies = [
        file(folder.path(), "b.csv", text),
        file(folder.path(), "c.csv", hcrl),
        file(folder.path(), "d.csv", with_header),
        file(folder.path(), "e.parquet", parquet_bytes(&rows, "id")),
    ];
    for copy in &copies {
        let (again, other) = read_all(copy).unwrap();
        assert_eq!(again, frames, "{}", copy.name);
        assert_eq!(other.rows_hash, report.rows_hash, "{}", copy.name);
    }

    let log = "(1.5) can0 316#0521\n(1.25) can0 18DB33F1#R\n\n(2.0) vcan0 7FF#FF R\n";
    let (logged, report) = read_all(&file(folder.path(), "f.log", log)).unwrap();
    assert_eq!((&logged.id, &logged.payload, &logged.len), (&frames.id, &frames.payload, &frames.len));
    assert_eq!(logged.label, [0, 0, 0]);
    assert!(!logged.has_labels && !report.has_labels);
}

#[test]
fn bad_lines_are_counted_shown_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut text = format!("{HEADER}{}", csv_rows(3_000));
    text.push_str("3000.5,100,123,0\n3001.5,XYZ,12,0\n");
    let (frames, report) = read_all(&file(folder.path(), "a.csv", &text)).unwrap();
    assert_eq!((frames.len(), report.rows, report.bad_lines), (3_000, 3_000, 2));
    assert_eq!(
        report.bad_examples[0].to_string(),
        "line 3002: expected an even number of hex digits of data, found `123`"
    );
    assert_eq!(report.bad_examples[1].line, 3003);
    assert_eq!(report.bad_examples[1].found, "XYZ");
}

#[test]
fn budgets_of_lines_and_of_share_refuse() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = ["x,100,12,0\n", "1.0,100,12,2\n", "1.0,100\n", "1.0,100,\"12,0\n", "nan,1,1,1\n"];
    for line in wrong {
        let few = file(folder.path(), "few.csv", format!("{HEADER}{}{line}", csv_rows(500)));
        let error = read_all(&few).unwrap_err().to_string();
        assert!(
            error.contains("few.csv: 1 bad lines in 501") && error.contains("line 502: expected"),
            "{error}"
        );
    }
    let many = format!("{HEADER}{}{}", csv_rows(50_000), "1.0,100,12,9\n".repeat(21));
    let many = file(folder.path(), "many.csv", many);
    assert!(matches!(read_all(&many), Err(DataError::TooManyBadLines { bad: 21, .. })));
    let generous = ReadOptions { max_bad_lines: 30, max_bad_share: 0.01 };
    assert_eq!(read_capture(&many, &generous, &mut |_| Ok(())).unwrap().bad_lines, 21);
    let nonsense = ReadOptions { max_bad_share: 2.0, ..generous };
    assert!(matches!(read_capture(&many, &nonsense, &mut |_| Ok(())), Err(DataError::BadSetting { .. })));
}

#[test]
fn hcrl_and_candump_lines_are_judged() {
    let folder = tempfile::tempdir().unwrap();
    let good: String = (0..2_000).map(|i| format!("{i}.0,0316,1,05,R\n")).collect();
    for (line, expected) in [
        ("1.0,0316,9,05,R\n", "a DLC from 0 to 8"),
        ("1.0,0316,2,05,R\n", "two hex digits"),
        ("1.0,0316,1,05,X\n", "Flag R or T"),
        ("1.0,0316,1,05,06,R\n", "Flag R or T"),
        ("1.0,0316\n", "Timestamp, ID, DLC"),
    ] {
        let (_, report) = read_all(&file(folder.path(), "a.csv", format!("{good}{line}"))).unwrap();
        let shown = report.bad_examples[0].to_string();
        assert!(shown.contains(expected) && shown.starts_with("line 2001"), "{line}: {shown}");
    }
    let good: String = (0..2_000).map(|i| format!("({i}.0) can0 316#05\n")).collect();
    for (line, expected) in [
        ("1.0 can0 316#05\n", "a time in seconds in brackets"),
        ("(1.0) can0 31605\n", "ID#DATA"),
        ("(1.0) can0 31Z#05\n", "a hex id"),
        ("(1.0) can0 316#051\n", "an even number"),
        ("(1.0)\n", "ID#DATA"),
    ] {
        let (_, report) = read_all(&file(folder.path(), "a.log", format!("{good}{line}"))).unwrap();
        assert!(report.bad_examples[0].expected.contains(expected), "{line}");
    }
    let fd = file(folder.path(), "fd.log", format!("{good}(3.0) can0 123##1AABB\n"));
    let error = read_all(&fd).unwrap_err().to_string();
    assert!(error.contains("fd.log, line 2001") && error.contains("CAN FD"), "{error}");
}

#[test]
fn empty_captures_and_wrong_columns_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, rows) in [
        ("a.csv", "", 0),
        ("b.csv", HEADER, 0),
        ("c.log", "\n", 0),
        ("d.csv", &format!("{HEADER}{}", csv_rows(1)), 1),
    ] {
        let error = read_all(&file(folder.path(), name, text)).unwrap_err();
        assert!(matches!(error, DataError::EmptyCapture { rows: r, .. } if r == rows), "{name}: {error}");
    }
    let error = read_all(&file(folder.path(), "a.csv", "time,id,speed\n1,2,3\n")).unwrap_err().to_string();
    assert!(error.contains("found time, id, speed; expected timestamp, arbitration_id"), "{error}");
    let rows = [(1.0, 1, "", 0), (2.0, 2, "", 0)];
    let parquet = file(folder.path(), "a.parquet", parquet_bytes(&rows, "identifier"));
    let error = read_all(&parquet).unwrap_err().to_string();
    assert!(error.contains("identifier (INT32)") && error.contains("id (integer or hex string)"), "{error}");
    let none = file(folder.path(), "b.parquet", parquet_bytes(&[], "id"));
    assert!(matches!(read_all(&none), Err(DataError::EmptyCapture { rows: 0, .. })));
}

#[test]
fn parquet_nulls_and_odd_hex_count_as_bad_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut rows = vec![(1.0, 0x100, "AABB", 0); 25_000];
    rows[7].2 = "AAB";
    rows[12_345].3 = -1;
    let (frames, report) = read_all(&file(folder.path(), "a.parquet", parquet_bytes(&rows, "id"))).unwrap();
    assert_eq!((frames.len(), report.bad_lines), (24_998, 2));
    assert_eq!((report.bad_examples[0].line, &report.bad_examples[0].found[..]), (8, "AAB"));
    assert_eq!((report.bad_examples[1].line, &report.bad_examples[1].found[..]), (12_346, "null"));
}

#[test]
fn truncated_parquet_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let whole = parquet_bytes(&vec![(1.0, 0x100, "AABB", 0); 20_000], "id");
    let mut hole = whole.clone();
    hole[40..200].fill(0xA5);
    for bytes in [&whole[..whole.len() / 2], &whole[..6], b"", &hole] {
        let error = read_all(&file(folder.path(), "a.parquet", bytes)).unwrap_err().to_string();
        assert!(error.contains("not a whole parquet file") && error.contains("download it again"), "{error}");
    }
}
