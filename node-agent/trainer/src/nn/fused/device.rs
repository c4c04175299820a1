//! What libtorch's allocator says of a CUDA device.

use tch::TchError;

use super::ffi;

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    pub allocated: u64,
    pub reserved: u64,
    /// The most that was allocated since [`forget_peak`].
    pub peak: u64,
    /// Of the whole device.
    pub free: u64,
}

/// # Errors
/// Where no such device is, in libtorch's words.
pub fn memory(index: usize) -> Result<Taken, TchError> {
    let mut out = [0i64; 4];
    // SAFETY: the function writes four numbers, for which there is room.
    unsafe { ffi::check(ffi::shim_device_memory(index as i32, out.as_mut_ptr()))? };
    let [allocated, reserved, peak, free] = out.map(|bytes| u64::try_from(bytes).unwrap_or(0));
    Ok(Taken { allocated, reserved, peak, free })
}

/// # Errors
/// As [`memory`].
pub fn forget_peak(index: usize) -> Result<(), TchError> {
    // SAFETY: takes a plain number; its text is taken over.
    unsafe { ffi::check(ffi::shim_device_forget_peak(index as i32)) }
}

/// Gives blocks without a tensor back, on all devices of the process.
///
/// # Errors
/// As [`memory`].
pub fn release() -> Result<(), TchError> {
    // SAFETY: takes nothing; its text is taken over.
    unsafe { ffi::check(ffi::shim_device_release()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_card_says_so_and_lives() {
        crate::runtime::init();
        if !tch::Cuda::is_available() {
            assert!(memory(0).is_err() && forget_peak(0).is_err() && release().is_err());
        }
    }
}
