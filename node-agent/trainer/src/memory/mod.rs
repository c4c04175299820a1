//! Memory of the device a model trains on: what is taken, what may be taken, and how many graphs fit.
//!
//! | Where | What |
//! |--|--|
//! | [`DeviceMemory`] | the questions the loop asks; [`Memory::of`] answers them for a device |
//! | `host` | resident memory as the kernel counts it; nothing is reserved there, so nothing is refused |
//! | `cuda` | the caching allocator of libtorch, held to the agent's reservation |
//! | [`search`] | graphs at once: measured, grown, halved |
//!
//! The effective batch is semantic and stays; only how many of its graphs are on the device at once changes.

mod cuda;
mod host;
pub mod search;

use std::fmt;
use std::rc::Rc;

use common::units::Mib;
use tch::Device;

pub use search::{Search, Tried};

/// Bytes, as they stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pressure {
    /// In tensors.
    pub allocated: u64,
    /// Taken from the device, cached blocks included.
    pub reserved: u64,
    /// That nobody has taken on the device.
    pub free: u64,
}

/// Memory of one device as this process sees it.
pub trait DeviceMemory {
    /// None if it cannot be told.
    fn pressure(&self) -> Option<Pressure>;
    /// Bytes in tensors at the worst moment since [`Self::forget_peak`].
    fn peak(&self) -> Option<u64>;
    fn forget_peak(&self);
    /// Gives blocks back that hold no tensor.
    fn release(&self);
    /// Bytes reserved for this process; none where nobody keeps books.
    fn budget(&self) -> Option<u64>;
}

/// Of the budget, what a probed batch may fill: the rest is for fragments and for kernels' scratch.
pub const TARGET_SHARE: f64 = 0.87;
/// Less than this free on the device means that somebody else needs memory.
const FREE_MIN_BYTES: u64 = 256 << 20;

/// A handle that can be copied around with the options of a fit.
#[derive(Clone)]
pub struct Memory(Rc<dyn DeviceMemory>);

impl Memory {
    /// Of a device, with what the agent has reserved there.
    #[must_use]
    pub fn of(device: Device, budget: Mib) -> Self {
        match device {
            Device::Cuda(index) => Self::new(cuda::Cuda { index, budget_bytes: budget.0 << 20 }),
            _ => Self::unwatched(),
        }
    }

    /// Of a device where nobody keeps books: a fit takes the batch it is given.
    #[must_use]
    pub fn unwatched() -> Self {
        Self::new(host::Host)
    }

    #[must_use]
    pub fn new(memory: impl DeviceMemory + 'static) -> Self {
        Self(Rc::new(memory))
    }

    /// Why fewer graphs at once would be wise, if they would.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        let (budget, now) = (self.0.budget()?, self.0.pressure()?);
        if now.reserved > budget {
            Some("more memory is taken than was reserved")
        } else if now.free < FREE_MIN_BYTES {
            Some("the device is nearly full")
        } else {
            None
        }
    }
}

impl std::ops::Deref for Memory {
    type Target = dyn DeviceMemory;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("budget", &self.budget()).field("pressure", &self.pressure()).finish()
    }
}
