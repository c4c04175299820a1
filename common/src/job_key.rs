//! The job key: what makes two executions "the same result".
//!
//! In it: schema, phase, version of that phase's mathematics, semantic configuration, dataset digest,
//! parents' results, force generation. Never in it: attempt, host, GPU, the batch really used, worker
//! count, precision fallback, times: those are tuning and go into the manifest.

use crate::digest::Digest;
use crate::ids::Phase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Raised when the rules of this file change: every key changes with it.
pub const KEY_SCHEMA: u32 = 1;

/// Version of each phase's mathematics. Raise it when the same inputs would give another result.
pub fn code_version(phase: Phase) -> u32 {
    match phase {
        Phase::Teacher => 5,
        Phase::Student => 5,
        Phase::Fusion => 5,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobKey(pub Digest);

impl fmt::Display for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl JobKey {
    /// Folder of all results of this key in the store.
    pub fn run_prefix(&self) -> String {
        format!("runs/{self}")
    }
}

/// Result of a parent phase, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParentResult {
    /// The parent runs in the same plan; its manifest is not known yet.
    Pending,
    /// Digest of the parent's committed manifest.
    Committed(Digest),
}

/// Everything a result depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobInputs {
    pub phase: Phase,
    pub code_version: u32,
    /// Semantic configuration: a JSON tree that holds only what can change this phase's result.
    pub semantic: serde_json::Value,
    pub dataset_digest: Digest,
    pub parents: BTreeMap<Phase, ParentResult>,
    /// Raised by `--force`, so that a forced job is another job.
    pub force_generation: u32,
}

impl JobInputs {
    /// The key, or `None` while a parent's result is not known.
    pub fn key(&self) -> Option<JobKey> {
        let mut text = format!(
            "schema={KEY_SCHEMA}\nphase={}\ncode={}\ndataset={}\nforce={}\n",
            self.phase, self.code_version, self.dataset_digest, self.force_generation
        );
        for (phase, parent) in &self.parents {
            match parent {
                ParentResult::Pending => return None,
                ParentResult::Committed(manifest) => text += &format!("parent.{phase}={manifest}\n"),
            }
        }
        for (key, value) in flatten(&self.semantic) {
            text += &format!("config.{key}={value}\n");
        }
        Some(JobKey(Digest::of(text.as_bytes())))
    }

    pub fn with_parent(mut self, phase: Phase, manifest: Digest) -> JobInputs {
        self.parents.insert(phase, ParentResult::Committed(manifest));
        self
    }
}

/// A configuration tree as sorted `a.b.c -> canonical text` lines; this is what is digested and what
/// `coord plan` compares, so the reason it prints is the reason there is.
pub fn flatten(tree: &serde_json::Value) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    flatten_into("", tree, &mut flat);
    flat
}

/// The architecture of a phase's networks, as in its semantic configuration: what makes two jobs of the same size.
pub fn shape_of(semantic: &serde_json::Value) -> Digest {
    let lines = flatten(semantic).into_iter().filter(|(key, _)| key.contains("arch."));
    Digest::of(lines.map(|(key, value)| format!("{key}={value}\n")).collect::<String>().as_bytes())
}

fn flatten_into(path: &str, node: &serde_json::Value, flat: &mut BTreeMap<String, String>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match node {
        serde_json::Value::Object(map) => {
            map.iter().for_each(|(name, child)| flatten_into(&below(name), child, flat));
        }
        leaf => {
            flat.insert(path.to_owned(), canonical(leaf));
        }
    }
}

/// One text per value: 1, 1.0 and 1e0 are the same number, whoever wrote them.
fn canonical(leaf: &serde_json::Value) -> String {
    match leaf {
        serde_json::Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (Some(i), _) => i.to_string(),
            (None, Some(f)) if f.fract() == 0.0 && f.abs() < 9e15 => format!("{}", f as i64),
            (None, Some(f)) => format!("{f}"),
            (None, None) => n.to_string(),
        },
        serde_json::Value::Array(items) => {
            let items: Vec<String> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn inputs() -> JobInputs {
        JobInputs {
            phase: Phase::Student,
            code_version: 1,
            semantic: json!({"gat": {"lr": 0.001, "layers": 2}}),
            dataset_digest: Digest::of(b"captures"),
            parents: BTreeMap::from([(Phase::Teacher, ParentResult::Committed(Digest::of(b"teacher")))]),
            force_generation: 0,
        }
    }

    #[test]
    fn every_input_changes_the_key() {
        let base = inputs().key().unwrap();
        let changes: [fn(&mut JobInputs); 6] = [
            |i| i.phase = Phase::Fusion,
            |i| i.code_version = 2,
            |i| i.semantic = json!({"gat": {"lr": 0.002, "layers": 2}}),
            |i| i.dataset_digest = Digest::of(b"other"),
            |i| i.force_generation = 1,
            |i| {
                i.parents.insert(Phase::Teacher, ParentResult::Committed(Digest::of(b"forced")));
            },
        ];
        for change in changes {
            let mut changed = inputs();
            change(&mut changed);
            assert_ne!(changed.key().unwrap(), base, "{changed:?}");
        }
    }

    #[test]
    fn the_key_does_not_depend_on_how_a_number_or_an_order_was_written() {
        let mut other = inputs();
        other.semantic = json!({"gat": {"layers": 2.0, "lr": 1e-3}});
        assert_eq!(other.key(), inputs().key());
    }

    #[test]
    fn no_key_before_the_parents_result_is_known() {
        let mut pending = inputs();
        pending.parents.insert(Phase::Teacher, ParentResult::Pending);
        assert_eq!(pending.key(), None);
        assert_eq!(pending.with_parent(Phase::Teacher, Digest::of(b"teacher")).key(), inputs().key());
    }

    #[test]
    fn the_key_is_stable_between_releases() {
        let golden = "01e4cf66"; // of KEY_SCHEMA 1; a change here re-trains everything everywhere
        assert_eq!(&inputs().key().unwrap().to_string()[..8], golden);
    }
}
