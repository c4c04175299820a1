//! Who is told about a fit, and who may ask it to stop.

use std::path::Path;

use common::trainer_protocol::{EpochReport, Stage};

/// A wish to end soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRequest {
    pub reason: String,
    /// Save a checkpoint before ending.
    pub checkpoint: bool,
}

/// The loop tells facts; what becomes of them (frames, logs, nothing) is the listener's matter.
pub trait Listener {
    fn stage(&mut self, stage: Stage);
    /// Called after every step; the listener throttles.
    fn epoch(&mut self, report: &mut dyn FnMut() -> EpochReport, last_of_epoch: bool);
    fn batch_adjusted(&mut self, from: u32, to: u32, accumulation: u32, reason: &str);
    /// Graphs on the device at once as a fit begins.
    fn micro_batch(&mut self, _graphs: u32) {}
    fn out_of_memory(&mut self, micro_batch: u32, recovered: bool, message: &str);
    fn checkpoint(&mut self, dir: &Path, model: &str, epoch: u32);
    /// Asked after every step.
    fn stop_requested(&self) -> Option<StopRequest>;
}

/// Hears everything and says nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Listener for Silent {
    fn stage(&mut self, _: Stage) {}
    fn epoch(&mut self, _: &mut dyn FnMut() -> EpochReport, _: bool) {}
    fn batch_adjusted(&mut self, _: u32, _: u32, _: u32, _: &str) {}
    fn out_of_memory(&mut self, _: u32, _: bool, _: &str) {}
    fn checkpoint(&mut self, _: &Path, _: &str, _: u32) {}
    fn stop_requested(&self) -> Option<StopRequest> {
        None
    }
}
