//! The C interface of `shim/`; see `boundary.h` there.
//!
//! Tensors cross as the pointers tch keeps (`at::Tensor *`). Functions give null, or the words of an error.

use std::ffi::{CStr, c_char};

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

pub type In = *const C_tensor;
pub type Out = *mut C_tensor;

unsafe extern "C" {
    pub fn shim_kernels() -> *const c_char;
    pub fn shim_gat_layer(
        x: In,
        weight: In,
        att_src: In,
        att_dst: In,
        bias: In,
        in_ptr: In,
        src: In,
        node_ptr: In,
        relu: bool,
        dropout: f64,
        seed: u64,
        pool: bool,
        out: *mut Out,
        pooled: *mut Out,
    ) -> *mut c_char;
    pub fn shim_norm_act(
        x: In,
        weight: In,
        bias: In,
        running_mean: In,
        running_var: In,
        train: bool,
        dropout: f64,
        seed: u64,
        out: *mut Out,
    ) -> *mut c_char;
    pub fn shim_head(
        x: In,
        weight: In,
        bias: In,
        rows: In,
        columns: In,
        exclusive: bool,
        gradient: bool,
        by_node: *mut Out,
        g_x: *mut Out,
        g_weight: *mut Out,
        g_bias: *mut Out,
    ) -> *mut c_char;
    pub fn shim_dropout_mask(rows: i64, width: i64, dropout: f64, seed: u64, out: *mut Out) -> *mut c_char;
    pub fn shim_adam(
        count: i64,
        weights: *const In,
        grads: *const In,
        first: *const In,
        second: *const In,
        step: i64,
        lr: f64,
        beta1: f64,
        beta2: f64,
        eps: f64,
        decay: f64,
        decoupled: bool,
    ) -> *mut c_char;
    pub fn shim_device_memory(index: i32, out: *mut i64) -> *mut c_char;
    pub fn shim_device_forget_peak(index: i32) -> *mut c_char;
    pub fn shim_device_release() -> *mut c_char;
}

/// Turns the answer of a function into a result and frees its text.
///
/// # Safety
/// `error` is null or a string of `malloc` that nobody else frees.
pub unsafe fn check(error: *mut c_char) -> Result<(), TchError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: not null, and a NUL-terminated string by the caller's promise; freed once, after the copy.
    let text = unsafe {
        let text = CStr::from_ptr(error).to_string_lossy().into_owned();
        libc::free(error.cast());
        text
    };
    Err(TchError::Torch(text))
}

/// Takes a result over.
///
/// # Safety
/// `out` was written by a function that succeeded.
pub unsafe fn take(out: Out) -> Tensor {
    // SAFETY: a new at::Tensor, owned by nobody else, by the caller's promise.
    unsafe { Tensor::from_ptr(out) }
}
