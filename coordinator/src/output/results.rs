//! The table of figures at the end of a run, and `{plan_id}_results.json`.

use super::{schema, table, words};
use common::ids::{Attempt, DatasetId, JobName, Phase};
use common::manifest::{FileEntry, Manifest};
use common::registry::CommittedRef;
use common::units::UnixMs;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// A job of a plan as it ended.
#[derive(Debug, Clone, Serialize)]
pub struct JobResult {
    #[serde(serialize_with = "super::as_text")]
    pub job: JobName,
    pub state: String,
    pub committed: Option<CommittedRef>,
    pub attempts: u32,
    /// Attempts that ended without a result.
    pub past: Vec<PastText>,
    pub duration_ms: Option<u64>,
    pub message: Option<String>,
    pub metrics: BTreeMap<String, f64>,
    pub files: Vec<FileEntry>,
    pub tuning_used: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct PastText {
    pub attempt: Attempt,
    pub cause: &'static str,
    pub message: String,
}

impl JobResult {
    pub fn up_to_date(job: JobName, manifest: &Manifest) -> JobResult {
        JobResult {
            job,
            state: "up to date".into(),
            committed: None,
            attempts: 0,
            past: Vec::new(),
            duration_ms: None,
            message: None,
            metrics: BTreeMap::new(),
            files: Vec::new(),
            tuning_used: BTreeMap::new(),
        }
        .with_manifest(manifest)
    }

    pub fn with_manifest(mut self, manifest: &Manifest) -> JobResult {
        self.metrics = manifest.metrics.clone();
        self.files = manifest.files.clone();
        self.tuning_used = manifest.made.tuning_used.clone();
        self.duration_ms = self.duration_ms.or(Some(manifest.made.duration_ms));
        self
    }
}

pub fn json(plan: &str, jobs: &[JobResult], at: UnixMs) -> Value {
    schema("results", json!({"plan": plan, "at": at.to_string(), "jobs": jobs}))
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub dataset: DatasetId,
    pub phase: Phase,
    pub model: String,
    pub folder: String,
    /// The best combiner of a fusion, by validation.
    pub best: bool,
    pub figures: BTreeMap<String, f64>,
}

/// Test folders of every model; of a fusion the agent and whatever was best on validation, unless `all`.
pub fn lines(jobs: &[JobResult], all: bool) -> Vec<Line> {
    let mut lines = Vec::new();
    for job in jobs {
        let best = job.tuning_used.get("best_on_validation");
        let mut by_folder: BTreeMap<(String, String), BTreeMap<String, f64>> = BTreeMap::new();
        for (key, value) in &job.metrics {
            let Some((model, rest)) = key.split_once('.') else { continue };
            let Some((folder, figure)) = rest.rsplit_once('.') else { continue };
            let by_figure = by_folder.entry((model.to_owned(), folder.to_owned())).or_default();
            by_figure.insert(figure.to_owned(), *value);
        }
        for ((model, folder), figures) in by_folder {
            let is_best = best == Some(&model);
            let is_side_show = job.job.phase == Phase::Fusion && model != "dqn" && !is_best;
            if !all && (is_side_show || !folder.starts_with("test")) {
                continue;
            }
            let (dataset, phase) = (job.job.dataset.clone(), job.job.phase);
            lines.push(Line { dataset, phase, model, folder, best: is_best, figures });
        }
    }
    lines.sort_by(|a, b| {
        (&a.dataset, a.phase, &a.model, &a.folder).cmp(&(&b.dataset, b.phase, &b.model, &b.folder))
    });
    lines
}

const FIGURES: [(&str, &str); 7] = [
    ("accuracy", ">ACCURACY"),
    ("precision", ">PRECISION"),
    ("recall", ">RECALL"),
    ("f1", ">F1"),
    ("mcc", ">MCC"),
    ("auc", ">AUC"),
    ("fpr", ">FPR"),
];

/// The table; empty text when no job has figures.
pub fn table(lines: &[Line]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    // Only captures without labels have an alarm rate in place of the figures that need the truth.
    let unlabelled = lines.iter().any(|l| l.figures.contains_key("alarm_rate"));
    let row = |line: &Line| {
        let n = line.figures.get("n").map_or_else(words::dash, |n| words::count(*n as u64));
        let model = if line.best { format!("{} *", line.model) } else { line.model.clone() };
        let mut cells = vec![line.dataset.to_string(), line.phase.to_string(), model, line.folder.clone(), n];
        cells.extend(FIGURES.iter().map(|(key, _)| words::figure(line.figures.get(*key).copied())));
        if unlabelled {
            cells.push(words::figure(line.figures.get("alarm_rate").copied()));
        }
        cells
    };
    let mut headers = vec!["DATASET", "PHASE", "MODEL", "TEST FOLDER", ">N"];
    headers.extend(FIGURES.map(|(_, header)| header));
    if unlabelled {
        headers.push(">ALARM RATE");
    }
    let mut text = table::render(&headers, &lines.iter().map(row).collect::<Vec<_>>());
    if lines.iter().any(|l| l.best) {
        text += "\n* best on validation";
    }
    text
}

/// Where everything was written.
pub struct Written<'a> {
    pub output_dir: &'a Path,
    pub plan_file: Option<String>,
    pub results_file: Option<String>,
    pub models: Vec<String>,
    pub logs: bool,
}

