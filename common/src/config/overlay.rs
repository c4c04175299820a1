//! Written leaves laid over the defaults, each checked against the type of its field.

use super::datasets::DatasetSpec;
use super::origin::Origin;
use super::pipeline::{AgentSpec, ClusterSpec, PipelineSpec};
use super::problem::Problem;
use super::profiles::GpuProfiles;
use super::schema::Schema;
use super::settings::TrainingSettings;
use super::written::Written;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The values so far and who gave them.
#[derive(Debug, Clone)]
pub struct Overlay<'a> {
    schema: &'a Schema,
    tree: Value,
    pub origins: BTreeMap<String, Origin>,
}

impl<'a> Overlay<'a> {
    pub fn of_defaults(schema: &'a Schema) -> Self {
        let tree = json!({
            "training": TrainingSettings::default(),
            "datasets": {},
            "gpu_profiles": {},
            "pipeline": PipelineSpec::default(),
            "cluster": ClusterSpec::default(),
            "agent": AgentSpec::default(),
        });
        Overlay { schema, tree, origins: BTreeMap::new() }
    }

    /// Sets one leaf, whose key the schema knows; a value of the wrong type leaves all as it was.
    pub fn set(&mut self, leaf: &Written) -> Result<(), Problem> {
        let parts: Vec<&str> = leaf.key.split('.').collect();
        let section = parts[0];
        let now = parts.iter().try_fold(&self.tree, |at, part| at.get(part));
        if now == Some(&leaf.value) {
            // Most of the built-in files: nothing to check.
            self.origins.insert(leaf.key.clone(), leaf.origin.clone());
            return Ok(());
        }
        let mut changed = self.tree[section].clone();
        put(self.schema, &mut changed, &parts, leaf.value.clone());
        // Every leaf is tried alone on values that are right, so the error can only be its own.
        let tried = match section {
            "training" => fits::<TrainingSettings>(&changed),
            "datasets" => fits::<BTreeMap<String, DatasetSpec>>(&changed),
            "gpu_profiles" => fits::<GpuProfiles>(&changed),
            "pipeline" => fits::<PipelineSpec>(&changed),
            "agent" => fits::<AgentSpec>(&changed),
            _ => fits::<ClusterSpec>(&changed),
        };
        tried.map_err(|message| Problem::new(&leaf.origin, leaf.key.as_str(), message))?;
        self.tree[section] = changed;
        self.origins.insert(leaf.key.clone(), leaf.origin.clone());
        Ok(())
    }

    /// The typed value of a section.
    pub fn section<T: DeserializeOwned>(&self, section: &str) -> T {
        // `set` let nothing pass that does not deserialise.
        serde_json::from_value(self.tree[section].clone()).expect("a checked section has its type")
    }
}

/// Sets the value at `parts[1..]` below the section, making entries of sections that take any name.
fn put(schema: &Schema, section: &mut Value, parts: &[&str], value: Value) {
    let mut at = section;
    for depth in 1..parts.len() {
        if at.get(parts[depth]).is_none() {
            let entry = schema.new_entry(&parts[..depth]).cloned().unwrap_or(Value::Null);
            at[parts[depth]] = entry;
        }
        at = &mut at[parts[depth]];
    }
    *at = value;
}

fn fits<T: DeserializeOwned>(tree: &Value) -> Result<(), String> {
    match T::deserialize(tree) {
        Ok(_) => Ok(()),
        Err(e) => Err(in_plain_words(&e.to_string())),
    }
}

/// Names of Rust types mean nothing to who writes YAML.
fn in_plain_words(message: &str) -> String {
    const WORDS: [(&str, &str); 8] = [
        ("expected f64", "expected a number"),
        ("expected u32", "expected a whole number, 0 or more"),
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected i32", "expected a whole number"),
        ("expected a sequence", "expected a list"),
        ("unit value", "nothing"),
        ("type: null", "type: nothing"),
        (
            "data did not match any variant of untagged enum PrecisionWritten",
            "expected true, false, auto, bf16, fp16 or fp32",
        ),
    ];
    WORDS.iter().fold(message.to_owned(), |text, (rust, plain)| text.replace(rust, plain))
}
