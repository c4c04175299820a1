//! How well a detector did: counts, ranking, the decision threshold and reports per folder.
//!
//! | file | what |
//! |--|--|
//! | `scored` | scores and labels that were checked once: equal length, finite, 0 or 1 |
//! | `confusion` | the four counts and what follows from them |
//! | `ranking` | area under the ROC curve, ties counted half |
//! | `threshold` | choosing the decision threshold on validation |
//! | `report` | what `metrics.json` says of one folder and of one model |
//!
//! One rule holds everywhere: a window is an attack iff `score > threshold` (strictly), compared in f64.
//! Pure functions over slices; no tensors, no files.

mod confusion;
mod ranking;
mod report;
mod scored;
mod threshold;

pub use confusion::Confusion;
pub use ranking::auc;
pub use report::{FolderReport, LabelledReport, ModelReport, UnlabelledReport, report_folder};
pub use scored::{ByTruth, MetricsError, Scored, Truth};
pub use threshold::{ChosenThreshold, ThresholdBasis, ThresholdRule, choose_threshold};
