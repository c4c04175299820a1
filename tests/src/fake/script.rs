//! What the fake trainer shall do. From `semantic["fake"]` of the start message, over the variable
//! `FAKE_TRAINER`, over the defaults; all JSON:
//!
//! ```json
//! {"epochs": 5, "epoch_ms": 40, "faults": {"1": {"oom_at_epoch": 3}, "2": {"hang_at_epoch": 1}}}
//! ```

use common::ids::{Attempt, Phase};
use common::trainer_protocol::Start;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Name of the variable that holds a script.
pub const SCRIPT_VARIABLE: &str = "FAKE_TRAINER";

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    pub preparing_ms: u64,
    pub epochs: u32,
    pub epoch_ms: u64,
    pub evaluating_ms: u64,
    /// One after each epoch but the last.
    pub checkpoint: bool,
    /// Names below `out`; empty = the file that the real phase is known for, and its reports.
    pub outputs: Vec<String>,
    pub output_bytes: usize,
    /// Folder that gets one file for each start, `<dataset>.<phase>.<attempt>`, with the time of it in
    /// nanoseconds since the epoch.
    pub note_starts_in: Option<PathBuf>,
    /// By number of the attempt.
    pub faults: BTreeMap<u32, Fault>,
    /// Of every attempt that `faults` does not name.
    pub fault: Fault,
}

/// What goes wrong. Epochs are counted from 1.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    pub slow_start_ms: u64,
    /// Text on stdout before the first frame.
    pub garbage_frame: bool,
    pub user_error: bool,
    /// Not even a small allocation on the device works.
    pub device_broken: bool,
    /// With a micro-batch of 64.
    pub oom_at_epoch: Option<u32>,
    /// ... after which the trainer goes on with half of it.
    pub oom_recovers: bool,
    pub nan_at_epoch: Option<u32>,
    pub hang_at_epoch: Option<u32>,
    /// Raised by the process against itself at `crash_at_epoch` (0 = the first).
    pub crash_signal: Option<i32>,
    pub crash_at_epoch: u32,
    pub exit_at_epoch: Option<u32>,
    pub exit_code: i32,
    /// Ends with 0 and says nothing.
    pub exit0_without_output: bool,
    /// Says `Done`, ends with 0, and wrote nothing.
    pub done_without_output: bool,
    pub ignore_stop: bool,
}

impl Default for Script {
    fn default() -> Self {
        Script {
            preparing_ms: 10,
            epochs: 3,
            epoch_ms: 20,
            evaluating_ms: 10,
            checkpoint: true,
            outputs: Vec::new(),
            output_bytes: 256,
            note_starts_in: None,
            faults: BTreeMap::new(),
            fault: Fault::default(),
        }
    }
}

impl Script {
    /// The script for this start; an error says what is wrong with it.
    pub fn of(start: &Start) -> Result<Script, String> {
        if let Some(script) = start.semantic.get("fake") {
            return serde_json::from_value(script.clone()).map_err(|e| format!("semantic.fake: {e}"));
        }
        match std::env::var(SCRIPT_VARIABLE) {
            Ok(text) => serde_json::from_str(&text).map_err(|e| format!("{SCRIPT_VARIABLE}: {e}")),
            Err(_) => Ok(Script::default()),
        }
    }

    /// `at` is the time since the epoch.
    pub fn note_start(&self, start: &Start, at: Duration) -> std::io::Result<()> {
        let Some(folder) = &self.note_starts_in else { return Ok(()) };
        let name = format!("{}.{}.{}", start.dataset, start.phase, start.attempt.0);
        // Whole at once for whoever waits for it.
        let unfinished = folder.join(format!(".{name}"));
        std::fs::write(&unfinished, at.as_nanos().to_string())?;
        std::fs::rename(unfinished, folder.join(name))
    }

    pub fn fault_of(&self, attempt: Attempt) -> Fault {
        self.faults.get(&attempt.0).unwrap_or(&self.fault).clone()
    }

    pub fn outputs_of(&self, start: &Start) -> Vec<String> {
        if !self.outputs.is_empty() {
            return self.outputs.clone();
        }
        let dataset = &start.dataset;
        let model = match start.phase {
            Phase::Teacher => format!("best_teacher_model_{dataset}.pth"),
            Phase::Student => format!("final_student_model_{dataset}.pth"),
            Phase::Fusion => format!("fusion_agent_{dataset}.pth"),
        };
        vec![model, "metrics.json".to_owned()]
    }
}
