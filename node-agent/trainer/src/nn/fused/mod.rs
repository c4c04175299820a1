//! Fused operations of the models on a CPU, written in C++ (`shim/` beside `src/`), and the choice between
//! them and plain tch.
//!
//! | Where | What |
//! |--|--|
//! | [`Kernels`] | which of the two a model uses |
//! | `ops` | safe wrappers: graph attention layer, normalisation, wide heads, Adam |
//! | [`device`] | what libtorch's allocator says of a CUDA device |
//! | `ffi` | the C interface and nothing else |
//! | [`Dropout`] | dropout by hash of (seed, row, column): the same mask on both paths |
//!
//! The plain path is the reference: tests hold every fused operation against it, values and gradients.

pub mod device;
mod dropout;
mod ffi;
mod ops;
#[cfg(test)]
mod tests;

pub use dropout::Dropout;
pub use ops::{AdamStep, GatLayer, HeadResult, NormAct, adam_step, available, gat_layer, head, norm_act};

use tch::Device;

/// Overrides the choice of [`Kernels::for_device`] with `plain`, to rule the fused operations out when a
/// result is doubted.
pub const VARIABLE: &str = "COORD_TRAINER_KERNELS";

/// How a model computes. The results agree to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernels {
    /// Operations of libtorch, on any device.
    Plain,
    /// The fused operations; CPU and f32 only.
    Fused,
}

impl Kernels {
    /// Fused on a CPU. CUDA keeps the plain path: its large batches hide what fusing saves here.
    #[must_use]
    pub fn for_device(device: Device) -> Self {
        let ruled_out = std::env::var_os(VARIABLE).is_some_and(|choice| choice == "plain");
        if device == Device::Cpu && !ruled_out && available() { Self::Fused } else { Self::Plain }
    }
}
