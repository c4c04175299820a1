//! Devices from a JSON file, read again at each look: a test changes cards while an agent runs.
//!
//! ```json
//! {"devices": [{"id": "GPU-a", "kind": "gpu", "model": "NVIDIA RTX 4090", "total_mib": 24564,
//!               "used_mib": 600, "processes": [{"pid": 42, "used_mib": 600}], "fault": null}]}
//! ```
//! `{"error": "…"}` makes the look fail.

use crate::{DeviceSample, Probe, ProbeError};
use serde::Deserialize;
use std::path::PathBuf;

/// Names the file of the scripted probe.
pub const SCRIPT_VARIABLE: &str = "COORD_SCRIPTED_GPUS";

#[derive(Debug)]
pub struct ScriptedProbe {
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    devices: Vec<DeviceSample>,
    #[serde(default)]
    error: Option<String>,
}

impl ScriptedProbe {
    pub fn new(path: impl Into<PathBuf>) -> ScriptedProbe {
        ScriptedProbe { path: path.into() }
    }
}

impl Probe for ScriptedProbe {
    fn sample(&self) -> Result<Vec<DeviceSample>, ProbeError> {
        let path = self.path.display().to_string();
        let text = std::fs::read_to_string(&self.path)
            .map_err(|source| ProbeError::Read { path: path.clone(), source })?;
        let script: Script =
            serde_json::from_str(&text).map_err(|e| ProbeError::Format { path, problem: e.to_string() })?;
        match script.error {
            Some(error) => Err(ProbeError::Scripted(error)),
            None => Ok(script.devices),
        }
    }
}
