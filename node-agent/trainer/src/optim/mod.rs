//! Optimisers whose state can be saved, restored and named.
//!
//! | file | what |
//! |--|--|
//! | `adam` | Adam with L2 or decoupled (AdamW) weight decay |
//! | `clip` | clipping of gradients by their global norm |
//!
//! tch's own optimisers live behind a pointer that gives no access to their moments, so a fit could not
//! resume where it stopped; these keep them as ordinary tensors.

mod adam;
mod clip;

pub use adam::{Adam, AdamConfig, OptimError, WeightDecay};
pub use clip::clip_grad_norm;
