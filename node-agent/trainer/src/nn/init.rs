//! Layers with the initial values PyTorch and PyTorch Geometric give them.

use tch::nn::{Init, Path};
use tch::{Kind, Tensor};

use super::fused::{self, Dropout, Kernels};

/// Uniform in ±√(6 / (fan in + fan out)) (Glorot), as PyTorch Geometric starts its own linears and attention
/// vectors.
#[must_use]
pub fn glorot(fan_in: i64, fan_out: i64) -> Init {
    let bound = (6.0 / (fan_in + fan_out) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// A `torch.nn.Linear`: weight `[out, in]`, bias `[out]`, both uniform in ±1/√in.
#[derive(Debug)]
pub struct Linear {
    pub weight: Tensor,
    pub bias: Tensor,
}

impl Linear {
    #[must_use]
    pub fn new(path: &Path<'_>, inputs: i64, outputs: i64) -> Self {
        let bound = 1.0 / (inputs as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        Self {
            weight: path.var("weight", &[outputs, inputs], init),
            bias: path.var("bias", &[outputs], init),
        }
    }

    /// `[N, in]` to `[N, out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&self.bias))
    }
}

/// A `torch.nn.Embedding` table `[rows, width]`, standard normal.
pub fn embedding(path: &Path<'_>, rows: i64, width: i64) -> Tensor {
    path.var("weight", &[rows, width], Init::Randn { mean: 0.0, stdev: 1.0 })
}

/// A `torch.nn.BatchNorm1d` over nodes: momentum 0.1, ε 1e-5.
#[derive(Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
}

impl BatchNorm {
    #[must_use]
    pub fn new(path: &Path<'_>, width: i64) -> Self {
        Self {
            weight: path.ones("weight", &[width]),
            bias: path.zeros("bias", &[width]),
            running_mean: path.zeros_no_train("running_mean", &[width]),
            running_var: path.ones_no_train("running_var", &[width]),
        }
    }

    /// `[N, width]` to the same shape. A training batch of a single node has no variance, so it is normalised
    /// by the running statistics instead.
    pub fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let train = train && x.size()[0] > 1;
        x.batch_norm(
            Some(&self.weight),
            Some(&self.bias),
            Some(&self.running_mean),
            Some(&self.running_var),
            train,
            0.1,
            1e-5,
            false,
        )
    }

    /// Normalisation, ReLU, dropout.
    pub fn activated(&self, x: &Tensor, train: bool, dropout: Dropout, kernels: Kernels) -> Tensor {
        // The fused operation knows no gradient through running statistics, which only a batch of one node wants.
        let trains = train && x.size()[0] > 1;
        if kernels == Kernels::Plain || x.size()[0] == 0 || (!trains && x.requires_grad()) {
            return dropout.apply(&self.forward(x, train).relu());
        }
        let Self { weight, bias, running_mean, running_var } = self;
        fused::norm_act(x, &fused::NormAct { weight, bias, running_mean, running_var, dropout }, trains)
    }
}

/// Id embedding beside the continuous features: `[N]` and `[N, 10]` to `[N, width + 10]`.
pub fn node_input(table: &Tensor, node_id: &Tensor, x: &Tensor) -> Tensor {
    debug_assert_eq!(node_id.kind(), Kind::Int64);
    Tensor::cat(&[table.index_select(0, node_id), x.shallow_clone()], 1)
}
