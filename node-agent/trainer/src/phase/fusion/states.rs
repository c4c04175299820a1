//! Fusion states: what both detectors say of a window, in 15 numbers.

use tch::{Device, Kind, Tensor};

use super::FusionError;
use crate::metrics::Truth;
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
/// Columns that [`state_rows`] gives.
pub const ROW_WIDTH: i64 = STATE_WIDTH + 1;

/// States of `G` windows, f32 `[G, 16]`, unscaled, on the device of the scores: the columns of
/// [`STATE_COLUMNS`], and behind them the GAT's margin, which is no part of a state.
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
            gat.margin.shallow_clone(),
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
    /// Logit of attack minus logit of benign of the GAT, f32 `[n]`.
    pub margin: Tensor,
    pub truth: Vec<Truth>,
    /// The first three columns, on the host.
    pub errors: Errors,
}

impl RawStates {
    /// From the rows of [`state_rows`] and the truth of each.
    ///
    /// # Errors
    /// `LabelCount` when the two differ in number, `NotFinite` naming the first bad column.
    pub fn new(rows: &Tensor, truth: Vec<Truth>) -> Result<Self, FusionError> {
        let count = rows.size()[0];
        if truth.len() as i64 != count {
            return Err(FusionError::LabelCount { rows: count, labels: truth.len() });
        }
        let finite: Vec<bool> = Vec::try_from(&rows.isfinite().all_dim(0, false).to_device(Device::Cpu))?;
        if let Some(column) = finite.iter().position(|ok| !ok) {
            let column = STATE_COLUMNS.get(column).copied().unwrap_or("gat_margin");
            return Err(FusionError::NotFinite { column });
        }
        let column = |k: i64| host(&rows.select(1, k));
        let errors = Errors { feature_mse: column(0)?, neighbourhood_bce: column(1)?, id_ce: column(2)? };
        let margin = rows.select(1, STATE_WIDTH).contiguous();
        Ok(Self { rows: rows.narrow(1, 0, STATE_WIDTH).contiguous(), margin, truth, errors })
    }

    /// Errors of the windows known to be benign.
    pub(super) fn benign_errors(&self) -> Errors {
        let benign = |column: &[f32]| -> Vec<f32> {
            let known = column.iter().zip(&self.truth).filter(|(_, truth)| **truth == Some(0));
            known.map(|(error, _)| *error).collect()
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
        let margin = p_attack.logit(None);
        let p = Tensor::stack(&[1.0 - &p_attack, p_attack], 1);
        let embedding = Tensor::randn([n, 8], cpu) * 0.1 + vgae_sees.unsqueeze(1);
        let rows = state_rows(&vgae, &GatScores { probabilities: p, margin, embedding });
        let truth: Vec<Truth> = (0..n).map(|i| Some(u8::from(i < attacks))).collect();
        RawStates::new(&rows, truth).unwrap()
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
            margin: one(3f32.ln()),
            embedding: Tensor::from_slice(&[1.0f32, 2.0, 6.0]).view([1, 3]),
        };
        let row: Vec<f32> = Vec::try_from(&state_rows(&vgae, &gat).view([-1])).unwrap();
        let entropy = -(0.25f64 * 0.25f64.ln() + 0.75 * 0.75f64.ln());
        let confidence = (1.0 - entropy / 2f64.ln()) as f32;
        let gat = [0.25, 0.75, 3.0, 7f32.sqrt(), 6.0, 1.0, confidence, 3f32.ln()];
        let expected = [0.25, 0.02, 0.5, 0.1, 0.9, 2.0, -2.0, 0.8].into_iter().chain(gat);
        let names = STATE_COLUMNS.into_iter().chain(["margin"]);
        assert_eq!(row.len() as i64, ROW_WIDTH);
        for ((got, expected), name) in row.iter().zip(expected).zip(names) {
            assert!((got - expected).abs() < 1e-5, "{name}: {got} != {expected}");
        }
    }

    #[test]
    fn a_diverged_detector_is_named() {
        let zeros = || Tensor::zeros([3, ROW_WIDTH], (Kind::Float, Device::Cpu));
        for (column, name) in [(2, "vgae_id_ce"), (STATE_WIDTH, "gat_margin")] {
            let rows = zeros();
            let _ = rows.get(1).get(column).fill_(f64::NAN);
            let error = RawStates::new(&rows, vec![None; 3]).unwrap_err();
            assert!(matches!(error, FusionError::NotFinite { column } if column == name), "{error}");
        }
        let refused = RawStates::new(&zeros(), vec![Some(0)]);
        assert!(matches!(refused, Err(FusionError::LabelCount { .. })));
    }
}
