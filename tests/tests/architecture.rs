//! The architecture as a test: who may see whom, which crate is the only door to what, and how large a file
//! may grow. When this fails, either the change or `ARCHITECTURE.md` is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Rooms and the rooms each may use. Imports point inwards: shell -> core -> vocabulary.
const ROOMS: &[(&str, &[&str])] = &[
    ("common", &[]),
    ("bus", &["common"]),
    ("artifacts", &["common"]),
    ("telemetry", &["common"]),
    ("coordinator-core", &["common"]),
    ("coordinator", &["common", "bus", "artifacts", "telemetry", "coordinator-core", "dataset"]),
    ("agent-core", &["common"]),
    ("gpu", &["common"]),
    ("dataset", &["common"]),
    ("trainer", &["common", "dataset", "telemetry"]),
    ("node-agent", &["common", "bus", "artifacts", "telemetry", "agent-core", "gpu", "dataset"]),
];

/// Crates that only one room may name.
const DOORS: &[(&str, &str)] = &[
    ("async-nats", "bus"),
    ("object_store", "artifacts"),
    ("nvml-wrapper", "gpu"),
    ("tch", "trainer"),
    ("torch-sys", "trainer"),
    ("opentelemetry-otlp", "telemetry"),
    ("tracing-opentelemetry", "telemetry"),
    ("parquet", "dataset"),
];

/// The pure cores and the vocabulary: no async, no clock, no randomness, no I/O crate.
const PURE: &[&str] = &["common", "coordinator-core", "agent-core"];
const IMPURE_CRATES: &[&str] = &["tokio", "rand", "uuid", "futures", "tempfile", "bytes", "nix", "libc"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

/// Normal (not dev, not build) dependencies of each workspace member.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let normal = package["dependencies"].as_array().expect("dependencies").iter();
        let normal = normal.filter(|d| d["kind"].is_null());
        let names = normal.map(|d| d["name"].as_str().expect("name").to_owned()).collect();
        found.insert(package["name"].as_str().expect("name").to_owned(), names);
    }
    found
}

#[test]
fn imports_point_inwards() {
    let found = dependencies();
    let rooms: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    let members: BTreeSet<&str> = found.keys().map(String::as_str).filter(|m| *m != "harness").collect();
    assert_eq!(members, rooms, "a room is missing in the table of this test, or in the workspace");
    for (room, allowed) in ROOMS {
        let ours: BTreeSet<&str> =
            found[*room].iter().map(String::as_str).filter(|d| rooms.contains(d)).collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        let forbidden: Vec<_> = ours.difference(&allowed).collect();
        assert!(forbidden.is_empty(), "{room} may not use {forbidden:?}");
    }
}

#[test]
fn each_outside_world_has_one_door() {
    let found = dependencies();
    for (outside, door) in DOORS {
        for (room, uses) in &found {
            assert!(!uses.contains(*outside) || room == door, "{room} names {outside}; only {door} may");
        }
    }
}

#[test]
fn the_cores_are_pure() {
    let found = dependencies();
    for room in PURE {
        for outside in IMPURE_CRATES {
            assert!(!found[*room].contains(*outside), "{room} is pure, but names {outside}");
        }
        let src = root().join(match *room {
            "common" => "common/src",
            "coordinator-core" => "coordinator/core/src",
            _ => "node-agent/core/src",
        });
        for file in sources(&src) {
            let text = std::fs::read_to_string(&file).expect("readable");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in [
                "Instant::now",
                "SystemTime::now",
                "HashMap",
                "HashSet",
                "std::fs",
                "std::net",
                "std::thread",
            ] {
                assert!(!code.contains(word), "{} is pure, but uses {word}", file.display());
            }
        }
    }
}

#[test]
fn rooms_stay_small() {
    let mut lengths = Vec::new();
    for top in ["common", "coordinator", "node-agent", "tests"] {
        for file in sources(&root().join(top)) {
            let lines = std::fs::read_to_string(&file).expect("readable").lines().count();
            assert!(lines <= 500, "{} has {lines} lines: split it", file.display());
            lengths.push(lines);
        }
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= 160, "the median file has {median} lines");
}

/// Rust files below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(path);
            }
        }
    }
    files
}
