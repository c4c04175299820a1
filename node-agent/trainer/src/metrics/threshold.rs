//! The decision threshold, chosen on validation and stored with the model.

use common::config::semantic;
use serde::{Deserialize, Serialize};

use super::{MetricsError, Scored};

/// False alarm rate aimed at when validation holds no attack, whatever rule was asked for.
const FPR_WITHOUT_ATTACKS: f64 = 0.01;

/// What the threshold is to achieve on validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdRule {
    /// The highest F1; on a draw the fewest false alarms.
    BestF1,
    /// The highest recall with at most this share of benign windows flagged; then the fewest false alarms.
    TargetFpr(f64),
}

impl From<&semantic::ThresholdSemantic> for ThresholdRule {
    fn from(config: &semantic::ThresholdSemantic) -> Self {
        match config.rule {
            semantic::ThresholdRule::BestF1 => Self::BestF1,
            semantic::ThresholdRule::TargetFpr => Self::TargetFpr(config.target_fpr),
        }
    }
}

/// Which rule really gave the threshold: one class alone cannot serve the rule asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdBasis {
    BestF1,
    TargetFpr,
    /// Validation holds no attack: the benign scores' quantile at 1 % false alarms (or at the target).
    BenignQuantile,
    /// Validation holds no benign window: just below the lowest score.
    AttacksOnly,
}

/// A threshold with its origin. A window is an attack iff `score > value`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChosenThreshold {
    pub value: f64,
    pub basis: ThresholdBasis,
}

/// One place to cut the ranking: everything above `value` is flagged.
struct Cut {
    value: f64,
    true_positives: u64,
    false_positives: u64,
}

/// Every distinct decision there is, from "flag nothing" to "flag all".
///
/// A cut lies in the middle between two neighbouring scores: the widest margin to both sides, and
/// exact in f64 for any two f32.
fn cuts(scored: &Scored<'_>) -> Vec<Cut> {
    let groups = scored.groups_descending();
    let mut cuts = Vec::with_capacity(groups.len() + 1);
    let (mut tp, mut fp) = (0, 0);
    let Some(first) = groups.first() else { return cuts };
    cuts.push(Cut { value: f64::from(first.0), true_positives: 0, false_positives: 0 });
    for (i, &(score, attacks, benign)) in groups.iter().enumerate() {
        tp += attacks;
        fp += benign;
        let value = match groups.get(i + 1) {
            Some(next) => (f64::from(score) + f64::from(next.0)) / 2.0,
            None => f64::from(score).next_down(),
        };
        cuts.push(Cut { value, true_positives: tp, false_positives: fp });
    }
    cuts
}

/// Chooses the threshold on validation scores.
///
/// # Errors
/// `Empty` without a single score, `BadTargetFpr` for a target outside [0, 1].
pub fn choose_threshold(scored: &Scored<'_>, rule: ThresholdRule) -> Result<ChosenThreshold, MetricsError> {
    if let ThresholdRule::TargetFpr(target) = rule
        && !(0.0..=1.0).contains(&target)
    {
        return Err(MetricsError::BadTargetFpr(target));
    }
    let cuts = cuts(scored);
    let (Some(_), Some(flag_all)) = (cuts.first(), cuts.last()) else { return Err(MetricsError::Empty) };
    let positives = scored.positives() as u64;
    let negatives = scored.len() as u64 - positives;
    if negatives == 0 {
        return Ok(ChosenThreshold { value: flag_all.value, basis: ThresholdBasis::AttacksOnly });
    }
    let allowed = |fpr: f64| (fpr * negatives as f64 + 1e-9).floor() as u64;
    if positives == 0 {
        let limit = match rule {
            ThresholdRule::BestF1 => allowed(FPR_WITHOUT_ATTACKS),
            ThresholdRule::TargetFpr(target) => allowed(target),
        };
        let value = best_by(&cuts, |c| (c.false_positives <= limit).then_some(c.false_positives as f64));
        return Ok(ChosenThreshold { value, basis: ThresholdBasis::BenignQuantile });
    }
    Ok(match rule {
        ThresholdRule::BestF1 => ChosenThreshold {
            value: best_by(&cuts, |c| {
                let flagged_and_wanted = (c.true_positives + c.false_positives + positives) as f64;
                Some(2.0 * c.true_positives as f64 / flagged_and_wanted)
            }),
            basis: ThresholdBasis::BestF1,
        },
        ThresholdRule::TargetFpr(target) => ChosenThreshold {
            value: best_by(&cuts, |c| {
                (c.false_positives <= allowed(target)).then_some(c.true_positives as f64)
            }),
            basis: ThresholdBasis::TargetFpr,
        },
    })
}

