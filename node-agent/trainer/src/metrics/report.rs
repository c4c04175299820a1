//! What is told of one folder of captures and of one model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::scored::check_finite;
use super::{ByTruth, ChosenThreshold, Confusion, MetricsError, Truth, auc};

/// Figures of one folder, over its windows that carry labels. `None` (JSON null) = no meaning there, e.g.
/// the recall without an attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelledReport {
    /// Windows judged: all labelled ones of the folder, never a sample.
    pub n: u64,
    pub positives: u64,
    pub threshold: f64,
    pub accuracy: Option<f64>,
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    pub f1: Option<f64>,
    pub mcc: f64,
    pub auc: Option<f64>,
    pub fpr: Option<f64>,
    pub confusion: Confusion,
    /// The folder's windows without labels, where it has some: they count in none of the figures above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<UnlabelledReport>,
}

/// Figures of a folder without labels (suppress captures: frames were removed, none injected): how often
/// it alarms, and nothing that would need the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnlabelledReport {
    pub n: u64,
    pub threshold: f64,
    pub alarms: u64,
    pub alarm_rate: Option<f64>,
}

/// Report of one folder or split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FolderReport {
    Labelled(LabelledReport),
    Unlabelled(UnlabelledReport),
}

impl FolderReport {
    /// F1 where the folder has labels and at least one attack.
    pub fn f1(&self) -> Option<f64> {
        match self {
            Self::Labelled(report) => report.f1,
            Self::Unlabelled(_) => None,
        }
    }
}

/// Report of one model: its threshold and its figures by split or folder name (`val`, `test_01_...`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    pub threshold: ChosenThreshold,
    pub folders: BTreeMap<String, FolderReport>,
}

/// Judges the scores of one folder, each window with its truth.
///
/// # Errors
/// As [`Scored::new`](super::Scored::new).
pub fn report_folder(scores: &[f32], truth: &[Truth], threshold: f64) -> Result<FolderReport, MetricsError> {
    check_finite(scores)?;
    let parts = ByTruth::of(scores, truth)?;
    if parts.labels.is_empty() {
        return Ok(FolderReport::Unlabelled(unlabelled(scores, threshold)));
    }
    let scored = parts.scored()?;
    let confusion = Confusion::at(&scored, threshold);
    let rest = &parts.unlabelled;
    Ok(FolderReport::Labelled(LabelledReport {
        n: scored.len() as u64,
        positives: scored.positives() as u64,
        threshold,
        accuracy: confusion.accuracy(),
        precision: confusion.precision(),
        recall: confusion.recall(),
        f1: confusion.f1(),
        mcc: confusion.mcc(),
        auc: auc(&scored),
        fpr: confusion.fpr(),
        confusion,
        unlabelled: (!rest.is_empty()).then(|| unlabelled(rest, threshold)),
    }))
}

fn unlabelled(scores: &[f32], threshold: f64) -> UnlabelledReport {
    let n = scores.len() as u64;
    let alarms = scores.iter().filter(|&&s| f64::from(s) > threshold).count() as u64;
    let alarm_rate = (n > 0).then(|| alarms as f64 / n as f64);
    UnlabelledReport { n, threshold, alarms, alarm_rate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_labels_has_an_alarm_rate_and_no_f1() {
        let report = report_folder(&[0.1, 0.6, 0.9, 0.5], &[None; 4], 0.5).unwrap();
        assert_eq!(report.f1(), None);
        let FolderReport::Unlabelled(r) = &report else { panic!("labels came from nowhere") };
        assert_eq!((r.n, r.alarms, r.alarm_rate), (4, 2, Some(0.5)));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["kind"], "unlabelled");
        assert!(json.get("f1").is_none());
    }

    #[test]
    fn a_capture_without_labels_takes_no_figure_from_the_others_of_its_folder() {
        let truth = [Some(0), None, Some(1), Some(1), None];
        let report = report_folder(&[0.1, 0.6, 0.9, 0.4, 0.2], &truth, 0.5).unwrap();
        let FolderReport::Labelled(labelled) = &report else { panic!("three windows have labels") };
        assert_eq!((labelled.n, labelled.positives, labelled.recall), (3, 2, Some(0.5)));
        let rest = labelled.unlabelled.as_ref().unwrap();
        assert_eq!((rest.n, rest.alarms, rest.alarm_rate), (2, 1, Some(0.5)));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<FolderReport>(&text).unwrap(), report);
    }

    #[test]
    fn a_labelled_folder_survives_json() {
        let truth = [Some(0), Some(0), Some(1), Some(1)];
        let report = report_folder(&[0.1, 0.6, 0.9, 0.4], &truth, 0.5).unwrap();
        assert_eq!(report.f1(), Some(0.5));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<FolderReport>(&text).unwrap(), report);
    }
}
