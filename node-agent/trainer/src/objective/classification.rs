//! Cross entropy of the window classifier.

use tch::{Reduction, Tensor};

/// Weighted mean of the cross entropy: Σ w(yᵢ)·CEᵢ / Σ w(yᵢ), as torch weighs it. `logits` `[G, 2]`,
/// `labels` i64 `[G]`, `class_weight` f32 `[2]` or none.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor, class_weight: Option<&Tensor>) -> Tensor {
    logits.cross_entropy_loss(labels, class_weight, Reduction::Mean, -100, 0.0)
}

/// Share of a micro-batch in its step: the sum of its labels' weights (plain count when unweighted). Losses
/// multiplied by `mass / total mass` add up to the loss of the whole step.
#[must_use]
pub fn mass(labels: &[i64], class_weight: Option<[f32; 2]>) -> f64 {
    match class_weight {
        None => labels.len() as f64,
        Some(weight) => labels.iter().map(|&label| f64::from(weight[label as usize])).sum(),
    }
}

/// Weights that give both classes the same share of the loss: n / (2·n_class). A class that does not occur
/// gets 1, since it cannot be made up for.
#[must_use]
pub fn inverse_share(labels: &[u8]) -> [f32; 2] {
    let attacks = labels.iter().filter(|&&label| label != 0).count();
    let counts = [labels.len() - attacks, attacks];
    if counts.contains(&0) {
        return [1.0, 1.0];
    }
    counts.map(|count| labels.len() as f32 / (2.0 * count as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_classes_weigh_the_same() {
        assert_eq!(inverse_share(&[0, 0, 0, 1]), [4.0 / 6.0, 2.0]);
        assert_eq!(inverse_share(&[0, 0]), [1.0, 1.0]);
        assert_eq!(inverse_share(&[]), [1.0, 1.0]);
        assert_eq!(mass(&[0, 1, 1], Some([0.5, 2.0])), 4.5);
        assert_eq!(mass(&[0, 1, 1], None), 3.0);
    }

    #[test]
    fn the_loss_is_the_weighted_mean_and_stays_finite_where_probabilities_saturate() {
        crate::runtime::init();
        let logits = Tensor::from_slice(&[0.0_f32, 0.0, 0.0, 3.0_f32.ln()]).view([2, 2]);
        let labels = Tensor::from_slice(&[0_i64, 1]);
        let weights = Tensor::from_slice(&[1.0_f32, 3.0]);
        let expected = -(0.5_f64.ln() + 3.0 * 0.75_f64.ln()) / 4.0;
        let got = cross_entropy(&logits, &labels, Some(&weights)).double_value(&[]);
        assert!((got - expected).abs() < 1e-6, "{got}");
        let sure_and_wrong = Tensor::from_slice(&[0.0_f32, 200.0]).view([1, 2]);
        let got = cross_entropy(&sure_and_wrong, &labels.narrow(0, 0, 1), None).double_value(&[]);
        assert_eq!(got, 200.0);
    }
}