pub fn written(w: &Written<'_>) -> String {
    let mut text = String::new();
    let mut line = |what: &str, below: &str| {
        text += &format!("{what:<8} {}\n", w.output_dir.join(below).display());
    };
    if let Some(file) = &w.plan_file {
        line("plan", file);
    }
    if let Some(file) = &w.results_file {
        line("results", file);
    }
    for model in &w.models {
        line("model", &format!("saved_models/{model}"));
    }
    line("configs", "generated_configs/");
    if w.logs {
        line("logs", "coordinator_logs/, orchestrator_logs/, process_logs/");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(phase: Phase, metrics: &[(&str, f64)], best: Option<&str>) -> JobResult {
        JobResult {
            job: JobName::new("sample".parse().unwrap(), phase),
            state: "committed".into(),
            committed: None,
            attempts: 1,
            past: Vec::new(),
            duration_ms: Some(1000),
            message: None,
            metrics: metrics.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
            files: Vec::new(),
            tuning_used: best.map(|b| ("best_on_validation".to_owned(), b.to_owned())).into_iter().collect(),
        }
    }

    #[test]
    fn the_table_shows_test_folders_and_marks_the_best_combiner() {
        let teacher = job(
            Phase::Teacher,
            &[
                ("gat.threshold", 0.5),
                ("gat.best_epoch", 3.0),
                ("gat.val.f1", 0.99),
                ("gat.test_01.n", 3994.0),
                ("gat.test_01.f1", 0.98765),
                ("gat.test_05_suppress.n", 12.0),
                ("gat.test_05_suppress.alarm_rate", 0.25),
            ],
            None,
        );
        let fusion = job(
            Phase::Fusion,
            &[("dqn.test_01.f1", 0.9), ("average.test_01.f1", 0.95), ("logistic.test_01.f1", 0.1)],
            Some("average"),
        );
        let jobs = [fusion, teacher];
        assert_eq!(
            table(&lines(&jobs, false)),
            "DATASET  PHASE    MODEL      TEST FOLDER           N  ACCURACY  PRECISION  RECALL      F1  MCC  AUC  FPR  ALARM RATE\n\
             sample   teacher  gat        test_01           3,994         -          -       -  0.9877    -    -    -           -\n\
             sample   teacher  gat        test_05_suppress     12         -          -       -       -    -    -    -      0.2500\n\
             sample   fusion   average *  test_01               -         -          -       -  0.9500    -    -    -           -\n\
             sample   fusion   dqn        test_01               -         -          -       -  0.9000    -    -    -           -\n\
             * best on validation"
        );
        assert_eq!(lines(&jobs, true).len(), 6);
        assert_eq!(table(&[]), "");
    }
}
