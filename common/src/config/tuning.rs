//! Where and how fast a phase runs. Nothing here may change a result, so nothing here is hashed:
//! what was really used goes into the manifest.

use super::profiles::GpuProfile;
use crate::trainer_protocol::{Device, Precision, TrainerTuning};
use crate::units::Mib;
use serde::{Deserialize, Deserializer, Serialize};

/// Kind of device a phase may be placed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// A GPU where the fleet has one, else the CPU.
    Auto,
    Cuda,
    Cpu,
}

/// Tuning of one phase; `None` = as the profile of the device says. Travels in plans and offers, so fields
/// of a later version are ignored (misspelt keys of files are refused by the schema of the files).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tuning {
    pub device: DeviceChoice,
    pub mixed_precision: Precision,
    /// Graphs on the device at once to begin with; the effective batch is semantic and stays as it is.
    pub micro_batch: Option<u32>,
    /// Threads that prepare data.
    pub workers: Option<u32>,
    /// Threads of the mathematics.
    pub threads: Option<u32>,
    pub checkpoint_every_epochs: u32,
    /// Within an epoch, too; 0 = never. Plans of an older version do not have it.
    #[serde(default)]
    pub checkpoint_every_minutes: u32,
    /// Malformed lines of one capture that are counted and skipped before it is refused.
    pub bad_lines_per_file_max: u32,
}

impl Tuning {
    /// The tuning of one attempt on one device of a machine with `cores` processor cores.
    pub fn on_device(&self, device: Device, profile: &GpuProfile, cores: u32, budget: Mib) -> TrainerTuning {
        let cores = cores.max(1);
        // Beside a GPU few threads of mathematics are busy; the others are of more use preparing data.
        let default_threads = match device {
            Device::Cpu => cores,
            Device::Cuda(_) => cores.min(4),
        };
        let precision = match (device, self.mixed_precision) {
            // Half precision on a CPU was measured ten times slower than fp32.
            (Device::Cpu, _) => Precision::Fp32,
            (Device::Cuda(_), Precision::Auto) => profile.mixed_precision,
            (Device::Cuda(_), asked) => asked,
        };
        TrainerTuning {
            device,
            threads: self.threads.unwrap_or(default_threads).min(cores),
            workers: self.workers.unwrap_or(profile.workers).min(cores),
            precision,
            micro_batch: self.micro_batch.unwrap_or(profile.micro_batch),
            memory_budget_mib: budget,
            checkpoint_every_epochs: self.checkpoint_every_epochs,
            checkpoint_every_minutes: self.checkpoint_every_minutes,
            bad_lines_per_file_max: self.bad_lines_per_file_max,
        }
    }
}

/// `mixed_precision: true` (the ancestor's spelling) means the best the device has, `false` fp32.
#[derive(Deserialize)]
#[serde(untagged)]
enum PrecisionWritten {
    Switch(bool),
    Named(String),
}

impl PrecisionWritten {
    fn into_precision<E: serde::de::Error>(self) -> Result<Precision, E> {
        const NAMES: &[&str] = &["auto", "bf16", "fp16", "fp32"];
        match self {
            PrecisionWritten::Switch(true) => Ok(Precision::Auto),
            PrecisionWritten::Switch(false) => Ok(Precision::Fp32),
            PrecisionWritten::Named(name) => match name.as_str() {
                "auto" => Ok(Precision::Auto),
                "bf16" => Ok(Precision::Bf16),
                "fp16" => Ok(Precision::Fp16),
                "fp32" => Ok(Precision::Fp32),
                other => Err(E::unknown_variant(other, NAMES)),
            },
        }
    }
}

pub(super) fn precision_or_bool<'de, D: Deserializer<'de>>(from: D) -> Result<Precision, D::Error> {
    PrecisionWritten::deserialize(from)?.into_precision()
}

pub(super) fn optional_precision_or_bool<'de, D>(from: D) -> Result<Option<Precision>, D::Error>
where
    D: Deserializer<'de>,
{
    Option::<PrecisionWritten>::deserialize(from)?.map(PrecisionWritten::into_precision).transpose()
}
