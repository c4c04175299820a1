//! What a fusion decision earns.
//!
//! A decision is a weight α in [0, 1]; the fused score is `f = α·g + (1-α)·a` (g = attack probability of the
//! GAT, a = scaled anomaly score of the VGAE, both in [0, 1]) and the window is an attack iff `f > 0.5`.
//!
//! ```text
//! right:  +3 + 1.5·m        wrong:  -3 - 1.5·m        m = 2·|f - 0.5|, how sure the decision was
//! ```
//!
//! Scale (±3, 1.5) is the reference's. Its further terms are gone, each for a reason: the bonuses for
//! agreement and confidence of the detectors do not depend on α, so they teach nothing; the bonus for α near
//! one half paid for being undecided, which let a policy that calls everything benign out-earn a perfect
//! one. Here every right decision earns more than every wrong one, and with the classes weighed equally
//! ([`ClassWeights`], or draws that are balanced by class) even the least sure perfect policy (3 a window)
//! stays far above the best all-benign one (0.5·4.5 - 0.5·3 = 0.75), however rare attacks are.

use tch::{Kind, Tensor};

/// Decision line of the fused score while learning; the one of the report is chosen on validation.
pub const LEARNING_THRESHOLD: f64 = 0.5;

const BASE: f64 = 3.0;
const SURENESS: f64 = 1.5;

/// `α·g + (1-α)·a`, shapes broadcast.
pub fn fused_score(gat: &Tensor, anomaly: &Tensor, alpha: &Tensor) -> Tensor {
    anomaly + alpha * (gat - anomaly)
}

/// Logit of `α·g + (1-α)·a` from the logits of g and a, f64, shapes broadcast: the fused score for ranking.
///
/// ln(α·σ(m) + (1-α)·σ(d)) - ln(α·σ(-m) + (1-α)·σ(-d)), each logarithm taken without leaving log space, so
/// that windows stay apart where the score itself rounds to 0 or 1. α = 1 gives m, α = 0 gives d.
pub fn fused_logit(gat_margin: &Tensor, anomaly_margin: &Tensor, alpha: &Tensor) -> Tensor {
    let (m, d) = (gat_margin.to_kind(Kind::Double), anomaly_margin.to_kind(Kind::Double));
    let alpha = alpha.to_kind(Kind::Double);
    let rest: Tensor = 1.0 - &alpha;
    let (alpha, rest) = (alpha.log(), rest.log());
    let side = |m: &Tensor, d: &Tensor| (&alpha + m.log_sigmoid()).logaddexp(&(&rest + d.log_sigmoid()));
    side(&m, &d) - side(&-m, &-d)
}

/// Earnings of the decisions with fused scores `fused` (f32, in [0, 1]) on windows labelled `labels` (f32,
/// 1 = attack), element by element.
pub fn reward(fused: &Tensor, labels: &Tensor) -> Tensor {
    let sureness = (fused - LEARNING_THRESHOLD).abs() * 2.0;
    let flagged = fused.gt(LEARNING_THRESHOLD).to_kind(Kind::Float);
    // +1 where the decision is the label, -1 elsewhere.
    let sign = (flagged - labels).abs() * -2.0 + 1.0;
    sign * (sureness * SURENESS + BASE)
}

/// Weights that let each class count one half, whatever its share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassWeights {
    pub benign: f64,
    pub attack: f64,
}

impl ClassWeights {
    /// For a share of attacks in [0, 1]; with a single class both weights are 1.
    #[must_use]
    pub fn balanced(attack_share: f64) -> Self {
        if attack_share <= 0.0 || attack_share >= 1.0 {
            return Self { benign: 1.0, attack: 1.0 };
        }
        Self { benign: 0.5 / (1.0 - attack_share), attack: 0.5 / attack_share }
    }

    /// Mean of `rewards` with these weights, f64 scalar.
    pub fn mean(&self, rewards: &Tensor, labels: &Tensor) -> Tensor {
        let weights = labels * (self.attack - self.benign) + self.benign;
        (rewards * weights).mean(Kind::Double)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::from_slice(values)
    }

    fn earned(fused: &Tensor, labels: &Tensor, share: f64) -> f64 {
        ClassWeights::balanced(share).mean(&reward(fused, labels), labels).double_value(&[])
    }

    #[test]
    fn the_weight_really_weighs() {
        let f = fused_score(&tensor(&[0.9, 0.9, 0.9]), &tensor(&[0.1, 0.1, 0.1]), &tensor(&[1.0, 0.0, 0.25]));
        let got: Vec<f32> = Vec::try_from(&f).unwrap();
        for (got, expected) in got.iter().zip([0.9, 0.1, 0.3]) {
            assert!((got - expected).abs() < 1e-6, "{got} != {expected}");
        }
    }

