//! What an agent and its trainer child say to each other: frames on the child's stdin and stdout.
//!
//! A frame is a 4-byte little-endian length followed by that many bytes of named MessagePack. The child
//! logs to stderr only. End of file on stdin means the agent is gone: the child stops at once.
//!
//! ```text
//!   agent                         trainer
//!     Start            ------->
//!                      <-------   Ready
//!                      <-------   Stage, Epoch, Memory, BatchAdjusted, Checkpoint, OutOfMemory …
//!     Stop             ------->
//!                      <-------   Checkpoint, Yielded | Done | Failed        (then exit)
//! ```

use crate::ids::{Attempt, DatasetId, Phase, PlanId};
use crate::units::Mib;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

/// Raised when a message changes so that the older side could misread it.
pub const PROTOCOL_VERSION: u32 = 2;

/// Larger frames are refused: nothing here comes near, so a longer length is a torn or foreign stream.
pub const FRAME_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Exit codes of the trainer. Anything else (and every signal) counts as a crash of the infrastructure.
pub mod exit_code {
    /// `Done` was sent and every output file is on disk.
    pub const DONE: i32 = 0;
    /// `Failed` was sent with its kind.
    pub const FAILED: i32 = 20;
    /// Out of memory, and the allocator could not recover in this process.
    pub const OUT_OF_MEMORY: i32 = 21;
    /// Stopped on request, `Yielded` was sent.
    pub const YIELDED: i32 = 22;
    /// Stdin closed: the agent is gone.
    pub const ORPHANED: i32 = 23;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToTrainer {
    Start(Box<Start>),
    /// Stop soon. With `checkpoint`, save one first (the reply is `Checkpoint`, then `Yielded`).
    Stop {
        reason: String,
        checkpoint: bool,
    },
}

/// Everything one attempt needs; the child opens no network connection and reads no configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    pub protocol: u32,
    pub plan: PlanId,
    pub dataset: DatasetId,
    pub phase: Phase,
    pub attempt: Attempt,
    /// Folder that holds the captures of this dataset (`<root>/<dataset>`).
    pub captures_dir: PathBuf,
    /// Semantic configuration of the phase, the tree whose digest is part of the job key.
    pub semantic: serde_json::Value,
    pub tuning: TrainerTuning,
    /// Scratch of this attempt alone. Results go to `<scratch>/out`, checkpoints to `<scratch>/ckpt/<n>`.
    pub scratch_dir: PathBuf,
    /// Prepared graphs, shared by the attempts of this node, content-addressed.
    pub cache_dir: PathBuf,
    /// Output folders of the committed parents (files as that phase's `Done` named them).
    pub parents: BTreeMap<Phase, PathBuf>,
    /// Folder of the newest whole checkpoint of an earlier attempt.
    pub resume_from: Option<PathBuf>,
    /// W3C trace context of the attempt's span.
    pub traceparent: Option<String>,
}

