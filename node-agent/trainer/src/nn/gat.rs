//! Graph attention classifier with concatenating jumping knowledge and mean pooling.

use common::config::semantic::GatArch;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::fused::{Dropout, Kernels};
use super::gat_conv::GatConv;
use super::init::{Linear, embedding, node_input};
use crate::batch::{GraphBatch, NODE_FEATURES};

/// Normal and attack.
pub const CLASSES: i64 = 2;

/// The classifier with its weights.
#[derive(Debug)]
pub struct Gat {
    pub store: VarStore,
    pub arch: GatArch,
    pub num_ids: i64,
    pub kernels: Kernels,
    id_embedding: Tensor,
    convs: Vec<GatConv>,
    fc_layers: Vec<Linear>,
}

/// What a classifier says about each of `G` graphs, in evaluation.
#[derive(Debug)]
pub struct GatScores {
    /// Softmax of the logits, f32 `[G, 2]`; column 1 = attack.
    pub probabilities: Tensor,
    /// Logit of attack minus logit of benign, f32 `[G]`: ranks as the probability of attack does, and still
    /// tells windows apart where that rounds to 1.
    pub margin: Tensor,
    /// Pooled embedding before the fully connected layers, f32 `[G, layers·heads·hidden]`.
    pub embedding: Tensor,
}

impl Gat {
    /// Fresh weights from torch's global generator (seed it first).
    #[must_use]
    pub fn new(arch: &GatArch, num_ids: i64, device: Device) -> Self {
        let store = VarStore::new(device);
        let root = store.root();
        let width = i64::from(arch.heads * arch.hidden);
        let input = i64::from(arch.id_embedding) + NODE_FEATURES;
        let id_embedding = embedding(&(&root / "id_embedding"), num_ids, i64::from(arch.id_embedding));
        let convs = (0..arch.layers)
            .map(|layer| {
                let inputs = if layer == 0 { input } else { width };
                let path = &root / "convs" / layer;
                GatConv::new(&path, inputs, i64::from(arch.hidden), i64::from(arch.heads))
            })
            .collect();
        let pooled = width * i64::from(arch.layers);
        let last = arch.fc_layers.saturating_sub(1);
        let fc_layers = (0..=last)
            .map(|layer| {
                // The published module list counts linear, ReLU and dropout as three entries.
                let path = &root / "fc_layers" / (3 * layer);
                Linear::new(&path, pooled, if layer == last { CLASSES } else { pooled })
            })
            .collect();
        let kernels = Kernels::for_device(device);
        Self { arch: arch.clone(), num_ids, kernels, id_embedding, convs, fc_layers, store }
    }

    /// Pooled embedding `[G, layers·heads·hidden]`. The mean of a concatenation is the concatenation of the
    /// means, so each layer is pooled at once and no `[N, all layers]` tensor is built.
    pub fn pooled(&self, batch: &GraphBatch, train: bool) -> Tensor {
        let mut x = node_input(&self.id_embedding, &batch.node_id, &batch.x);
        let means: Vec<Tensor> = self
            .convs
            .iter()
            .map(|conv| {
                let dropout = Dropout::draw(self.arch.dropout, train);
                let (out, mean) = conv.pooled_layer(&x, batch, dropout, self.kernels);
                x = out;
                mean
            })
            .collect();
        Tensor::cat(&means, 1)
    }

    /// Logits `[G, 2]` of pooled embeddings.
    pub fn classify(&self, pooled: &Tensor, train: bool) -> Tensor {
        let (last, hidden) = self.fc_layers.split_last().expect("a classifier always has its last layer");
        let x = hidden.iter().fold(pooled.shallow_clone(), |x, layer| {
            Dropout::draw(self.arch.dropout, train).apply(&layer.forward(&x).relu())
        });
        last.forward(&x)
    }

    /// Logits `[G, 2]`.
    pub fn forward(&self, batch: &GraphBatch, train: bool) -> Tensor {
        self.classify(&self.pooled(batch, train), train)
    }

    /// Evaluation of a batch, without gradient.
    #[must_use]
    pub fn score_batch(&self, batch: &GraphBatch) -> GatScores {
        tch::no_grad(|| {
            let embedding = self.pooled(batch, false);
            let logits = self.classify(&embedding, false);
            let margin = logits.select(1, 1) - logits.select(1, 0);
            GatScores { probabilities: logits.softmax(-1, Kind::Float), margin, embedding }
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
            [(30, 311_138, 49_202), (53, 311_506, 49_386), (1791, 339_314, 63_290), (2049, 343_442, 65_354)]
        {
            for (size, expected) in [(ModelSize::Large, large), (ModelSize::Small, small)] {
                let gat = Gat::new(&GatArch::of_size(size), num_ids, Device::Cpu);
                assert_eq!(parameter_count(&gat.store), expected, "{size:?} at {num_ids} ids");
            }
        }
    }

    #[test]
    fn names_are_those_of_the_published_module() {
        crate::runtime::init();
        let gat = Gat::new(&GatArch::of_size(ModelSize::Small), 30, Device::Cpu);
        let mut names: Vec<String> = gat.store.variables().into_keys().collect();
        names.sort();
        let conv = |i: u32| ["att_dst", "att_src", "bias", "lin.weight"].map(|n| format!("convs.{i}.{n}"));
        let mut expected: Vec<String> = conv(0).into_iter().chain(conv(1)).collect();
        for fc in [0, 3] {
            expected.extend([format!("fc_layers.{fc}.bias"), format!("fc_layers.{fc}.weight")]);
        }
        expected.push("id_embedding.weight".to_owned());
        assert_eq!(names, expected);
    }
}
