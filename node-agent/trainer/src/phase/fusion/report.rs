//! Every combiner on every folder: thresholds chosen on validation, figures, and the best of all.

use std::collections::BTreeMap;

use common::config::semantic::ThresholdSemantic;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::FusionError;
use super::baselines::{Logistic, WeightedAverage};
use super::learn::fused_scores;
use super::mlp::Mlp;
use super::scaling::States;
use crate::metrics::{ByTruth, FolderReport, ModelReport, ThresholdRule, choose_threshold, report_folder};
use crate::nn::qnet::QNet;
use crate::phase::score::host;

/// Ways to turn a state into a score, in the order in which a draw is decided.
pub enum Combiner<'a> {
    Dqn(&'a QNet),
    WeightedAverage(WeightedAverage),
    Logistic(Logistic),
    Mlp(&'a Mlp),
    GatOnly,
    VgaeOnly,
}

impl Combiner<'_> {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dqn(_) => "dqn",
            Self::WeightedAverage(_) => "weighted_average",
            Self::Logistic(_) => "logistic",
            Self::Mlp(_) => "mlp",
            Self::GatOnly => "gat_only",
            Self::VgaeOnly => "vgae_only",
        }
    }

    /// Score of each window as a logit, higher = more suspicious.
    pub fn scores(&self, states: &States) -> Result<Vec<f32>, FusionError> {
        let scores: Tensor = match self {
            Self::Dqn(net) => fused_scores(net, states)?,
            Self::WeightedAverage(average) => average.scores(states),
            Self::Logistic(logistic) => logistic.scores(states),
            Self::Mlp(mlp) => mlp.scores(states),
            Self::GatOnly => states.gat_margin.shallow_clone(),
            Self::VgaeOnly => states.anomaly_margin.shallow_clone(),
        };
        Ok(host(&scores)?)
    }
}

/// Figures of all combiners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FusionReport {
    /// By the combiner's name.
    pub combiners: BTreeMap<String, ModelReport>,
    /// The combiner with the highest validation F1, then AUC; on a draw the first in the order dqn,
    /// weighted_average, logistic, mlp, gat_only, vgae_only.
    pub best_on_validation: String,
}

/// Judges `combiners` (best first on a draw) on validation states, which go by their name in the report, and on every
/// test folder, all windows of each. Thresholds are chosen on the first so many validation states.
///
/// # Errors
/// `NoStates` for no labelled state to choose on; `Metrics` when scores are not finite.
pub fn judge(
    combiners: &[Combiner<'_>],
    (name, val, for_threshold): (&str, &States, usize),
    tests: &BTreeMap<String, States>,
    threshold: &ThresholdSemantic,
) -> Result<FusionReport, FusionError> {
    if !val.has_labels() {
        return Err(FusionError::NoStates("labelled validation"));
    }
    let mut reports = BTreeMap::new();
    let mut best: Option<((f64, f64), &'static str)> = None;
    for combiner in combiners {
        let scores = combiner.scores(val)?;
        let known = ByTruth::of(&scores[..for_threshold], &val.truth[..for_threshold])?;
        let chosen = choose_threshold(&known.scored()?, ThresholdRule::from(threshold))?;
        let on_val = report_folder(&scores, &val.truth, chosen.value)?;
        let merit = merit(&on_val);
        if best.is_none_or(|(top, _)| merit > top) {
            best = Some((merit, combiner.name()));
        }
        let mut folders = BTreeMap::from([(name.to_owned(), on_val)]);
        for (folder, states) in tests {
            let scores = combiner.scores(states)?;
            folders.insert(folder.clone(), report_folder(&scores, &states.truth, chosen.value)?);
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
    use tch::{Device, Kind};

    fn setting() -> (States, BTreeMap<String, States>) {
        let train = synthetic(800, 0.2, 5);
        let scaling = Scaling::fit(&train).unwrap();
        let mut suppress = scaling.apply(&synthetic(40, 0.0, 6), Device::Cpu);
        suppress.truth = vec![None; 40];
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
        let report =
            judge(&combiners, ("val", &val, val.truth.len()), &tests, &ThresholdSemantic::default()).unwrap();
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
        val.gat_margin = val.label_tensor();
        val.anomaly_margin = val.label_tensor();
        let combiners = [Combiner::VgaeOnly, Combiner::GatOnly];
        let report =
            judge(&combiners, ("val", &val, val.truth.len()), &tests, &ThresholdSemantic::default()).unwrap();
        assert_eq!(report.best_on_validation, "vgae_only");
    }

    #[test]
    fn thresholds_see_the_first_states_only() {
        let (val, tests) = setting();
        let combiners = [Combiner::GatOnly];
        let half = val.truth.len() / 2;
        let report = judge(&combiners, ("val", &val, half), &tests, &ThresholdSemantic::default()).unwrap();
        let scores = combiners[0].scores(&val).unwrap();
        let known = ByTruth::of(&scores[..half], &val.truth[..half]).unwrap();
        let chosen = choose_threshold(&known.scored().unwrap(), ThresholdRule::BestF1).unwrap();
        assert_eq!(report.combiners["gat_only"].threshold, chosen);
        let FolderReport::Labelled(on_val) = &report.combiners["gat_only"].folders["val"] else { panic!() };
        assert_eq!(on_val.n, val.truth.len() as u64);
    }

    #[test]
    fn validation_without_labels_is_refused() {
        let (mut val, tests) = setting();
        val.truth = vec![None; val.truth.len()];
        let refused = judge(
            &[Combiner::GatOnly],
            ("val", &val, val.truth.len()),
            &tests,
            &ThresholdSemantic::default(),
        );
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
        let expected = val.gat() * alpha + val.anomaly() * rest;
        for (i, score) in scores.iter().enumerate() {
            let score = 1.0 / (1.0 + (-f64::from(*score)).exp());
            assert!((score - expected.double_value(&[i as i64])).abs() < 1e-6);
        }
    }
}
