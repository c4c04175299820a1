//! Clipping of gradients by their global norm, as `torch.nn.utils.clip_grad_norm_`.

use tch::{Kind, TchError, Tensor, no_grad_guard};

/// Scales all gradients in place by `max_norm / (norm + 1e-6)` where that is below 1; `norm` is the
/// Euclidean norm over all of them together. Returns that norm (0-d, on the device: reading it
/// synchronises, scaling does not).
///
/// # Errors
/// Whatever libtorch reports.
pub fn clip_grad_norm<'a>(
    weights: impl IntoIterator<Item = &'a Tensor>,
    max_norm: f64,
) -> Result<Tensor, TchError> {
    let _guard = no_grad_guard();
    let mut grads = Vec::new();
    for weight in weights {
        let grad = weight.f_grad()?;
        if grad.defined() {
            grads.push(grad);
        }
    }
    if grads.is_empty() {
        return Ok(Tensor::from(0f32));
    }
    let norms = grads.iter().map(Tensor::f_norm).collect::<Result<Vec<_>, _>>()?;
    let norm = Tensor::f_stack(&norms, 0)?.f_norm()?.f_to_kind(Kind::Float)?;
    let scale = norm.f_add_scalar(1e-6)?.f_reciprocal()?.f_mul_scalar(max_norm)?.f_clamp_max(1.0)?;
    for grad in &mut grads {
        let _ = grad.f_mul_(&scale)?;
    }
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_grad(grad: &[f32]) -> Tensor {
        let w = Tensor::from_slice(grad).zeros_like().set_requires_grad(true);
        (&w * Tensor::from_slice(grad)).sum(Kind::Float).backward();
        w
    }

    fn grad_of(w: &Tensor) -> Vec<f32> {
        Vec::try_from(&w.grad()).unwrap()
    }

    #[test]
    fn the_norm_runs_over_all_tensors_together() {
        let (a, b) = (with_grad(&[3.0, 0.0]), with_grad(&[4.0]));
        let norm = clip_grad_norm([&a, &b], 1.0).unwrap();
        assert!((norm.double_value(&[]) - 5.0).abs() < 1e-6);
        assert!((grad_of(&a)[0] - 0.6).abs() < 1e-5 && (grad_of(&b)[0] - 0.8).abs() < 1e-5);
    }

    #[test]
    fn small_gradients_are_left_as_they_are() {
        let a = with_grad(&[0.3, -0.4]);
        let norm = clip_grad_norm([&a], 1.0).unwrap();
        assert!((norm.double_value(&[]) - 0.5).abs() < 1e-6);
        assert_eq!(grad_of(&a), vec![0.3, -0.4]);
    }

    #[test]
    fn nothing_to_clip_is_norm_zero() {
        let w = Tensor::from_slice(&[1f32]).set_requires_grad(true);
        assert_eq!(clip_grad_norm([&w], 1.0).unwrap().double_value(&[]), 0.0);
    }
}
