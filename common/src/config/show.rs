//! The resolved configuration as YAML that says where each value came from (`generated_configs/`).

use super::Config;
use super::semantic::PhaseSemantic;
use super::tuning::Tuning;
use crate::ids::{DatasetId, Phase};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What one job runs with. Its YAML reads back as the same value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobConfig {
    pub dataset: DatasetId,
    pub phase: Phase,
    /// Decides the result, part of the job key.
    pub semantic: PhaseSemantic,
    /// Decides where and how fast, not part of it.
    pub tuning: Tuning,
}

impl JobConfig {
    /// Reads what [`JobConfig::to_yaml_with_origins`] wrote.
    pub fn from_yaml(text: &str) -> Result<Self, Box<serde_saphyr::Error>> {
        serde_saphyr::from_str(text).map_err(Box::new)
    }

    /// One line per value; the comment behind it names its origin and, where a general setting
    /// decided, that setting's key.
    pub fn to_yaml_with_origins(&self, config: &Config) -> String {
        let mut out = String::from(
            "# What this job runs with. Behind each value: where it came from.\n\
             # `semantic` is part of the job key; `tuning` is not.\n",
        );
        // A job configuration holds numbers, names and lists only, which JSON can always hold.
        let tree = serde_json::to_value(self).expect("a job configuration serialises to JSON");
        write_section(&tree, 0, "", &mut out, &|path| self.comment(path, config));
        out
    }

    fn comment(&self, path: &str, config: &Config) -> Option<String> {
        let phase = self.phase.as_str();
        let key = match path.split_once('.')? {
            // `semantic.teacher` only names the variant; `fit` only groups.
            ("semantic", rest) => rest.strip_prefix(phase)?.strip_prefix('.')?.replace(".fit.", "."),
            (tuning, rest) => format!("{phase}.{tuning}.{rest}"),
        };
        let (decided_by, origin) = config.origin(&self.dataset, &key);
        // "default, by lr" behind most lines would only be noise.
        let inherited = decided_by != format!("training.{key}") && origin.is_written();
        let decided_by = decided_by.strip_prefix("training.").unwrap_or(&decided_by);
        Some(if inherited { format!("{origin}, by {decided_by}") } else { origin.to_string() })
    }
}

fn write_section(
    tree: &Value,
    depth: usize,
    path: &str,
    out: &mut String,
    comment: &dyn Fn(&str) -> Option<String>,
) {
    let mut entries: Vec<_> = tree.as_object().into_iter().flatten().collect();
    // The order of a JSON map depends on features other crates switch on; a file must not.
    entries.sort_unstable_by_key(|(name, value)| (value.is_object(), name.as_str()));
    for (name, value) in entries {
        let indent = "  ".repeat(depth);
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if value.is_object() {
            out.push_str(&format!("{indent}{name}:\n"));
            write_section(value, depth + 1, &path, out, comment);
        } else {
            // JSON is YAML, quotes and all.
            let note = comment(&path).map_or(String::new(), |text| format!("  # {text}"));
            out.push_str(&format!("{indent}{name}: {value}{note}\n"));
        }
    }
}
