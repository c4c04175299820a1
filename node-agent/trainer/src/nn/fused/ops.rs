//! Safe wrappers. Everything is f32 on the CPU and contiguous; the C++ side checks that and the sizes, and a
//! violation is a panic with its words, as of any other operation of tch.

use std::ptr::null_mut;

use tch::{TchError, Tensor};

use super::dropout::Dropout;
use super::ffi;
use crate::batch::GraphBatch;

/// False where this libtorch does not export the matrix product the operations are built on.
#[must_use]
pub fn available() -> bool {
    // SAFETY: takes nothing and gives a static string or null.
    unsafe { !ffi::shim_kernels().is_null() }
}

/// Parameters of one graph attention layer of `H` heads with `C` channels.
#[derive(Debug, Clone, Copy)]
pub struct GatLayer<'a> {
    /// `[H·C, in]`.
    pub weight: &'a Tensor,
    /// `[1, H, C]` both.
    pub att_src: &'a Tensor,
    pub att_dst: &'a Tensor,
    /// `[H·C]`.
    pub bias: &'a Tensor,
    /// ReLU behind the bias, and dropout behind that.
    pub relu: bool,
    pub dropout: Dropout,
}

/// Output `[N, H·C]` of a layer, and with `pool` its mean over the nodes of each graph, `[G, H·C]`.
///
/// # Panics
/// With the words of the C++ side.
pub fn gat_layer(
    x: &Tensor,
    layer: &GatLayer<'_>,
    batch: &GraphBatch,
    pool: bool,
) -> (Tensor, Option<Tensor>) {
    let (mut out, mut pooled) = (null_mut(), null_mut());
    // SAFETY: all inputs are live tensors for the call; outputs are written where it succeeds.
    unsafe {
        ffi::check(ffi::shim_gat_layer(
            x.as_ptr(),
            layer.weight.as_ptr(),
            layer.att_src.as_ptr(),
            layer.att_dst.as_ptr(),
            layer.bias.as_ptr(),
            batch.edges.in_ptr.as_ptr(),
            batch.edges.src.as_ptr(),
            batch.node_ptr.as_ptr(),
            layer.relu,
            layer.dropout.rate,
            layer.dropout.seed,
            pool,
            &mut out,
            &mut pooled,
        ))
        .unwrap();
        (ffi::take(out), pool.then(|| ffi::take(pooled)))
    }
}

/// Parameters and running statistics of a batch normalisation, `[W]` each; what follows it is ReLU and dropout.
#[derive(Debug, Clone, Copy)]
pub struct NormAct<'a> {
    pub weight: &'a Tensor,
    pub bias: &'a Tensor,
    pub running_mean: &'a Tensor,
    pub running_var: &'a Tensor,
    pub dropout: Dropout,
}

/// Normalises `[N, W]`; `train` uses and updates the statistics (N > 1 then), else no gradient is recorded.
///
/// # Panics
/// With the words of the C++ side.
pub fn norm_act(x: &Tensor, norm: &NormAct<'_>, train: bool) -> Tensor {
    let mut out = null_mut();
    // SAFETY: as in `gat_layer`.
    unsafe {
        ffi::check(ffi::shim_norm_act(
            x.as_ptr(),
            norm.weight.as_ptr(),
            norm.bias.as_ptr(),
            norm.running_mean.as_ptr(),
            norm.running_var.as_ptr(),
            train,
            norm.dropout.rate,
            norm.dropout.seed,
            &mut out,
        ))
        .unwrap();
        ffi::take(out)
    }
}

/// Loss of each node, f32 `[N]`, summed over the columns, and the gradients of their sum where asked for.
#[derive(Debug)]
pub struct HeadResult {
    pub by_node: Tensor,
    /// By input `[N, in]`, weight `[W, in]` and bias `[W]`; none where gradients are not recorded.
    pub gradients: Option<[Tensor; 3]>,
}

/// A linear layer `[in → W]` with a cross entropy behind it. `targets` are the (row, column) pairs that are set.
/// `exclusive`: a softmax with one target a row, else a sigmoid per column. `gradient`: compute gradients too,
/// if any are recorded.
///
/// # Panics
/// With the words of the C++ side.
pub fn head(
    x: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    (rows, columns): (&Tensor, &Tensor),
    exclusive: bool,
    gradient: bool,
) -> HeadResult {
    let (mut by_node, mut g) = (null_mut(), [null_mut(); 3]);
    let [g_x, g_weight, g_bias] = &mut g;
    // SAFETY: as in `gat_layer`; the gradients are written only when asked for.
    unsafe {
        ffi::check(ffi::shim_head(
            x.as_ptr(),
            weight.as_ptr(),
            bias.as_ptr(),
            rows.as_ptr(),
            columns.as_ptr(),
            exclusive,
            gradient,
            &mut by_node,
            g_x,
            g_weight,
            g_bias,
        ))
        .unwrap();
        let written = g.iter().all(|out| !out.is_null());
        let gradients = written.then(|| g.map(|out| ffi::take(out)));
        HeadResult { by_node: ffi::take(by_node), gradients }
    }
}

/// The factors (0 or 1 / (1 - rate)) that the fused layers apply to `[rows, width]`.
pub(super) fn dropout_mask(rows: i64, width: i64, dropout: Dropout) -> Tensor {
    let mut out = null_mut();
    // SAFETY: plain numbers in; the output is written where it succeeds.
    unsafe {
        ffi::check(ffi::shim_dropout_mask(rows, width, dropout.rate, dropout.seed, &mut out)).unwrap();
        ffi::take(out)
    }
}

/// One tensor of an [`adam_step`]: weight, gradient, first and second moment, all of one shape.
pub type AdamSlot<'a> = [&'a Tensor; 4];

/// Constants of an [`adam_step`]; `step` counts from 1.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    pub step: i64,
    pub lr: f64,
    pub betas: (f64, f64),
    pub eps: f64,
    pub decay: f64,
    /// AdamW's decay of the weight itself, else an L2 penalty in the gradient.
    pub decoupled: bool,
}

/// One pass over each tensor instead of a dozen operations.
///
/// # Errors
/// What libtorch reports.
pub fn adam_step(slots: &[AdamSlot<'_>], by: &AdamStep) -> Result<(), TchError> {
    let column = |k: usize| -> Vec<ffi::In> { slots.iter().map(|slot| slot[k].as_ptr()).collect() };
    let [weights, grads, first, second] = [0, 1, 2, 3].map(column);
    // SAFETY: four arrays of `count` pointers to live tensors, each changed in place by one call at a time.
    unsafe {
        ffi::check(ffi::shim_adam(
            slots.len() as i64,
            weights.as_ptr(),
            grads.as_ptr(),
            first.as_ptr(),
            second.as_ptr(),
            by.step,
            by.lr,
            by.betas.0,
            by.betas.1,
            by.eps,
            by.decay,
            by.decoupled,
        ))
    }
}