/// The value of the admissible cut with the greatest merit; on a draw the first, i.e. the highest
/// threshold. "Flag nothing" is the first cut and always admissible.
fn best_by(cuts: &[Cut], merit: impl Fn(&Cut) -> Option<f64>) -> f64 {
    let mut best = (f64::NEG_INFINITY, cuts[0].value);
    for cut in cuts {
        if let Some(m) = merit(cut)
            && m > best.0
        {
            best = (m, cut.value);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::super::Confusion;
    use super::*;

    fn choose(scores: &[f32], labels: &[u8], rule: ThresholdRule) -> ChosenThreshold {
        choose_threshold(&Scored::new(scores, labels).unwrap(), rule).unwrap()
    }

    #[test]
    fn separable_classes_are_cut_in_the_middle_of_the_gap() {
        let (scores, labels) = ([0.125, 0.25, 0.75, 0.875], [0, 0, 1, 1]);
        for rule in [ThresholdRule::BestF1, ThresholdRule::TargetFpr(0.5)] {
            assert_eq!(choose(&scores, &labels, rule).value, 0.5, "{rule:?}");
        }
    }

    #[test]
    fn best_f1_beats_every_other_cut() {
        let scores: Vec<f32> = (0..60).map(|i| ((i * 37) % 60) as f32 / 60.0).collect();
        let labels: Vec<u8> = scores
            .iter()
            .enumerate()
            .map(|(i, &s)| u8::from(s + 0.2 * ((i % 5) as f32 - 2.0) > 0.7))
            .collect();
        let scored = Scored::new(&scores, &labels).unwrap();
        let chosen = choose_threshold(&scored, ThresholdRule::BestF1).unwrap();
        let best = Confusion::at(&scored, chosen.value).f1().unwrap();
        for i in 0..=120 {
            let other = Confusion::at(&scored, f64::from(i) / 120.0).f1().unwrap();
            assert!(other <= best + 1e-12, "{other} at {i}/120 beats {best}");
        }
        assert!(best < 1.0, "the case must not be separable");
    }

    #[test]
    fn target_fpr_is_kept_and_recall_is_the_most_it_allows() {
        // benign .1 .2 .3 .9, attacks .4 .5 .95
        let (scores, labels) = ([0.1, 0.2, 0.3, 0.9, 0.4, 0.5, 0.95], [0, 0, 0, 0, 1, 1, 1]);
        let scored = Scored::new(&scores, &labels).unwrap();
        let at = |t| Confusion::at(&scored, choose(&scores, &labels, ThresholdRule::TargetFpr(t)).value);
        assert_eq!(at(0.0).recall(), Some(1.0 / 3.0));
        assert_eq!(at(0.0).fpr(), Some(0.0));
        assert_eq!(at(0.25).recall(), Some(1.0));
        assert_eq!(at(0.25).fpr(), Some(0.25));
        // no further false alarm is taken where it buys no recall
        assert_eq!(at(1.0).fpr(), Some(0.25));
    }

    #[test]
    fn one_class_alone_says_so() {
        let benign: Vec<f32> = (0..200).map(|i| i as f32).collect();
        let chosen = choose(&benign, &[0; 200], ThresholdRule::BestF1);
        assert_eq!(chosen, ChosenThreshold { value: 197.5, basis: ThresholdBasis::BenignQuantile });
        let chosen = choose(&[0.4, 0.7], &[1, 1], ThresholdRule::BestF1);
        assert_eq!(chosen.basis, ThresholdBasis::AttacksOnly);
        assert!(chosen.value < f64::from(0.4f32));
    }

    #[test]
    fn all_scores_equal_still_gives_a_usable_threshold() {
        let chosen = choose(&[0.5, 0.5, 0.5], &[1, 1, 0], ThresholdRule::BestF1);
        assert!(chosen.value < 0.5, "two of three are attacks: flagging all has the higher F1");
        let chosen = choose(&[0.5, 0.5], &[1, 0], ThresholdRule::TargetFpr(0.0));
        assert_eq!(chosen.value, 0.5);
    }

    #[test]
    fn nonsense_is_refused() {
        let none = Scored::new(&[], &[]).unwrap();
        assert_eq!(choose_threshold(&none, ThresholdRule::BestF1), Err(MetricsError::Empty));
        let some = Scored::new(&[0.1], &[0]).unwrap();
        assert_eq!(
            choose_threshold(&some, ThresholdRule::TargetFpr(1.5)),
            Err(MetricsError::BadTargetFpr(1.5))
        );
    }
}
