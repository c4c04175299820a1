//! The one text of a semantic configuration, whatever it was written like.

use super::semantic::PhaseSemantic;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Dotted key to scalar, in the order of the keys.
pub type CanonicalMap = BTreeMap<String, Value>;

impl PhaseSemantic {
    /// Every setting that can change this phase's result, and no other: `teacher.gat.lr` -> `0.001`.
    /// Keys are those one would write, list elements are numbered.
    pub fn canonical(&self) -> CanonicalMap {
        let mut map = CanonicalMap::new();
        match self {
            PhaseSemantic::Teacher { data, teacher } => {
                add("data", data, &mut map);
                add("teacher", teacher, &mut map);
            }
            PhaseSemantic::Student { data, student } => {
                add("data", data, &mut map);
                add("student", student, &mut map);
            }
            PhaseSemantic::Fusion { data, fusion } => {
                add("data", data, &mut map);
                add("fusion", fusion, &mut map);
            }
        }
        map
    }
}

/// One `key = value` line per setting; equal texts mean equal configurations. Fractions are the
/// shortest decimals that read back as the same number, never with an exponent.
pub fn canonical_text(map: &CanonicalMap) -> String {
    map.iter().map(|(key, value)| format!("{key} = {}\n", scalar_text(value))).collect()
}

/// Not the JSON writer's text: that of fractions has changed between its releases, and the
/// standard library's is specified.
fn scalar_text(value: &Value) -> String {
    match value.as_f64() {
        Some(number) if value.is_f64() => format!("{number}"),
        _ => value.to_string(),
    }
}

fn add<T: Serialize>(name: &str, part: &T, map: &mut CanonicalMap) {
    // Semantic structs hold numbers, names and lists only, which JSON can always hold.
    let tree = serde_json::to_value(part).expect("semantic settings serialise to JSON");
    flatten(name, &tree, map);
}

fn flatten(key: &str, value: &Value, map: &mut CanonicalMap) {
    match value {
        Value::Object(entries) => {
            for (name, child) in entries {
                // `fit` groups fields for the trainer; who writes a configuration does not see it.
                if name == "fit" {
                    flatten(key, child, map);
                } else {
                    flatten(&format!("{key}.{name}"), child, map);
                }
            }
        }
        Value::Array(items) => {
            for (i, child) in items.iter().enumerate() {
                flatten(&format!("{key}.{i}"), child, map);
            }
        }
        // -0.0 equals 0.0 everywhere but in text.
        Value::Number(n) if n.as_f64() == Some(0.0) && n.is_f64() => {
            map.insert(key.to_owned(), 0.0.into());
        }
        scalar => {
            map.insert(key.to_owned(), scalar.clone());
        }
    }
}
