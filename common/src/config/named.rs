//! A semantic configuration by the names that people write, for saying what has changed.

use super::semantic::PhaseSemantic;
use crate::job_key::flatten;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

impl PhaseSemantic {
    /// Every setting that can change this phase's result, and no other: `teacher.gat.lr` -> `0.001`.
    /// Keys are those one would write, list elements are numbered; values as the job key has them.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let tree = match self {
            PhaseSemantic::Teacher { data, teacher } => tree(("data", data), ("teacher", teacher)),
            PhaseSemantic::Student { data, student } => tree(("data", data), ("student", student)),
            PhaseSemantic::Fusion { data, fusion } => tree(("data", data), ("fusion", fusion)),
        };
        flatten(&tree)
    }
}

fn tree<A: Serialize, B: Serialize>(first: (&str, &A), second: (&str, &B)) -> Value {
    // Semantic structs hold numbers, names and lists only, which JSON can always hold.
    let (a, b) = (serde_json::to_value(first.1), serde_json::to_value(second.1));
    let parts = [(first.0, a), (second.0, b)];
    let parts = parts.map(|(name, part)| (name, part.expect("semantic settings serialise to JSON")));
    as_written(Map::from_iter(parts.map(|(name, part)| (name.to_owned(), part))).into())
}

fn as_written(tree: Value) -> Value {
    let mut written = Map::new();
    match tree {
        Value::Object(entries) => {
            for (name, child) in entries {
                match (name.as_str(), as_written(child)) {
                    // `fit` groups fields for the trainer; who writes a configuration does not see it.
                    ("fit", Value::Object(fields)) => written.extend(fields),
                    (_, child) => drop(written.insert(name, child)),
                }
            }
        }
        Value::Array(items) => {
            written.extend(items.into_iter().enumerate().map(|(i, item)| (i.to_string(), as_written(item))));
        }
        scalar => return scalar,
    }
    Value::Object(written)
}
