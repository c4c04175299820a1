//! Fusion states: what both detectors say of a window, in 15 numbers.

use tch::{Device, Kind, Tensor};

use super::FusionError;
use crate::nn::gat::GatScores;
use crate::nn::qnet::STATE_WIDTH;
use crate::nn::vgae::VgaeScores;
use crate::phase::score::{Errors, host};

/// Columns of a state, in order: 8 of the VGAE, 7 of the GAT.
pub const STATE_COLUMNS: [&str; STATE_WIDTH as usize] = [
    "vgae_feature_mse",
    "vgae_neighbourhood_bce",
    "vgae_id_ce",
    "vgae_z_mean",
    "vgae_z_std",
    "vgae_z_max",
    "vgae_z_min",
    "vgae_confidence",
    "gat_p_benign",
    "gat_p_attack",
    "gat_embedding_mean",
    "gat_embedding_std",
    "gat_embedding_max",
    "gat_embedding_min",
    "gat_confidence",
];
/// Column of the GAT's attack probability.
pub const P_ATTACK_COLUMN: i64 = 9;

/// States of `G` windows, f32 `[G, 15]`, unscaled, on the device of the scores.
///
/// Confidences: VGAE `1 / (1 + MSE)`; GAT `1 - H(p) / ln 2`, H the entropy of its two probabilities. Both lie
/// in [0, 1].
pub fn state_rows(vgae: &VgaeScores, gat: &GatScores) -> Tensor {
    let p = &gat.probabilities;
    let embedding = &gat.embedding;
    let entropy = -(p * p.clamp_min(1e-12).log()).sum_dim_intlist(&[1i64][..], false, Kind::Float);
    let vgae_confidence = (&vgae.feature_mse + 1.0).reciprocal().clamp(0.0, 1.0);
    let gat_confidence = (entropy / -std::f64::consts::LN_2 + 1.0).clamp(0.0, 1.0);
    Tensor::stack(
        &[
            vgae.feature_mse.shallow_clone(),
            vgae.neighbourhood_bce.shallow_clone(),
            vgae.id_ce.shallow_clone(),
            vgae.z_mean.shallow_clone(),
            vgae.z_std.shallow_clone(),
            vgae.z_max.shallow_clone(),
            vgae.z_min.shallow_clone(),
            vgae_confidence,
            p.select(1, 0),
            p.select(1, 1),
            embedding.mean_dim(&[1i64][..], false, Kind::Float),
            embedding.std_dim(&[1i64][..], true, false),
            embedding.amax([1], false),
            embedding.amin([1], false),
            gat_confidence,
        ],
        1,
    )
    .to_kind(Kind::Float)
}

/// States of one split or folder with its labels, if it has any.
#[derive(Debug)]
pub struct RawStates {
    /// f32 `[n, 15]`.
    pub rows: Tensor,
    /// 1 = attack; None for captures without labels.
    pub labels: Option<Vec<u8>>,
    /// The first three columns, on the host.
    pub errors: Errors,
}

impl RawStates {
    /// # Errors
    /// `LabelCount` when rows and labels differ in number, `NotFinite` naming the first bad column.
    pub fn new(rows: Tensor, labels: Option<Vec<u8>>) -> Result<Self, FusionError> {
        let count = rows.size()[0];
        if let Some(labels) = &labels
            && labels.len() as i64 != count
        {
            return Err(FusionError::LabelCount { rows: count, labels: labels.len() });
        }
        let finite: Vec<bool> = Vec::try_from(&rows.isfinite().all_dim(0, false).to_device(Device::Cpu))?;
        if let Some(column) = finite.iter().position(|ok| !ok) {
            return Err(FusionError::NotFinite { column: STATE_COLUMNS[column] });
        }
        let column = |k: i64| host(&rows.select(1, k)).map_err(|e| FusionError::Scores(e.to_string()));
        let errors = Errors { feature_mse: column(0)?, neighbourhood_bce: column(1)?, id_ce: column(2)? };
        Ok(Self { rows, labels, errors })
    }

    /// Errors of the benign windows; none without labels.
    pub(super) fn benign_errors(&self) -> Errors {
        let labels = self.labels.as_deref().unwrap_or_default();
        let benign = |column: &[f32]| -> Vec<f32> {
            column.iter().zip(labels).filter(|(_, label)| **label == 0).map(|(error, _)| *error).collect()
        };
        Errors {
            feature_mse: benign(&self.errors.feature_mse),
            neighbourhood_bce: benign(&self.errors.neighbourhood_bce),
            id_ce: benign(&self.errors.id_ce),
        }
    }

