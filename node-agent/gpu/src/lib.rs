//! The devices of this machine, and the only door to NVML. One call gives one whole look at everything.
//!
//! | module | holds |
//! |--|--|
//! | [`sample`] | what a look shows: [`DeviceSample`] |
//! | [`nvml`] | NVIDIA cards and MIG instances through the driver's library |
//! | [`xid`] | what the driver tells of cards in trouble, as it happens |
//! | [`cpu`] | the machine's own memory as device `cpu` |
//! | [`scripted`] | devices from a file that is read again at each look, for tests |
//! | [`machine`] | the probes of a machine together |
//!
//! May touch: the driver's library, `/proc`, `/sys/fs/cgroup`. Decides nothing: what a look means for
//! placement is the ledger's business.

pub mod cpu;
pub mod machine;
pub mod nvml;
pub mod sample;
pub mod scripted;
pub mod xid;

pub use machine::{CpuPolicy, Machine};
pub use sample::{DeviceSample, ProcessSample};

/// A look at devices. Blocking: a driver in trouble can take seconds, so call it off the async threads.
pub trait Probe: Send + Sync {
    /// All devices as they are now. A device in trouble is listed with its fault; an error means that
    /// nothing could be looked at.
    fn sample(&self) -> Result<Vec<DeviceSample>, ProbeError>;
}

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("NVML: {0}; see `nvidia-smi` and `dmesg | grep -i xid`")]
    Nvml(String),
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{path}: {problem}")]
    Format { path: String, problem: String },
    /// A script says that the look fails.
    #[error("{0}")]
    Scripted(String),
}
