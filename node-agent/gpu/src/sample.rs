//! What one look at a device shows.

use common::ids::DeviceId;
use common::messages::DeviceKind;
use common::units::Mib;
use serde::{Deserialize, Serialize};

/// A device as it is now. Everything that the driver may refuse to tell is optional: unknown is not zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSample {
    /// UUID of a card or MIG instance, or `cpu`.
    pub id: DeviceId,
    pub kind: DeviceKind,
    pub model: String,
    pub total_mib: Mib,
    #[serde(default)]
    pub used_mib: Option<Mib>,
    /// Processes that compute on it; `None` = not told.
    #[serde(default)]
    pub processes: Option<Vec<ProcessSample>>,
    #[serde(default)]
    pub utilization_percent: Option<u32>,
    /// Why nothing may be placed here.
    #[serde(default)]
    pub fault: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSample {
    pub pid: u32,
    #[serde(default)]
    pub used_mib: Option<Mib>,
}