    pub fn len(&self) -> i64 {
        self.rows.size()[0]
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// `n` states with the given share of attacks; both detectors are right most of the time, each blind to
    /// a part of the attacks that the other sees (the embedding's mean tells which), so that weighing
    /// window by window beats any fixed weight.
    pub fn synthetic(n: i64, attack_share: f64, seed: i64) -> RawStates {
        // More threads would wait for each other longer than they work on tensors this small.
        tch::set_num_threads(1);
        tch::manual_seed(seed);
        let cpu = (Kind::Float, Device::Cpu);
        let attacks = (n as f64 * attack_share).round() as i64;
        let label = Tensor::cat(&[Tensor::ones([attacks], cpu), Tensor::zeros([n - attacks], cpu)], 0);
        let vgae_sees = Tensor::rand([n], cpu).gt(0.5).to_kind(Kind::Float);
        let noise = |scale: f64| Tensor::randn([n], cpu) * scale;
        let seen = |who: &Tensor| &label * who;
        let p_attack = (seen(&(1.0 - &vgae_sees)) * 0.8 + 0.1 + noise(0.05)).clamp(0.001, 0.999);
        // Where the GAT is blind it is also noisy on benign windows.
        let p_attack = (p_attack + &vgae_sees * noise(0.15).abs()).clamp(0.001, 0.999);
        let error = |benign: f64, rise: f64| (seen(&vgae_sees) * rise + benign + noise(benign * 0.1)).abs();
        let vgae = VgaeScores {
            feature_mse: error(0.03, 0.05),
            neighbourhood_bce: error(0.01, 0.02),
            id_ce: error(0.4, 0.8),
            z_mean: noise(0.1),
            z_std: noise(0.1) + 1.0,
            z_max: noise(0.2) + 3.0,
            z_min: noise(0.2) - 3.0,
        };
        let p = Tensor::stack(&[1.0 - &p_attack, p_attack], 1);
        let embedding = Tensor::randn([n, 8], cpu) * 0.1 + vgae_sees.unsqueeze(1);
        let rows = state_rows(&vgae, &GatScores { probabilities: p, embedding });
        let labels: Vec<u8> = (0..n).map(|i| u8::from(i < attacks)).collect();
        RawStates::new(rows, Some(labels)).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_where_their_names_say() {
        let one = |v: f32| Tensor::from_slice(&[v]);
        let vgae = VgaeScores {
            feature_mse: one(0.25),
            neighbourhood_bce: one(0.02),
            id_ce: one(0.5),
            z_mean: one(0.1),
            z_std: one(0.9),
            z_max: one(2.0),
            z_min: one(-2.0),
        };
        let gat = GatScores {
            probabilities: Tensor::from_slice(&[0.25f32, 0.75]).view([1, 2]),
            embedding: Tensor::from_slice(&[1.0f32, 2.0, 6.0]).view([1, 3]),
        };
        let row: Vec<f32> = Vec::try_from(&state_rows(&vgae, &gat).view([-1])).unwrap();
        let entropy = -(0.25f64 * 0.25f64.ln() + 0.75 * 0.75f64.ln());
        let confidence = (1.0 - entropy / 2f64.ln()) as f32;
        let expected =
            [0.25, 0.02, 0.5, 0.1, 0.9, 2.0, -2.0, 0.8, 0.25, 0.75, 3.0, 7f32.sqrt(), 6.0, 1.0, confidence];
        for ((got, expected), name) in row.iter().zip(expected).zip(STATE_COLUMNS) {
            assert!((got - expected).abs() < 1e-5, "{name}: {got} != {expected}");
        }
        assert_eq!(STATE_COLUMNS[P_ATTACK_COLUMN as usize], "gat_p_attack");
    }

    #[test]
    fn a_diverged_detector_is_named() {
        let rows = Tensor::zeros([3, STATE_WIDTH], (Kind::Float, Device::Cpu));
        let _ = rows.get(1).get(2).fill_(f64::NAN);
        let error = RawStates::new(rows, None).unwrap_err();
        assert!(matches!(error, FusionError::NotFinite { column: "vgae_id_ce" }), "{error}");
        let rows = Tensor::zeros([3, STATE_WIDTH], (Kind::Float, Device::Cpu));
        assert!(matches!(RawStates::new(rows, Some(vec![0])), Err(FusionError::LabelCount { .. })));
    }
}
