//! Cross entropy of the window classifier.

use tch::{Kind, Reduction, Tensor};

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

/// Mean log loss of stored probabilities `[G, 2]`, for validation reports.
#[must_use]
pub fn log_loss(probabilities: &Tensor, labels: &Tensor) -> f64 {
    let picked = probabilities.gather(1, &labels.unsqueeze(1), false).clamp_min(1e-12);
    -picked.log().mean(Kind::Double).double_value(&[])
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
    fn log_loss_by_hand() {
        crate::runtime::init();
        let p = Tensor::from_slice(&[0.5_f32, 0.5, 0.25, 0.75]).view([2, 2]);
        let labels = Tensor::from_slice(&[0_i64, 1]);
        let expected = -(0.5_f64.ln() + 0.75_f64.ln()) / 2.0;
        assert!((log_loss(&p, &labels) - expected).abs() < 1e-7);
    }
}
