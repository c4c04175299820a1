//! CAN captures -> windows -> graphs. Plain arrays; no training library, no async runtime, no network.
//!
//! | where | what |
//! |--|--|
//! | [`layout`] | finds the captures of a dataset folder |
//! | [`digest`] | digests of capture files and of a dataset |
//! | [`read`] | captures of any known form as columns ([`Frames`]), with a budget for bad lines |
//! | [`window`], `graph` | windows of messages and their graphs |
//! | [`profile`] | what is normal for the vehicle of a capture |
//! | [`vocabulary`] | the ids a model knows |
//! | [`graph_set`], [`batch`] | many graphs in flat arrays, in a file, joined to batches |
//! | [`split`](mod@split) | validation split that leaks no copy |
//! | [`prepare`](mod@prepare) | all of it for one dataset, in parallel, cached by content |
//! | [`silence`] | how long periodic ids stay away: suppressed messages |
//! | `stream` | the windows of one capture as they come, for scoring |
//! | [`table`] | tables as parquet files |
//! | [`sample`] | made-up captures for a first run |
//! | [`examine`] | figures of captures, and all problems of a dataset together |
//!
//! The room reads captures, and writes only where its caller says: a cache folder, a file of digests.
//! The same captures and settings give the same bytes, whatever the number of threads.

mod atomic;
pub mod attack;
pub mod batch;
pub mod digest;
mod error;
pub mod examine;
mod frames;
mod graph;
pub mod graph_set;
pub mod layout;
pub mod prepare;
pub mod profile;
pub mod read;
pub mod sample;
pub mod silence;
pub mod split;
mod stream;
pub mod table;
pub mod vocabulary;
pub mod window;

pub use attack::AttackKind;
pub use batch::{BatchArrays, EdgeOrder};
pub use digest::{ContentDigest, DatasetDigest, dataset_digest};
pub use error::{DataError, Result};
pub use examine::{CaptureScan, CheckReport, Finding, Severity, check, scan};
pub use frames::{Frame, Frames};
pub use graph_set::{CaptureInfo, EDGE_FEATURES, GraphSet, GraphView, NODE_FEATURES};
pub use layout::{CaptureFile, Layout};
pub use prepare::{Copies, PrepareConfig, PrepareReport, PrepareTuning, Prepared, Progress, prepare};
pub use profile::ProfileConfig;
pub use read::{CaptureFormat, ReadOptions, ReadReport, read_candump, read_capture};
pub use sample::{SampleConfig, SampleReport};
pub use silence::{Silence, SilenceConfig, Vehicle, learn_vehicle, score_silence};
pub use split::{SplitConfig, SplitKind};
pub use stream::{WindowStream, Windows};
pub use vocabulary::{Vocabulary, VocabularyScope};
pub use window::{ChunkRule, EdgeFeatures, NodeEncoding, WindowConfig};
