//! What is told of one folder of captures and of one model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::scored::check_finite;
use super::{ChosenThreshold, Confusion, MetricsError, Scored, auc};

/// Figures of one folder whose windows carry labels. `None` (JSON null) = no meaning there, e.g. the
/// recall without an attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LabelledReport {
    /// Windows judged: all of the folder, never a sample.
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

/// Judges the scores of one folder; `labels` None = the captures carry none.
///
/// # Errors
/// As [`Scored::new`].
pub fn report_folder(
    scores: &[f32],
    labels: Option<&[u8]>,
    threshold: f64,
) -> Result<FolderReport, MetricsError> {
    let Some(labels) = labels else {
        check_finite(scores)?;
        let n = scores.len() as u64;
        let alarms = scores.iter().filter(|&&s| f64::from(s) > threshold).count() as u64;
        let alarm_rate = (n > 0).then(|| alarms as f64 / n as f64);
        return Ok(FolderReport::Unlabelled(UnlabelledReport { n, threshold, alarms, alarm_rate }));
    };
    let scored = Scored::new(scores, labels)?;
    let confusion = Confusion::at(&scored, threshold);
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
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_labels_has_an_alarm_rate_and_no_f1() {
        let report = report_folder(&[0.1, 0.6, 0.9, 0.5], None, 0.5).unwrap();
        assert_eq!(report.f1(), None);
        let FolderReport::Unlabelled(r) = &report else { panic!("labels came from nowhere") };
        assert_eq!((r.n, r.alarms, r.alarm_rate), (4, 2, Some(0.5)));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["kind"], "unlabelled");
        assert!(json.get("f1").is_none());
    }

    #[test]
    fn a_labelled_folder_survives_json() {
        let report = report_folder(&[0.1, 0.6, 0.9, 0.4], Some(&[0, 0, 1, 1]), 0.5).unwrap();
        assert_eq!(report.f1(), Some(0.5));
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<FolderReport>(&text).unwrap(), report);
    }
}
