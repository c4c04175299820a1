//! Looking at a dataset without training on it: figures of each capture, and everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::attack::AttackKind;
use crate::error::Result;
use crate::frames::Frames;
use crate::layout::{CaptureFile, Layout};
use crate::read::{ReadOptions, ReadReport, read_capture};
use crate::window::WindowConfig;

/// Figures of one capture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptureScan {
    pub folder: String,
    pub name: String,
    pub attack_kind: AttackKind,
    /// Different arbitration ids.
    pub ids: u64,
    /// Latest minus earliest time, seconds.
    pub duration_s: f64,
    /// Messages a second; 0 where all have the same time.
    pub rate_per_s: f64,
    pub windows: u64,
    pub attack_windows: u64,
    pub read: ReadReport,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Training refuses the dataset.
    Error,
    /// Training goes on; results may surprise.
    Warning,
    Note,
}

/// Something about a dataset that its owner should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub severity: Severity,
    /// `folder/name`; none where it is about the dataset.
    pub capture: Option<String>,
    pub text: String,
}

/// All findings of a dataset, errors first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    pub dataset: String,
    pub captures: u64,
    pub rows: u64,
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// True if training would refuse the dataset.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Figures of every capture, in the layout's order; ends at the first capture that cannot be read.
pub fn scan(layout: &Layout, window: &WindowConfig, read: &ReadOptions) -> Result<Vec<CaptureScan>> {
    window.validate()?;
    let files: Vec<&CaptureFile> = layout.captures().collect();
    files.par_iter().with_max_len(1).map(|file| scan_capture(file, window, read)).collect()
}

fn scan_capture(file: &CaptureFile, window: &WindowConfig, options: &ReadOptions) -> Result<CaptureScan> {
    let mut ids = BTreeSet::new();
    let mut labels = Vec::new();
    let read = read_capture(file, options, &mut |frames: &Frames| {
        let mut chunk = frames.id.clone();
        chunk.sort_unstable();
        chunk.dedup();
        ids.extend(chunk);
        labels.extend_from_slice(&frames.label);
        Ok(())
    })?;
    let duration_s = read.max_time_s - read.min_time_s;
    Ok(CaptureScan {
        folder: file.folder.clone(),
        name: file.name.clone(),
        attack_kind: file.attack_kind,
        ids: ids.len() as u64,
        duration_s,
        rate_per_s: if duration_s > 0.0 { read.rows as f64 / duration_s } else { 0.0 },
        windows: window.windows(read.rows),
        attack_windows: attack_windows(&labels, window),
        read,
    })
}

/// Windows with an injected message, counted as the graphs are.
fn attack_windows(labels: &[u8], config: &WindowConfig) -> u64 {
    let successor_missing = |row: usize| row + 1 == labels.len() || config.breaks_before(row as u64 + 1);
    let kept: Vec<u8> =
        (0..labels.len()).filter(|&row| !successor_missing(row)).map(|row| labels[row]).collect();
    let (window, stride) = (config.window as usize, config.stride as usize);
    (0..config.windows(labels.len() as u64) as usize)
        .filter(|w| kept[w * stride..(w * stride + window).min(kept.len())].contains(&1))
        .count() as u64
}

/// Reads every capture and tells all problems together.
pub fn check(layout: &Layout, window: &WindowConfig, options: &ReadOptions) -> Result<CheckReport> {
    window.validate()?;
    let files: Vec<&CaptureFile> = layout.captures().collect();
    let scans: Vec<(&CaptureFile, Result<CaptureScan>)> =
        files.par_iter().with_max_len(1).map(|file| (*file, scan_capture(file, window, options))).collect();
    let mut findings = Vec::new();
    let mut add = |severity, capture: Option<String>, text: String| {
        findings.push(Finding { severity, capture, text });
    };
    for path in &layout.ignored {
        let text = format!("{} is in no train or test folder and is not used", path.display());
        add(Severity::Warning, None, text);
    }
    if layout.train.is_empty() {
        add(Severity::Error, None, "there are no training captures".into());
    }
    if layout.tests.is_empty() {
        add(
            Severity::Warning,
            None,
            "there are no test folders: nothing will be scored but validation".into(),
        );
    }
    for (file, scan) in &scans {
        match scan {
            Err(e) => add(Severity::Error, Some(file.label()), e.to_string()),
            Ok(scan) => capture_findings(file, scan, &mut add),
        }
    }
    let whole: Vec<(&CaptureFile, &CaptureScan)> =
        scans.iter().filter_map(|(file, scan)| scan.as_ref().ok().map(|scan| (*file, scan))).collect();
    let training = &layout.train;
    let is_training = |file: &CaptureFile| training.contains(file);
    let attacks = whole.iter().any(|(file, scan)| is_training(file) && scan.attack_windows > 0);
    if !training.is_empty() && !attacks {
        let text = "no training capture holds an attack: a classifier has nothing to learn from";
        add(Severity::Warning, None, text.into());
    }
    copy_findings(&whole, &is_training, &mut add);
    findings.sort_by_key(|finding| finding.severity);
    Ok(CheckReport {
        dataset: layout.dataset.clone(),
        captures: layout.len() as u64,
        rows: whole.iter().map(|(_, scan)| scan.read.rows).sum(),
        findings,
    })
}

