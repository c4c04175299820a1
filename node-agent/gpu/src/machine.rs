//! The probes of one machine together.

use crate::cpu::CpuProbe;
use crate::nvml::NvmlProbe;
use crate::scripted::ScriptedProbe;
use crate::{DeviceSample, Probe, ProbeError};
use std::path::PathBuf;
use std::str::FromStr;

/// Whether the machine's own processors take jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CpuPolicy {
    Yes,
    No,
    /// Only when the machine has no GPU.
    #[default]
    Auto,
}

impl FromStr for CpuPolicy {
    type Err = String;
    fn from_str(text: &str) -> Result<CpuPolicy, String> {
        match text {
            "yes" => Ok(CpuPolicy::Yes),
            "no" => Ok(CpuPolicy::No),
            "auto" => Ok(CpuPolicy::Auto),
            other => Err(format!("{other:?} is not yes, no or auto")),
        }
    }
}

/// GPUs (of the driver, or of a script) and the CPU by its policy.
pub struct Machine {
    gpus: Box<dyn Probe>,
    cpu: CpuProbe,
    policy: CpuPolicy,
}

impl Machine {
    /// With `script`, the GPUs come from that file.
    pub fn new(policy: CpuPolicy, script: Option<PathBuf>) -> Machine {
        let gpus: Box<dyn Probe> = match script {
            Some(path) => Box::new(ScriptedProbe::new(path)),
            None => Box::new(NvmlProbe::default()),
        };
        Machine { gpus, cpu: CpuProbe, policy }
    }
}

impl Probe for Machine {
    fn sample(&self) -> Result<Vec<DeviceSample>, ProbeError> {
        let mut samples = self.gpus.sample()?;
        let wanted = match self.policy {
            CpuPolicy::Yes => true,
            CpuPolicy::No => false,
            CpuPolicy::Auto => samples.is_empty(),
        };
        if wanted {
            samples.extend(self.cpu.sample()?);
        }
        Ok(samples)
    }
}
