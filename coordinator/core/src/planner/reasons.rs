//! Why a result is not the one that these inputs would give.

use common::config::PhaseSemantic;
use common::job_key::{JobInputs, ParentResult, flatten};
use common::plan::RunReason;
use common::registry::RegistryEntry;
use std::collections::{BTreeMap, BTreeSet};

/// Every difference between what is in use and what is asked for; empty = up to date.
pub(super) fn reasons(known: Option<&RegistryEntry>, wanted: &JobInputs) -> Vec<RunReason> {
    let Some(known) = known else { return vec![RunReason::NeverTrained] };
    let had = &known.inputs;
    let mut reasons = Vec::new();
    if had.code_version != wanted.code_version {
        reasons.push(RunReason::CodeChanged { old: had.code_version, new: wanted.code_version });
    }
    if had.dataset_digest != wanted.dataset_digest {
        reasons.push(RunReason::DataChanged { old: had.dataset_digest, new: wanted.dataset_digest });
    }
    let (old, new) = settings(&had.semantic, &wanted.semantic);
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys.into_iter().filter(|k| old.get(*k) != new.get(*k)) {
        reasons.push(RunReason::ConfigChanged {
            key: key.clone(),
            old: old.get(key).cloned(),
            new: new.get(key).cloned(),
        });
    }
    for (parent, result) in &wanted.parents {
        let same = *result != ParentResult::Pending && had.parents.get(parent) == Some(result);
        if !same {
            reasons.push(RunReason::ParentChanged { parent: *parent });
        }
    }
    reasons
}

type Settings = BTreeMap<String, String>;

/// Both configurations under the names that people write in files and flags (`student.gat.lr`). Where one is
/// of a form this build does not know, both are told by their place in the stored tree.
fn settings(old: &serde_json::Value, new: &serde_json::Value) -> (Settings, Settings) {
    let named = |tree: &serde_json::Value| {
        let semantic: PhaseSemantic = serde_json::from_value(tree.clone()).ok()?;
        Some(semantic.settings())
    };
    match (named(old), named(new)) {
        (Some(old), Some(new)) => (old, new),
        _ => (flatten(old), flatten(new)),
    }
}
