//! Why a fit ended without a model.

use std::any::Any;

use thiserror::Error;

use crate::checkpoint::CheckpointError;
use crate::metrics::MetricsError;
use crate::optim::OptimError;

#[derive(Debug, Error)]
pub enum FitError {
    #[error(
        "the loss of {model} became {loss} in epoch {epoch}, step {step}; the last checkpoint is intact; \
         try a lower learning rate"
    )]
    Diverged { model: &'static str, epoch: u32, step: u64, loss: f64 },
    #[error("out of memory with a micro-batch of {micro_batch} graphs: {message}")]
    OutOfMemory { micro_batch: u32, message: String },
    #[error("stopped on request: {reason}")]
    Stopped { reason: String },
    #[error("{model} has no graph to train on: {why}")]
    NothingToLearn { model: &'static str, why: &'static str },
    #[error("libtorch: {0}")]
    Torch(String),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

impl From<tch::TchError> for FitError {
    fn from(error: tch::TchError) -> Self {
        Self::from_torch_text(&error.to_string(), 0)
    }
}

impl From<OptimError> for FitError {
    fn from(error: OptimError) -> Self {
        Self::from_torch_text(&error.to_string(), 0)
    }
}

impl FitError {
    /// libtorch tells everything as text; the first line carries the reason, the rest a C++ stack. A panic of
    /// tch carries the same text in debug form, with its line ends escaped.
    #[must_use]
    pub fn from_torch_text(text: &str, micro_batch: u32) -> Self {
        let reason = text.split_once("Torch(\"").map_or(text, |(_, reason)| reason);
        let end = reason.find("\\n").unwrap_or(reason.len());
        let message = reason[..end].lines().next().unwrap_or("no message").to_owned();
        if is_out_of_memory(text) { Self::OutOfMemory { micro_batch, message } } else { Self::Torch(message) }
    }
}

/// The words of the CUDA and of the CPU allocator.
#[must_use]
pub fn is_out_of_memory(text: &str) -> bool {
    ["out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED"]
        .iter()
        .any(|words| text.contains(words))
}

/// The message of a panic, as far as it is text.
#[must_use]
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_allocators_are_understood() {
        let cuda = "CUDA out of memory. Tried to allocate 20.00 MiB\nException raised from malloc";
        let cpu = "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you \
                   tried to allocate 12345 bytes.";
        for text in [cuda, cpu] {
            assert!(matches!(
                FitError::from_torch_text(text, 7),
                FitError::OutOfMemory { micro_batch: 7, .. }
            ));
        }
        let FitError::Torch(message) = FitError::from_torch_text("size mismatch\nstack", 7) else { panic!() };
        assert_eq!(message, "size mismatch");
        let panic =
            format!("called `Result::unwrap()` on an `Err` value: {:?}", tch::TchError::Torch("a\nb".into()));
        let FitError::Torch(message) = FitError::from_torch_text(&panic, 7) else { panic!() };
        assert_eq!(message, "a");
    }
}
