//! Every combiner on every folder: thresholds chosen on validation, figures, and the best of all.

use std::collections::BTreeMap;

use common::config::semantic::ThresholdSemantic;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::FusionError;
use super::baselines::{Logistic, WeightedAverage};
use super::learn::fuse;
use super::scaling::States;
use crate::metrics::{FolderReport, ModelReport, Scored, ThresholdRule, choose_threshold, report_folder};
use crate::nn::qnet::QNet;

/// Name of the validation split in reports.
pub const VALIDATION: &str = "val";

/// Ways to turn a state into a score, in the order in which a draw is decided.
pub enum Combiner<'a> {
    Dqn(&'a QNet),
    WeightedAverage(WeightedAverage),
    Logistic(Logistic),
    GatOnly,
    VgaeOnly,
}

impl Combiner<'_> {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dqn(_) => "dqn",
            Self::WeightedAverage(_) => "weighted_average",
            Self::Logistic(_) => "logistic",
            Self::GatOnly => "gat_only",
            Self::VgaeOnly => "vgae_only",
        }
    }

    /// Score of each window, higher = more suspicious.
    pub fn scores(&self, states: &States) -> Result<Vec<f32>, FusionError> {
        let scores: Tensor = match self {
            Self::Dqn(net) => fuse(net, states)?.0,
            Self::WeightedAverage(average) => average.scores(states),
            Self::Logistic(logistic) => logistic.scores(states),
            Self::GatOnly => states.gat.shallow_clone(),
            Self::VgaeOnly => states.anomaly.shallow_clone(),
        };
        Ok(Vec::try_from(&scores.f_to_device(Device::Cpu)?.f_contiguous()?)?)
    }
}

/// Figures of all combiners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FusionReport {
    /// By the combiner's name.
    pub combiners: BTreeMap<String, ModelReport>,
    /// The combiner with the highest validation F1, then AUC; on a draw the first in the order dqn,
    /// weighted_average, logistic, gat_only, vgae_only.
    pub best_on_validation: String,
}

/// Judges `combiners` (best first on a draw) on validation and on every test folder, all windows of each.
///
/// # Errors
/// `NoStates` for an empty validation split; `Metrics` when scores are not finite.
pub fn judge(
    combiners: &[Combiner<'_>],
    val: &States,
    tests: &BTreeMap<String, States>,
    threshold: &ThresholdSemantic,
) -> Result<FusionReport, FusionError> {
    let val_labels = match &val.labels {
        Some(labels) if !labels.is_empty() => labels,
        _ => return Err(FusionError::NoStates("labelled validation")),
    };
    let mut reports = BTreeMap::new();
    let mut best: Option<((f64, f64), &'static str)> = None;
    for combiner in combiners {
        let scores = combiner.scores(val)?;
        let chosen = choose_threshold(&Scored::new(&scores, val_labels)?, ThresholdRule::from(threshold))?;
        let on_val = report_folder(&scores, Some(val_labels), chosen.value)?;
        let merit = merit(&on_val);
        if best.is_none_or(|(top, _)| merit > top) {
            best = Some((merit, combiner.name()));
        }
        let mut folders = BTreeMap::from([(VALIDATION.to_string(), on_val)]);
        for (folder, states) in tests {
            let scores = combiner.scores(states)?;
            folders.insert(folder.clone(), report_folder(&scores, states.labels.as_deref(), chosen.value)?);
        }
        reports.insert(combiner.name().to_string(), ModelReport { threshold: chosen, folders });
    }
    let best_on_validation = best.map_or_else(String::new, |(_, name)| name.to_string());
    Ok(FusionReport { combiners: reports, best_on_validation })
}

/// (F1, AUC) of a labelled report, 0 where a figure has no meaning.
fn merit(report: &FolderReport) -> (f64, f64) {
    match report {
        FolderReport::Labelled(r) => (r.f1.unwrap_or(0.0), r.auc.unwrap_or(0.0)),
        FolderReport::Unlabelled(_) => (0.0, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scaling::Scaling;
    use super::super::states::testing::synthetic;
    use super::*;
    use tch::Kind;

    fn setting() -> (States, BTreeMap<String, States>) {
        let train = synthetic(800, 0.2, 5);
        let scaling = Scaling::fit(&train).unwrap();
        let mut suppress = scaling.apply(&synthetic(40, 0.0, 6), Device::Cpu);
        suppress.labels = None;
        let test = scaling.apply(&synthetic(300, 0.5, 7), Device::Cpu);
        let tests = BTreeMap::from([("test_01".to_string(), test), ("test_05".into(), suppress)]);
        (scaling.apply(&train, Device::Cpu), tests)
    }

    #[test]
    fn the_best_combiner_is_marked_and_each_folder_is_whole() {
        let (val, tests) = setting();
        let combiners = [
            Combiner::GatOnly,
            Combiner::WeightedAverage(WeightedAverage { gat_weight: 0.5 }),
            Combiner::VgaeOnly,
        ];
        let report = judge(&combiners, &val, &tests, &ThresholdSemantic::default()).unwrap();
        assert_eq!(report.best_on_validation, "weighted_average");
        let model = &report.combiners["gat_only"];
        let FolderReport::Labelled(t01) = &model.folders["test_01"] else { panic!("labels were lost") };
        assert_eq!((t01.n, t01.positives, t01.threshold), (300, 150, model.threshold.value));
        assert!(matches!(&model.folders["test_05"], FolderReport::Unlabelled(r) if r.n == 40));
        assert_eq!(model.folders["test_05"].f1(), None);
    }

    #[test]
    fn a_draw_goes_to_the_first() {
        let (mut val, tests) = setting();
        val.gat = val.label_tensor();
        val.anomaly = val.label_tensor();
        let combiners = [Combiner::VgaeOnly, Combiner::GatOnly];
        let report = judge(&combiners, &val, &tests, &ThresholdSemantic::default()).unwrap();
        assert_eq!(report.best_on_validation, "vgae_only");
    }

    #[test]
    fn validation_without_labels_is_refused() {
        let (mut val, tests) = setting();
        val.labels = None;
        let refused = judge(&[Combiner::GatOnly], &val, &tests, &ThresholdSemantic::default());
        assert!(matches!(refused, Err(FusionError::NoStates(_))));
    }

    #[test]
    fn the_agents_scores_are_the_weighted_verdicts() {
        let (val, _) = setting();
        let arch = common::config::semantic::DqnArch { layers: 1, hidden: 8, actions: 3, dropout: 0.0 };
        let net = QNet::new(&arch, Device::Cpu);
        let scores = Combiner::Dqn(&net).scores(&val).unwrap();
        let action = net.forward(&val.x, false).argmax(1, false);
        let alpha = action.to_kind(Kind::Float) / 2.0;
        let rest: Tensor = 1.0 - &alpha;
        let expected = &val.gat * alpha + &val.anomaly * rest;
        for (i, score) in scores.iter().enumerate() {
            assert!((f64::from(*score) - expected.double_value(&[i as i64])).abs() < 1e-6);
        }
    }
}