fn capture_findings(
    file: &CaptureFile,
    scan: &CaptureScan,
    add: &mut impl FnMut(Severity, Option<String>, String),
) {
    let mut tell = |severity, text: String| add(severity, Some(file.label()), text);
    let read = &scan.read;
    let (free, training) = (file.in_attack_free_folder(), file.folder.to_ascii_lowercase().contains("train"));
    if let Some(first) = read.bad_examples.first() {
        tell(Severity::Warning, format!("{} bad lines are left out; first: {first}", read.bad_lines));
    }
    if read.backward_steps > 0 {
        let text = format!("time goes back {} times; the file's order is kept", read.backward_steps);
        tell(Severity::Note, text);
    }
    if free && read.attack_rows > 0 {
        let text = format!("{} messages are labelled attack in an attack-free folder", read.attack_rows);
        tell(Severity::Warning, text);
    }
    let suppress = file.attack_kind == AttackKind::Suppress && read.attack_rows == 0;
    if suppress {
        let text =
            "messages were removed, none is labelled: it gets an alarm rate, no F1, and is not trained on";
        tell(Severity::Note, text.into());
    } else if !read.has_labels && training && !free {
        let text =
            "has no labels and cannot be trained on; move it to a test folder or to an attack-free one";
        tell(Severity::Error, text.into());
    } else if !read.has_labels && !free {
        tell(Severity::Note, "has no labels: it gets an alarm rate, no F1".into());
    } else if !free && read.attack_rows == 0 && file.attack_kind != AttackKind::Normal {
        tell(Severity::Warning, "is named after an attack, but no message is labelled".into());
    }
    if scan.windows == 1 && read.rows < 100 {
        tell(Severity::Warning, format!("is very short: {} messages give one window", read.rows));
    }
}

