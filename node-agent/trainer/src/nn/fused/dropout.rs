//! Dropout whose mask is a function of (seed, row, column).

use tch::{Device, Tensor};

use super::ops;

/// Rate and seed of one dropout of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Share of elements set to zero; 0 = off.
    pub rate: f64,
    pub seed: u64,
}

impl Dropout {
    pub const OFF: Self = Self { rate: 0.0, seed: 0 };

    /// For one use in training: the seed comes from torch's generator, which a fit seeds anew each step. Off in
    /// evaluation, without touching the generator.
    #[must_use]
    pub fn draw(rate: f64, train: bool) -> Self {
        if !train || rate <= 0.0 {
            return Self::OFF;
        }
        let seed = Tensor::randint(i64::MAX, [1], (tch::Kind::Int64, Device::Cpu)).int64_value(&[0]);
        Self { rate, seed: seed as u64 }
    }

    /// Sets elements of `[N, W]` to zero and scales the others by 1 / (1 - rate). On the CPU the mask is the one
    /// the fused layers use; elsewhere torch's own generator draws it.
    pub fn apply(&self, x: &Tensor) -> Tensor {
        if self.rate <= 0.0 {
            return x.shallow_clone();
        }
        if x.device() != Device::Cpu || !ops::available() {
            return x.dropout(self.rate, true);
        }
        let (rows, width) = (x.size()[0], x.size()[1]);
        x * ops::dropout_mask(rows, width, *self)
    }
}
