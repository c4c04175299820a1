//! The VGAE's training loss.

use common::config::semantic::VgaeLoss;
use tch::{Kind, Tensor};

use super::id_heads::{id_cross_entropy, neighbourhood_bce};
use crate::batch::GraphBatch;
use crate::nn::vgae::{Decoded, Posterior, Vgae};

/// One forward pass with everything a loss needs.
#[derive(Debug)]
pub struct VgaePass {
    pub posterior: Posterior,
    /// Latents that were decoded: sampled in training, the mean in evaluation, `[N, latent]`.
    pub z: Tensor,
    pub decoded: Decoded,
}

impl VgaePass {
    /// Training samples z = μ + ε·exp(logvar/2); evaluation takes μ.
    #[must_use]
    pub fn run(vgae: &Vgae, batch: &GraphBatch, train: bool) -> Self {
        let posterior = vgae.encode(batch, train);
        let z = if train {
            let noise = posterior.mean.randn_like();
            &posterior.mean + noise * (&posterior.logvar * 0.5).exp()
        } else {
            posterior.mean.shallow_clone()
        };
        let decoded = vgae.decode(&z, batch, train);
        Self { posterior, z, decoded }
    }

    /// feature·MSE + id·CE + neighbourhood·BCE + kl·KL with KL = −½·mean(1 + logvar − μ² − e^logvar); a scalar,
    /// each term a mean over the nodes of the batch.
    pub fn loss(&self, vgae: &Vgae, batch: &GraphBatch, weights: &VgaeLoss) -> Tensor {
        let mse = (&self.decoded.features - &batch.x).square().mean(Kind::Float);
        let id = id_cross_entropy(&self.z, &vgae.id_head, &batch.node_id, vgae.kernels).value;
        let hidden = &self.decoded.neighbourhood_hidden;
        let neighbourhood = neighbourhood_bce(hidden, &vgae.neighbourhood_head, batch, vgae.kernels).value;
        mse * weights.feature
            + id * weights.id
            + neighbourhood * weights.neighbourhood
            + kl_from_unit_normal(&self.posterior) * weights.kl
    }
}

/// Kullback-Leibler divergence of the posterior from the unit normal, mean over nodes and dimensions.
pub fn kl_from_unit_normal(posterior: &Posterior) -> Tensor {
    let Posterior { mean, logvar } = posterior;
    (logvar + 1.0 - mean.square() - logvar.exp()).mean(Kind::Float) * -0.5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_zero_at_the_unit_normal_and_as_computed_by_hand_elsewhere() {
        crate::runtime::init();
        let at = |mean: f32, logvar: f32| {
            let posterior =
                Posterior { mean: Tensor::from_slice(&[mean]), logvar: Tensor::from_slice(&[logvar]) };
            kl_from_unit_normal(&posterior).double_value(&[])
        };
        assert_eq!(at(0.0, 0.0), 0.0);
        // -0.5 (1 + 1 - 4 - e)
        assert!((at(2.0, 1.0) - 2.359_140_914).abs() < 1e-6);
    }
}
