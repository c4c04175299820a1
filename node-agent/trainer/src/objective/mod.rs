//! Losses and rewards: pure functions of tensors.

pub mod classification;
pub mod id_heads;
pub mod kd;
pub mod reward;
pub mod vgae;
