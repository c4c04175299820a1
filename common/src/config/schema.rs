//! Which keys there are. Made from the defaults of the typed settings, so that a field is a key
//! and nothing has to be listed twice.

use super::datasets::DatasetSpec;
use super::pipeline::{AgentSpec, ClusterSpec, PipelineSpec};
use super::profiles::GpuProfile;
use super::settings::TrainingSettings;
use crate::spelling::did_you_mean;
use serde_json::{Value, json};

/// Stands in a section for "any name": the entry below is the default of a new one.
pub const ANY: &str = "*";

/// The tree of all keys: a section is an object, everything else is a leaf with its default.
#[derive(Debug, Clone)]
pub struct Schema(Value);

/// Why a key can not take a value.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyError {
    Unknown {
        hint: String,
    },
    /// Only keys below it can.
    IsSection {
        hint: String,
    },
}

impl Schema {
    pub fn new() -> Self {
        let mut pipeline = tree(&PipelineSpec::default());
        if let Some(phases) = pipeline["phases"].as_object_mut() {
            for phase in phases.values_mut() {
                phase["memory_mib"] = json!({ "large": { ANY: 0 }, "small": { ANY: 0 } });
            }
        }
        Schema(json!({
            "training": tree(&TrainingSettings::default()),
            "datasets": { ANY: tree(&DatasetSpec::default()) },
            "gpu_profiles": { ANY: tree(&GpuProfile::default()) },
            "pipeline": pipeline,
            "cluster": tree(&ClusterSpec::default()),
            "agent": tree(&AgentSpec::default()),
        }))
    }

    /// The default of a leaf.
    pub fn leaf(&self, key: &str) -> Result<&Value, KeyError> {
        let mut at = &self.0;
        for (depth, part) in key.split('.').enumerate() {
            let Some(section) = at.as_object() else {
                let known: Vec<_> = key.split('.').take(depth).collect();
                return Err(KeyError::Unknown { hint: format!("{} takes one value", known.join(".")) });
            };
            match section.get(part).or_else(|| section.get(ANY)) {
                Some(child) => at = child,
                None => return Err(KeyError::Unknown { hint: self.hint(part, section) }),
            }
        }
        match at.as_object() {
            Some(section) => Err(KeyError::IsSection { hint: format!("keys here: {}", names(section)) }),
            None => Ok(at),
        }
    }

    /// The default of a new entry of the section that `path` leads to, where any name is allowed.
    pub fn new_entry(&self, path: &[&str]) -> Option<&Value> {
        let mut at = &self.0;
        for part in path {
            at = at.get(part).or_else(|| at.get(ANY))?;
        }
        at.get(ANY)
    }

    fn hint(&self, part: &str, section: &serde_json::Map<String, Value>) -> String {
        if let Some(name) = did_you_mean(part, section.keys().map(String::as_str)) {
            return format!("did you mean {name}?");
        }
        let mut elsewhere = Vec::new();
        find(&self.0, part, "", &mut elsewhere);
        if !elsewhere.is_empty() {
            return format!("did you mean {}?", elsewhere.join(" or "));
        }
        format!("keys here: {}", names(section))
    }
}

fn tree<T: serde::Serialize>(of: &T) -> Value {
    // Settings are plain structs of numbers, names and lists, which JSON can always hold.
    serde_json::to_value(of).expect("settings serialise to JSON")
}

fn names(section: &serde_json::Map<String, Value>) -> String {
    section.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The first few full keys whose last part is `name`.
fn find(at: &Value, name: &str, path: &str, found: &mut Vec<String>) {
    const ENOUGH: usize = 3;
    for (key, child) in at.as_object().into_iter().flatten() {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if found.len() < ENOUGH && key == name {
            found.push(full.clone());
        }
        find(child, name, &full, found);
    }
}
