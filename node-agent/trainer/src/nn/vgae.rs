//! Variational graph auto-encoder that rebuilds node features, node ids and neighbourhoods.

use common::config::semantic::VgaeArch;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::fused::{Dropout, Kernels};
use super::gat_conv::GatConv;
use super::init::{BatchNorm, Linear, embedding, node_input};
use crate::batch::{GraphBatch, NODE_FEATURES};
use crate::objective::id_heads::{id_cross_entropy_by_node, neighbourhood_bce_by_node};

/// The log variance is held within ± this, so that its exponential stays finite.
const LOGVAR_LIMIT: f64 = 20.0;

/// The auto-encoder with its weights.
#[derive(Debug)]
pub struct Vgae {
    pub store: VarStore,
    pub arch: VgaeArch,
    pub num_ids: i64,
    pub kernels: Kernels,
    id_embedding: Tensor,
    encoder: Vec<(GatConv, BatchNorm)>,
    z_mean: Linear,
    z_logvar: Linear,
    decoder: Vec<(GatConv, BatchNorm)>,
    decoder_out: GatConv,
    /// Head of the node's own id, `[latent → num_ids]`.
    pub id_head: Linear,
    neighbourhood: [Linear; 2],
    /// Last layer of the neighbourhood head, `[hidden → num_ids]`.
    pub neighbourhood_head: Linear,
}

/// Posterior of each node, f32 `[N, latent]` both.
#[derive(Debug)]
pub struct Posterior {
    pub mean: Tensor,
    pub logvar: Tensor,
}

/// What a decoding gives, before the two wide id heads.
#[derive(Debug)]
pub struct Decoded {
    /// Rebuilt continuous features in (0, 1), f32 `[N, 10]`.
    pub features: Tensor,
    /// Input of [`Vgae::neighbourhood_head`], f32 `[N, hidden]`.
    pub neighbourhood_hidden: Tensor,
}

/// Anomaly scores of each of `G` graphs at the posterior mean, f32 `[G]` each.
#[derive(Debug)]
pub struct VgaeScores {
    /// Mean squared error of the continuous features.
    pub feature_mse: Tensor,
    /// Binary cross entropy of the neighbourhood, mean over nodes × ids.
    pub neighbourhood_bce: Tensor,
    /// Cross entropy of the node ids, mean over nodes.
    pub id_ce: Tensor,
    /// Statistics over all nodes and dimensions of the graph's latent means.
    pub z_mean: Tensor,
    pub z_std: Tensor,
    pub z_max: Tensor,
    pub z_min: Tensor,
}

impl Vgae {
    /// Fresh weights from torch's global generator (seed it first).
    #[must_use]
    pub fn new(arch: &VgaeArch, num_ids: i64, device: Device) -> Self {
        let store = VarStore::new(device);
        let root = store.root();
        let (latent, hidden) = (i64::from(arch.latent), i64::from(arch.neighbourhood_hidden));
        let id_embedding = embedding(&(&root / "id_embedding"), num_ids, i64::from(arch.id_embedding));
        let stack = |side: &str, layers: &[common::config::semantic::GatLayer], input: i64| {
            let mut inputs = input;
            let mut built = Vec::with_capacity(layers.len());
            for (i, layer) in layers.iter().enumerate() {
                let conv = &root / format!("{side}_layers") / i;
                let norm = &root / format!("{side}_bns") / i;
                let out = i64::from(layer.out());
                let conv = GatConv::new(&conv, inputs, i64::from(layer.width), i64::from(layer.heads));
                built.push((conv, BatchNorm::new(&norm, out)));
                inputs = out;
            }
            (built, inputs)
        };
        let (encoder, encoded) =
            stack("encoder", &arch.encoder, i64::from(arch.id_embedding) + NODE_FEATURES);
        let (decoder, decoded) = stack("decoder", &arch.decoder, latent);
        let decoder_out =
            GatConv::new(&(&root / "decoder_layers" / arch.decoder.len()), decoded, NODE_FEATURES, 1);
        let sequence = |place: u32, inputs, outputs| {
            Linear::new(&(&root / "neighborhood_decoder" / place), inputs, outputs)
        };
        Self {
            arch: arch.clone(),
            num_ids,
            kernels: Kernels::for_device(device),
            id_embedding,
            encoder,
            z_mean: Linear::new(&(&root / "z_mean"), encoded, latent),
            z_logvar: Linear::new(&(&root / "z_logvar"), encoded, latent),
            decoder,
            decoder_out,
            id_head: Linear::new(&(&root / "canid_classifier"), latent, num_ids),
            neighbourhood: [sequence(0, latent, hidden), sequence(3, hidden, hidden)],
            neighbourhood_head: sequence(6, hidden, num_ids),
            store,
        }
    }

