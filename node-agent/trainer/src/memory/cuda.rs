//! The caching allocator of a CUDA device, through the device-independent interface that libtorch_cpu has of it.

use super::{DeviceMemory, Pressure};
use crate::nn::fused::device;

pub struct Cuda {
    pub index: usize,
    pub budget_bytes: u64,
}

impl DeviceMemory for Cuda {
    fn pressure(&self) -> Option<Pressure> {
        let now = device::memory(self.index).ok()?;
        Some(Pressure { allocated: now.allocated, reserved: now.reserved, free: now.free })
    }

    fn peak(&self) -> Option<u64> {
        device::memory(self.index).ok().map(|now| now.peak)
    }

    fn forget_peak(&self) {
        if let Err(error) = device::forget_peak(self.index) {
            tracing::debug!(%error, "the peak of memory is not forgotten");
        }
    }

    fn release(&self) {
        if let Err(error) = device::release() {
            tracing::warn!(%error, "cached memory is not given back");
        }
    }

    fn budget(&self) -> Option<u64> {
        Some(self.budget_bytes)
    }
}
