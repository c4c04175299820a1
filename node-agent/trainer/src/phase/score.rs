//! Detectors over whole sets, in batches and at the posterior mean.

use dataset::GraphSet;
use tch::{Device, Kind, Tensor};

use crate::fit::{Evaluator, FitError};
use crate::nn::gat::Gat;
use crate::nn::vgae::Vgae;

/// Reconstruction errors of each graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Errors {
    pub feature_mse: Vec<f32>,
    pub neighbourhood_bce: Vec<f32>,
    pub id_ce: Vec<f32>,
}

/// A float tensor's values on the host.
///
/// # Errors
/// What libtorch reports.
pub fn host(values: &Tensor) -> Result<Vec<f32>, FitError> {
    Ok(Vec::try_from(values.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_reshape([-1])?)?)
}

/// Logits `[n, 2]` of the graphs `pool` in evaluation mode, on the device.
///
/// # Errors
/// As [`Evaluator::rows`].
pub fn gat_logits(
    gat: &Gat,
    evaluator: &mut Evaluator<'_>,
    set: &GraphSet,
    pool: &[u32],
) -> Result<Tensor, FitError> {
    evaluator.rows(set, pool, 2, |batch| gat.forward(batch, false))
}

/// Logit of attack minus logit of benign of each row `[n, 2]`: what a GAT's windows are ranked by. The
/// probability it stands for rounds to 1 from 17 on, where windows could not be told apart any more.
pub fn margins(logits: &Tensor) -> Tensor {
    logits.select(1, 1) - logits.select(1, 0)
}

/// Margin of every graph of a set.
///
/// # Errors
/// As [`Evaluator::rows`].
pub fn attack_margins(
    gat: &Gat,
    evaluator: &mut Evaluator<'_>,
    set: &GraphSet,
) -> Result<Vec<f32>, FitError> {
    host(&margins(&gat_logits(gat, evaluator, set, &super::data::everything(set))?))
}

/// Reconstruction errors of the graphs `pool`.
///
/// # Errors
/// As [`Evaluator::rows`].
pub fn errors(
    vgae: &Vgae,
    evaluator: &mut Evaluator<'_>,
    set: &GraphSet,
    pool: &[u32],
) -> Result<Errors, FitError> {
    let rows = evaluator.rows(set, pool, 3, |batch| {
        let scores = vgae.score_batch(batch);
        Tensor::stack(&[scores.feature_mse, scores.neighbourhood_bce, scores.id_ce], 1)
    })?;
    Ok(Errors {
        feature_mse: host(&rows.select(1, 0))?,
        neighbourhood_bce: host(&rows.select(1, 1))?,
        id_ce: host(&rows.select(1, 2))?,
    })
}
