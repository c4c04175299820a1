//! What is known beforehand about a dataset (`conf/datasets.yaml`).

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// One dataset. A folder that is not listed gets the default: it is found, read and trained alike.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    /// Larger first; equal ones share the fleet.
    pub priority: i32,
    pub vehicles: Vec<String>,
    /// Folders whose captures are trained on. Empty = every folder with `train` in its name.
    pub train_folders: Vec<String>,
    /// Folders each scored on their own. Empty = every folder that begins with `test_`.
    pub test_folders: Vec<String>,
    pub attack_types: Vec<String>,
    /// Semantic training settings that hold for this dataset alone, by key (`lr`, `teacher.gat.epochs`).
    pub overrides: BTreeMap<String, Value>,
}