fn copy_findings(
    whole: &[(&CaptureFile, &CaptureScan)],
    is_training: &dyn Fn(&CaptureFile) -> bool,
    add: &mut impl FnMut(Severity, Option<String>, String),
) {
    let mut first_with: BTreeMap<&str, &CaptureFile> = BTreeMap::new();
    for (file, scan) in whole {
        let Some(first) = first_with.get(scan.read.rows_hash.as_str()) else {
            first_with.insert(&scan.read.rows_hash, file);
            continue;
        };
        // Training captures come first, so a copy in training has its original there too.
        let (severity, rest) = match (is_training(first), is_training(file)) {
            (true, true) => (Severity::Note, "training takes it once"),
            (true, false) => (Severity::Warning, "a test on what was trained on tells nothing"),
            _ => (Severity::Note, "both are scored"),
        };
        add(severity, Some(file.label()), format!("holds the same messages as {}: {rest}", first.label()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::find;
    use crate::prepare::{Copies, PrepareConfig, PrepareTuning, prepare};
    use crate::sample::{self, SampleConfig};
    use crate::split::{SplitConfig, SplitKind};
    use crate::window::ChunkRule;

    const HEADER: &str = "timestamp,arbitration_id,data_field,attack\n";

    #[test]
    fn scan_counts_as_preparation_does() {
        let root = tempfile::tempdir().unwrap();
        sample::write(&SampleConfig { seed: 2, minutes: 0.4 }, root.path()).unwrap();
        let layout = find(root.path(), sample::DATASET).unwrap();
        for (stride, chunk_rule) in
            [(100, ChunkRule::Whole), (30, ChunkRule::Original), (250, ChunkRule::Whole)]
        {
            let window = WindowConfig { stride, chunk_rule, ..WindowConfig::default() };
            let method = SplitKind::Contiguous { embargo_windows: 3 };
            let split = SplitConfig { method, ..SplitConfig::default() };
            let config = PrepareConfig { window, copies: Copies::AsFound, split, ..PrepareConfig::default() };
            let prepared = prepare(&layout, &config, &PrepareTuning::default(), &|_| {}).unwrap();
            for scan in scan(&layout, &window, &ReadOptions::default()).unwrap() {
                let found = prepared
                    .report
                    .captures
                    .iter()
                    .find(|c| (&c.folder, &c.name) == (&scan.folder, &scan.name));
                let found = found.unwrap();
                assert_eq!((scan.windows, scan.attack_windows), (found.windows, found.attack_windows));
                assert!((40..2048).contains(&scan.ids) && (1_300.0..3_000.0).contains(&scan.rate_per_s));
            }
        }
    }

    #[test]
    fn check_tells_all_problems_together() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join("car").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let rows = |n: usize| (0..n).map(|i| format!("{i}.0,100,{i:04X},0\n")).collect::<String>();
        write("train_01_attack_free/a.csv", &format!("{HEADER}{}", rows(300)));
        write("train_02_with_attacks/a.csv", &format!("{HEADER}{}", rows(300)));
        write("train_02_with_attacks/DoS-1.csv", &format!("{HEADER}{}", rows(301)));
        write("train_02_with_attacks/drive.log", "(1.0) can0 044#2A\n(1.1) can0 045#2B\n");
        write("test_01/same.csv", &format!("{HEADER}{}", rows(300)));
        write("test_01/empty.csv", HEADER);
        write("test_01/broken.parquet", "PAR1 and no more");
        write("test_02/back.csv", &format!("{HEADER}2.0,1,00,1\n1.0,2,00,1\n1.5,1,00,1\n"));
        write("test_05/suppress-1.csv", &format!("{HEADER}{}", rows(302)));
        write("elsewhere/b.csv", &format!("{HEADER}{}", rows(300)));
        let layout = find(root.path(), "car").unwrap();
        let report = check(&layout, &WindowConfig::default(), &ReadOptions::default()).unwrap();
        assert!(report.has_errors() && report.captures == 9);
        let expected = [
            (Severity::Error, "train_02_with_attacks/drive", "no labels and cannot be trained on"),
            (Severity::Error, "test_01/empty", "0 messages"),
            (Severity::Error, "test_01/broken", "not a whole parquet file"),
            (Severity::Warning, "", "elsewhere/b.csv is in no train or test folder"),
            (Severity::Warning, "", "no training capture holds an attack"),
            (Severity::Warning, "train_02_with_attacks/DoS-1", "no message is labelled"),
            (Severity::Warning, "test_01/same", "a test on what was trained on"),
            (Severity::Warning, "test_02/back", "very short"),
            (Severity::Note, "train_02_with_attacks/a", "training takes it once"),
            (Severity::Note, "test_02/back", "time goes back 1 times"),
            (Severity::Note, "test_05/suppress-1", "no F1"),
        ];
        for (severity, capture, text) in expected {
            let found = report.findings.iter().any(|finding| {
                finding.severity == severity
                    && finding.capture.as_deref().unwrap_or_default() == capture
                    && finding.text.contains(text)
            });
            assert!(found, "missing: {capture} {text}\n{:#?}", report.findings);
        }
        assert!(report.findings.is_sorted_by_key(|finding| finding.severity));
    }

    #[test]
    fn a_good_dataset_has_notes_only() {
        let root = tempfile::tempdir().unwrap();
        sample::write(&SampleConfig { seed: 2, minutes: 0.4 }, root.path()).unwrap();
        let layout = find(root.path(), sample::DATASET).unwrap();
        let report = check(&layout, &WindowConfig::default(), &ReadOptions::default()).unwrap();
        assert!(!report.has_errors());
        assert_eq!(report.findings.iter().filter(|f| f.severity == Severity::Warning).count(), 0);
        assert_eq!(report.findings.len(), 3, "two copies and one suppress capture: {:#?}", report.findings);
    }
}
