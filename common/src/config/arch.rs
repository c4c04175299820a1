//! Sizes of the three networks, as the reference gives them (large = teacher, small = student).

use serde::{Deserialize, Serialize};

/// The two published sizes of each network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelSize {
    Large,
    Small,
}

/// One graph-attention layer: `heads` heads of `width` outputs each, concatenated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatLayer {
    pub heads: u32,
    /// Outputs per head.
    pub width: u32,
}

impl GatLayer {
    pub const fn new(heads: u32, width: u32) -> Self {
        GatLayer { heads, width }
    }

    /// Outputs of the whole layer.
    pub fn out(&self) -> u32 {
        self.heads * self.width
    }
}

/// The variational graph auto-encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VgaeArch {
    /// Width of the id embedding; the encoder's input is this + 10 features.
    pub id_embedding: u32,
    pub encoder: Vec<GatLayer>,
    /// Width of z.
    pub latent: u32,
    /// The decoder's hidden layers; a last one-head layer to the 10 features follows always.
    pub decoder: Vec<GatLayer>,
    /// Width of both hidden layers of the neighbourhood head.
    pub neighbourhood_hidden: u32,
    pub dropout: f64,
}

/// The GAT classifier with concatenating jumping knowledge and mean pooling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatArch {
    /// Width of the id embedding; the first layer's input is this + 10 features.
    pub id_embedding: u32,
    pub layers: u32,
    pub heads: u32,
    /// Outputs per head.
    pub hidden: u32,
    /// Linear layers after pooling: all but the last keep the pooled width.
    pub fc_layers: u32,
    pub dropout: f64,
}

/// The fusion agent's Q network: `layers` x [linear, LayerNorm, ReLU, dropout], then one linear.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DqnArch {
    pub layers: u32,
    pub hidden: u32,
    /// Evenly spaced values of the weight alpha in [0, 1].
    pub actions: u32,
    pub dropout: f64,
}

impl VgaeArch {
    /// The published size (448,320 / 85,908 parameters at 2,049 ids).
    pub fn of_size(size: ModelSize) -> Self {
        match size {
            ModelSize::Large => VgaeArch {
                id_embedding: 32,
                encoder: vec![GatLayer::new(4, 120), GatLayer::new(1, 240)],
                latent: 48,
                decoder: vec![GatLayer::new(4, 60)],
                neighbourhood_hidden: 48,
                dropout: 0.15,
            },
            ModelSize::Small => VgaeArch {
                id_embedding: 4,
                encoder: vec![GatLayer::new(1, 80), GatLayer::new(1, 40)],
                latent: 16,
                decoder: vec![GatLayer::new(4, 10)],
                neighbourhood_hidden: 16,
                dropout: 0.1,
            },
        }
    }
}

impl GatArch {
    /// The published size (343,442 / 65,354 parameters at 2,049 ids).
    pub fn of_size(size: ModelSize) -> Self {
        match size {
            ModelSize::Large => {
                GatArch { id_embedding: 16, layers: 3, heads: 8, hidden: 48, fc_layers: 1, dropout: 0.2 }
            }
            ModelSize::Small => {
                GatArch { id_embedding: 8, layers: 2, heads: 4, hidden: 24, fc_layers: 2, dropout: 0.1 }
            }
        }
    }
}

impl DqnArch {
    /// The published size (689,493 / 32,341 parameters).
    pub fn of_size(size: ModelSize) -> Self {
        match size {
            ModelSize::Large => DqnArch { layers: 3, hidden: 576, actions: 21, dropout: 0.2 },
            ModelSize::Small => DqnArch { layers: 2, hidden: 160, actions: 21, dropout: 0.2 },
        }
    }
}
