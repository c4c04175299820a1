//! Knowledge distillation: what a student learns from its teacher beside the labels.

use common::config::semantic::KdSemantic;
use tch::{Kind, Reduction, Tensor};

/// T²·KL(soft teacher ‖ soft student), mean over graphs ("batchmean"); logits `[G, C]` both.
pub fn soft_label_loss(student: &Tensor, teacher: &Tensor, temperature: f64) -> Tensor {
    let student = (student / temperature).log_softmax(-1, Kind::Float);
    let teacher = (teacher / temperature).log_softmax(-1, Kind::Float);
    let graphs = student.size()[0] as f64;
    student.kl_div(&teacher, Reduction::Sum, true) * (temperature * temperature / graphs)
}

/// α·distillation + (1−α)·hard.
pub fn mix(alpha: f64, distillation: &Tensor, hard: &Tensor) -> Tensor {
    distillation * alpha + hard * (1.0 - alpha)
}

/// What the VGAE student imitates: latents `[N, latent]` and rebuilt features `[N, 10]`.
#[derive(Debug)]
pub struct VgaeTargets {
    pub z: Tensor,
    pub features: Tensor,
}

/// latent·MSE(P z_s, z_t) + reconstruction·MSE(x̂_s, x̂_t); `projected` is P z_s in the teacher's width.
pub fn imitation_loss(
    projected: &Tensor,
    features: &Tensor,
    teacher: &VgaeTargets,
    kd: &KdSemantic,
) -> Tensor {
    projected.mse_loss(&teacher.z, Reduction::Mean) * kd.latent
        + features.mse_loss(&teacher.features, Reduction::Mean) * kd.reconstruction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_learn_from_an_equal_teacher() {
        crate::runtime::init();
        let logits = Tensor::from_slice(&[1.0_f32, -2.0, 0.5, 0.25]).view([2, 2]);
        assert!(soft_label_loss(&logits, &logits, 4.0).double_value(&[]).abs() < 1e-7);
        let targets = VgaeTargets { z: logits.shallow_clone(), features: logits.shallow_clone() };
        assert_eq!(imitation_loss(&logits, &logits, &targets, &KdSemantic::default()).double_value(&[]), 0.0);
    }

    #[test]
    fn soft_labels_by_hand() {
        crate::runtime::init();
        let student = Tensor::from_slice(&[0.0_f32, 0.0]).view([1, 2]);
        let teacher = Tensor::from_slice(&[0.0_f32, 4.0 * 3.0_f32.ln()]).view([1, 2]);
        // Softened teacher (1/4, 3/4) against (1/2, 1/2), times 4².
        let expected = 16.0 * (0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln());
        assert!((soft_label_loss(&student, &teacher, 4.0).double_value(&[]) - expected).abs() < 1e-5);
    }
}
