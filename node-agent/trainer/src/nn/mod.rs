//! Layers and models. Parameter names are those of PyTorch Geometric and of the published Python classes,
//! so that a saved model loads there by name.
//!
//! [`fused`] has the fast forms of the heavy operations on a CPU; what stands in the layers themselves is the
//! plain form, which the fast one is tested against.

pub mod fused;
pub mod gat;
pub mod gat_conv;
pub mod init;
pub mod qnet;
pub mod vgae;

use tch::nn::VarStore;

/// Number of trained scalars of a store (running statistics of batch normalisation are not trained).
#[must_use]
pub fn parameter_count(store: &VarStore) -> i64 {
    store.trainable_variables().iter().map(|tensor| tensor.numel() as i64).sum()
}