/// What may differ between machines without changing the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainerTuning {
    pub device: Device,
    /// Threads of the mathematics.
    pub threads: u32,
    /// Threads that prepare data.
    pub workers: u32,
    pub precision: Precision,
    /// Graphs on the device at once to begin with. On a card the trainer measures how many fit into the budget;
    /// gradient accumulation keeps the effective batch.
    #[serde(alias = "micro_batch_max")]
    pub micro_batch: u32,
    /// Reserved for this attempt by the agent's ledger.
    pub memory_budget_mib: Mib,
    pub checkpoint_every_epochs: u32,
    /// Within an epoch, too, once so long has passed since the last one; 0 = at ends of epochs only.
    #[serde(default)]
    pub checkpoint_every_minutes: u32,
    /// Malformed lines of one capture that are skipped before it is refused.
    pub bad_lines_per_file_max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Device {
    Cpu,
    /// Index among the devices that CUDA shows to this process.
    Cuda(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// bf16 where the card has it, else fp16 with loss scaling, else fp32.
    Auto,
    Fp32,
    Fp16,
    Bf16,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromTrainer {
    Ready {
        protocol: u32,
        pid: u32,
        versions: BTreeMap<String, String>,
    },
    Stage(Stage),
    Epoch(EpochReport),
    /// Each few seconds.
    Memory {
        /// In tensors.
        allocated_mib: Mib,
        /// Taken from the device, blocks kept for later included.
        reserved_mib: Mib,
        /// Left on the device for whoever asks first.
        #[serde(default)]
        free_mib: Option<Mib>,
        /// Graphs on the device at once; 0 before a model is trained.
        #[serde(default)]
        micro_batch: u32,
        #[serde(default)]
        graphs_per_s: f64,
    },
    BatchAdjusted {
        from: u32,
        to: u32,
        accumulation: u32,
        reason: String,
    },
    /// Whole on disk (written, fsynced, renamed) below `<scratch>/ckpt`.
    Checkpoint {
        dir: PathBuf,
        model: String,
        epoch: u32,
    },
    /// Told before the trainer halves the micro-batch (`recovered`) or exits with `OUT_OF_MEMORY`.
    OutOfMemory {
        micro_batch: u32,
        recovered: bool,
        message: String,
    },
    Done(Done),
    Yielded,
    Failed {
        kind: FailureKind,
        message: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Agent: inputs are fetched (captures, parents' files, the checkpoint to resume from).
    Fetching,
    /// Captures to graphs.
    Preparing,
    Training,
    /// Scoring of the test folders.
    Evaluating,
    /// Agent: results go to the store.
    Uploading,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Fetching => "fetching",
            Stage::Preparing => "preparing",
            Stage::Training => "training",
            Stage::Evaluating => "evaluating",
            Stage::Uploading => "uploading",
        }
    }
}

/// News of a loop over graphs, at most four a second. While a trained model is evaluated, an epoch is one pass
/// over one folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochReport {
    /// `vgae`, `gat` or `dqn`.
    pub model: String,
    /// Counted from 1.
    pub epoch: u32,
    /// Most epochs there may be (early stopping can end sooner).
    pub epochs: u32,
    /// Part of this epoch that is done, 0 to 1.
    pub fraction: f64,
    /// None where nothing is minimised: while a model is evaluated.
    pub loss: Option<f64>,
    /// For example `val_loss`, `val_f1`.
    pub metrics: BTreeMap<String, f64>,
    pub graphs_per_s: f64,
    /// To the end of the whole phase, when it can be told.
    pub eta_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// File names below `<scratch>/out`, all whole on disk.
    pub files: Vec<String>,
    /// Figures for the manifest, flat: `gat.test_01….f1` and the like.
    pub metrics: BTreeMap<String, f64>,
    /// What was really used: micro-batch, precision, threads, epochs run, peak memory …
    pub tuning_used: BTreeMap<String, String>,
    pub peak_memory_mib: Option<Mib>,
}

/// Why a trainer gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The captures or the configuration can not be used: trying again will not help.
    UserError,
    /// The loss became NaN or infinite.
    Diverged,
    OutOfMemory,
    /// The device can not be used: not even a small piece of memory could be had and written.
    Device,
    /// Disk, driver, or a bug: another try, maybe elsewhere, can help.
    Internal,
}

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the other side closed the pipe")]
    Closed,
    #[error("frame of {0} bytes refused, the limit is {FRAME_MAX_BYTES}")]
    TooLong(usize),
    #[error("pipe: {0}")]
    Io(#[from] io::Error),
    #[error("frame is not a message of this protocol: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    #[error("message can not be written: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
}

/// Bytes of one frame, length included.
pub fn encode_frame<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = rmp_serde::to_vec_named(message)?;
    if body.len() > FRAME_MAX_BYTES {
        return Err(FrameError::TooLong(body.len()));
    }
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Reads one frame, blocking. `Closed` when the stream ends between two frames.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> Result<T, FrameError> {
    let mut head = [0u8; 4];
    from.read_exact(&mut head).map_err(closed_or_io)?;
    let len = u32::from_le_bytes(head) as usize;
    if len > FRAME_MAX_BYTES {
        return Err(FrameError::TooLong(len));
    }
    let mut body = vec![0u8; len];
    from.read_exact(&mut body)?;
    Ok(rmp_serde::from_slice(&body)?)
}

/// Writes one frame and flushes.
pub fn write_frame<T: Serialize>(to: &mut impl Write, message: &T) -> Result<(), FrameError> {
    to.write_all(&encode_frame(message)?)?;
    Ok(to.flush()?)
}

fn closed_or_io(e: io::Error) -> FrameError {
    if e.kind() == io::ErrorKind::UnexpectedEof { FrameError::Closed } else { FrameError::Io(e) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_in_order_and_the_end_is_told() {
        let mut pipe = Vec::new();
        write_frame(&mut pipe, &FromTrainer::Stage(Stage::Training)).unwrap();
        write_frame(&mut pipe, &FromTrainer::Yielded).unwrap();
        let mut from = pipe.as_slice();
        assert_eq!(read_frame::<FromTrainer>(&mut from).unwrap(), FromTrainer::Stage(Stage::Training));
        assert_eq!(read_frame::<FromTrainer>(&mut from).unwrap(), FromTrainer::Yielded);
        assert!(matches!(read_frame::<FromTrainer>(&mut from), Err(FrameError::Closed)));
    }

    #[test]
    fn a_foreign_stream_is_refused_before_it_is_allocated() {
        let mut from: &[u8] = b"Segmentation fault";
        assert!(matches!(read_frame::<FromTrainer>(&mut from), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn a_torn_frame_is_an_io_error_not_an_end() {
        let frame = encode_frame(&FromTrainer::Yielded).unwrap();
        let mut from = &frame[..frame.len() - 1];
        assert!(matches!(read_frame::<FromTrainer>(&mut from), Err(FrameError::Io(_))));
    }
}