    #[test]
    fn the_fused_logit_is_that_of_the_fused_score_and_never_saturates() {
        let (m, d) = (tensor(&[0.3, -2.0, 1.5]), tensor(&[1.0, 0.5, -0.25]));
        let alpha = tensor(&[0.0, 0.25, 1.0]);
        let fused = fused_score(&m.sigmoid(), &d.sigmoid(), &alpha);
        let gap = (fused_logit(&m, &d, &alpha).sigmoid() - fused).abs().max();
        assert!(gap.double_value(&[]) < 1e-6);
        // Both detectors are surer than f32 can say of a probability, one window a little more than the other.
        let sure = fused_logit(&tensor(&[40.0, 41.0]), &tensor(&[300.0, 900.0]), &tensor(&[0.5, 0.5]));
        assert!(sure.double_value(&[1]) > sure.double_value(&[0]) + 0.5, "{sure:?}");
        for (alpha, expected) in [(0.0, 300.0), (1.0, 40.0)] {
            let one = fused_logit(&tensor(&[40.0]), &tensor(&[300.0]), &tensor(&[alpha]));
            assert!((one.double_value(&[0]) - expected).abs() < 1e-9);
        }
    }

    #[test]
    fn earnings_equal_the_table() {
        let got: Vec<f32> = Vec::try_from(&reward(
            &tensor(&[1.0, 0.0, 0.75, 0.75, 0.5]),
            &tensor(&[1.0, 1.0, 1.0, 0.0, 0.0]),
        ))
        .unwrap();
        assert_eq!(got, [4.5, -4.5, 3.75, -3.75, 3.0]);
    }

    /// The reference's trap: with few attacks, all-benign earned more than being right.
    #[test]
    fn an_all_benign_policy_never_out_earns_a_perfect_one() {
        let n = 5_000;
        for percent in [2, 5, 10, 20, 35, 50] {
            let share = f64::from(percent) / 100.0;
            let attacks = n * percent / 100;
            let labels: Vec<f32> = (0..n).map(|i| if i < attacks { 1.0 } else { 0.0 }).collect();
            let labels = tensor(&labels);
            // the perfect policy at its least sure, all-benign at its most sure
            let timid = &labels * 0.002 + 0.499;
            // on attacks the surest all-benign policy loses most, so let it be just below the line there
            let bold = &labels * 0.499;
            let (perfect, all_benign) = (earned(&timid, &labels, share), earned(&bold, &labels, share));
            assert!(perfect > all_benign + 2.0, "{percent} %: {perfect:.2} against {all_benign:.2}");
            // without any class weight the order holds as well for equally sure policies
            let sure = tensor(&[0.0]).expand_as(&labels);
            let plain = |f: &Tensor| reward(f, &labels).mean(Kind::Double).double_value(&[]);
            assert!(plain(&labels) > plain(&sure) + 0.1, "{percent} %");
        }
    }

    #[test]
    fn every_right_decision_earns_more_than_every_wrong_one() {
        let fused = Tensor::arange_start_step(0.0, 1.01, 0.05, (Kind::Float, tch::Device::Cpu));
        for label in [0.0, 1.0] {
            let labels = fused.full_like(label);
            let earned: Vec<f32> = Vec::try_from(&reward(&fused, &labels)).unwrap();
            let fused: Vec<f32> = Vec::try_from(&fused).unwrap();
            let right = |f: f32| (f > 0.5) == (label > 0.5);
            let pick = |want: bool| {
                earned.iter().zip(&fused).filter(move |(_, f)| right(**f) == want).map(|(e, _)| *e)
            };
            let worst_right = pick(true).fold(f32::INFINITY, f32::min);
            let best_wrong = pick(false).fold(f32::NEG_INFINITY, f32::max);
            assert!(worst_right >= 3.0 && best_wrong <= -3.0, "{worst_right} {best_wrong}");
        }
    }

    #[test]
    fn a_single_class_is_weighed_plainly() {
        assert_eq!(ClassWeights::balanced(0.0), ClassWeights { benign: 1.0, attack: 1.0 });
        assert_eq!(ClassWeights::balanced(1.0), ClassWeights { benign: 1.0, attack: 1.0 });
        let w = ClassWeights::balanced(0.02);
        assert!((w.attack * 0.02 - 0.5).abs() < 1e-12 && (w.benign * 0.98 - 0.5).abs() < 1e-12);
    }
}