    /// Posterior of each node.
    #[must_use]
    pub fn encode(&self, batch: &GraphBatch, train: bool) -> Posterior {
        let x = node_input(&self.id_embedding, &batch.node_id, &batch.x);
        let x = self.layers(&self.encoder, x, batch, train);
        let logvar = self.z_logvar.forward(&x).clamp(-LOGVAR_LIMIT, LOGVAR_LIMIT);
        Posterior { mean: self.z_mean.forward(&x), logvar }
    }

    /// Features and neighbourhood input of latents `[N, latent]`.
    #[must_use]
    pub fn decode(&self, z: &Tensor, batch: &GraphBatch, train: bool) -> Decoded {
        let x = self.layers(&self.decoder, z.shallow_clone(), batch, train);
        let features = self.decoder_out.convolve(&x, batch, self.kernels).sigmoid();
        let neighbourhood_hidden = self.neighbourhood.iter().fold(z.shallow_clone(), |x, layer| {
            Dropout::draw(self.arch.dropout, train).apply(&layer.forward(&x).relu())
        });
        Decoded { features, neighbourhood_hidden }
    }

    fn layers(&self, layers: &[(GatConv, BatchNorm)], x: Tensor, batch: &GraphBatch, train: bool) -> Tensor {
        layers.iter().fold(x, |x, (conv, norm)| {
            let dropout = Dropout::draw(self.arch.dropout, train);
            norm.activated(&conv.convolve(&x, batch, self.kernels), train, dropout, self.kernels)
        })
    }

    /// Evaluation of a batch at the posterior mean (the published code samples there too, which makes its
    /// scores change from call to call), without gradient.
    #[must_use]
    pub fn score_batch(&self, batch: &GraphBatch) -> VgaeScores {
        tch::no_grad(|| {
            let z = self.encode(batch, false).mean;
            let decoded = self.decode(&z, batch, false);
            let error = (&decoded.features - &batch.x).square().mean_dim(1_i64, false, Kind::Float);
            let (hidden, head) = (&decoded.neighbourhood_hidden, &self.neighbourhood_head);
            let neighbourhood = neighbourhood_bce_by_node(hidden, head, batch, self.kernels);
            let id = id_cross_entropy_by_node(&z, &self.id_head, &batch.node_id, self.kernels);
            let width = i64::from(self.arch.latent);
            let z_mean = batch.mean_by_graph(&z.mean_dim(1_i64, false, Kind::Float));
            let centred = &z - z_mean.index_select(0, &batch.graph_of_node).unsqueeze(1);
            let squares = batch.sum_by_graph(&centred.square().sum_dim_intlist(1_i64, false, Kind::Float));
            // As torch.std: divided by one less than the number of entries.
            let z_std = (squares / (&batch.nodes_per_graph * width - 1.0).clamp_min(1.0)).sqrt();
            VgaeScores {
                feature_mse: batch.mean_by_graph(&error),
                neighbourhood_bce: batch.mean_by_graph(&neighbourhood),
                id_ce: batch.mean_by_graph(&id),
                z_std,
                z_max: batch.extremum_by_graph(&z.amax(1_i64, false), "amax"),
                z_min: batch.extremum_by_graph(&z.amin(1_i64, false), "amin"),
                z_mean,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::parameter_count;
    use common::config::semantic::ModelSize;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        crate::runtime::init();
        for (num_ids, large, small) in
            [(30, 185_850, 9_186), (53, 188_840, 10_060), (1791, 414_780, 76_104), (2049, 448_320, 85_908)]
        {
            for (size, expected) in [(ModelSize::Large, large), (ModelSize::Small, small)] {
                let vgae = Vgae::new(&VgaeArch::of_size(size), num_ids, Device::Cpu);
                assert_eq!(parameter_count(&vgae.store), expected, "{size:?} at {num_ids} ids");
            }
        }
    }
}
