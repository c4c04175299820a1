//! The Q-network of the fusion agent: from a 15-number state to one value per fusion weight.

use common::config::semantic::DqnArch;
use tch::nn::{Path, VarStore};
use tch::{Device, Tensor};

use super::fused::Dropout;
use super::init::Linear;

/// Numbers in a fusion state: 8 of the VGAE, 7 of the GAT.
pub const STATE_WIDTH: i64 = 15;

/// Modules of one hidden block in the published `nn.Sequential` (linear, LayerNorm, ReLU, dropout); tensor
/// names count them: `net.0.weight`, `net.1.weight`, `net.4.weight`, ...
const MODULES_PER_BLOCK: u32 = 4;

/// `layers` x [linear, LayerNorm, ReLU, dropout], then a linear to one value per action.
#[derive(Debug)]
pub struct QNet {
    pub store: VarStore,
    pub arch: DqnArch,
    blocks: Vec<Block>,
    output: Linear,
}

#[derive(Debug)]
struct Block {
    linear: Linear,
    norm_weight: Tensor,
    norm_bias: Tensor,
}

impl QNet {
    /// Fresh weights from torch's global generator.
    #[must_use]
    pub fn new(arch: &DqnArch, device: Device) -> Self {
        let store = VarStore::new(device);
        let net = store.root() / "net";
        let hidden = i64::from(arch.hidden);
        let module = |index: u32| -> Path<'_> { &net / index };
        let mut inputs = STATE_WIDTH;
        let mut blocks = Vec::new();
        for layer in 0..arch.layers {
            let linear = Linear::new(&module(layer * MODULES_PER_BLOCK), inputs, hidden);
            let norm = module(layer * MODULES_PER_BLOCK + 1);
            let (norm_weight, norm_bias) = (norm.ones("weight", &[hidden]), norm.zeros("bias", &[hidden]));
            blocks.push(Block { linear, norm_weight, norm_bias });
            inputs = hidden;
        }
        let output = Linear::new(&module(arch.layers * MODULES_PER_BLOCK), inputs, i64::from(arch.actions));
        Self { store, arch: arch.clone(), blocks, output }
    }

    /// Action values, `[B, 15]` to `[B, actions]`; `train` switches dropout on.
    pub fn forward(&self, states: &Tensor, train: bool) -> Tensor {
        let mut x = states.shallow_clone();
        for block in &self.blocks {
            let width = i64::from(self.arch.hidden);
            x = block
                .linear
                .forward(&x)
                .layer_norm([width], Some(&block.norm_weight), Some(&block.norm_bias), 1e-5, false)
                .relu();
            x = Dropout::draw(self.arch.dropout, train).apply(&x);
        }
        self.output.forward(&x)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parameter_count;
    use super::*;
    use common::config::semantic::ModelSize;
    use tch::Kind;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (size, count) in [(ModelSize::Large, 689_493), (ModelSize::Small, 32_341)] {
            let net = QNet::new(&DqnArch::of_size(size), Device::Cpu);
            assert_eq!(parameter_count(&net.store), count, "{size:?}");
        }
    }

    #[test]
    fn tensors_are_named_as_in_the_published_sequential() {
        let net = QNet::new(&DqnArch::of_size(ModelSize::Small), Device::Cpu);
        let mut names: Vec<String> = net.store.variables().into_keys().collect();
        names.sort();
        let expected: Vec<String> = [0, 1, 4, 5, 8]
            .iter()
            .flat_map(|module| ["bias", "weight"].map(|leaf| format!("net.{module}.{leaf}")))
            .collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn equals_the_formula_worked_step_by_step() {
        tch::manual_seed(5);
        let arch = DqnArch { layers: 1, hidden: 4, actions: 3, dropout: 0.5 };
        let net = QNet::new(&arch, Device::Cpu);
        let states = Tensor::rand([2, STATE_WIDTH], (Kind::Float, Device::Cpu));
        let h = states.matmul(&net.blocks[0].linear.weight.tr()) + &net.blocks[0].linear.bias;
        let mean = h.mean_dim(&[-1i64][..], true, Kind::Float);
        let variance = (&h - &mean).square().mean_dim(&[-1i64][..], true, Kind::Float);
        let h = ((&h - &mean) / (variance + 1e-5).sqrt()).relu();
        let expected = h.matmul(&net.output.weight.tr()) + &net.output.bias;
        let got = net.forward(&states, false);
        assert!(f64::try_from((got - expected).abs().max()).unwrap() < 1e-5);
    }
}
