//! Detectors over whole sets, in batches and at the posterior mean.

use dataset::GraphSet;
use tch::{Device, Kind, Tensor};

use crate::fit::FitError;
use crate::fit::loader::Loader;
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

/// Class probabilities `[n, 2]` of the graphs `pool`, on the device.
pub fn gat_probabilities(
    gat: &Gat,
    loader: &mut Loader,
    set: &GraphSet,
    pool: &[u32],
    batch_size: usize,
) -> Tensor {
    collect(loader, set, pool, batch_size, 2, |batch| gat.score_batch(batch).probabilities)
}

/// Logits `[n, 2]` in evaluation mode, on the device: what a student imitates.
pub fn gat_logits(gat: &Gat, loader: &mut Loader, set: &GraphSet, pool: &[u32], batch_size: usize) -> Tensor {
    tch::no_grad(|| collect(loader, set, pool, batch_size, 2, |batch| gat.forward(batch, false)))
}

/// Attack probability of every graph of a set.
///
/// # Errors
/// What libtorch reports.
pub fn attack_probabilities(
    gat: &Gat,
    loader: &mut Loader,
    set: &GraphSet,
    batch_size: usize,
) -> Result<Vec<f32>, FitError> {
    let pool = super::data::everything(set);
    host(&gat_probabilities(gat, loader, set, &pool, batch_size).select(1, 1))
}

/// Reconstruction errors of the graphs `pool`.
///
/// # Errors
/// What libtorch reports.
pub fn errors(
    vgae: &Vgae,
    loader: &mut Loader,
    set: &GraphSet,
    pool: &[u32],
    batch_size: usize,
) -> Result<Errors, FitError> {
    let rows = collect(loader, set, pool, batch_size, 3, |batch| {
        let scores = vgae.score_batch(batch);
        Tensor::stack(&[scores.feature_mse, scores.neighbourhood_bce, scores.id_ce], 1)
    });
    Ok(Errors {
        feature_mse: host(&rows.select(1, 0))?,
        neighbourhood_bce: host(&rows.select(1, 1))?,
        id_ce: host(&rows.select(1, 2))?,
    })
}

/// Rows `[n, width]` of a function of batches.
pub fn collect(
    loader: &mut Loader,
    set: &GraphSet,
    pool: &[u32],
    batch_size: usize,
    width: i64,
    of: impl Fn(&crate::batch::GraphBatch) -> Tensor,
) -> Tensor {
    let mut parts = Vec::with_capacity(pool.len().div_ceil(batch_size.max(1)));
    loader.for_each(set, pool, batch_size, |_, batch| parts.push(of(batch)));
    if parts.is_empty() {
        return Tensor::zeros([0, width], (Kind::Float, loader.device()));
    }
    Tensor::cat(&parts, 0)
}
