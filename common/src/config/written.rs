//! Configuration as written: the leaves of one layer with their places, nothing yet understood.
//!
//! A leaf is a scalar or a list under a dotted key. Every layer speaks of the same keys, so a file,
//! a variable and a flag can say the same thing: `lr: 0.01` in `base.yaml`,
//! `COORD_TRAINING__LR=0.01`, `--set lr=0.01`.

use super::origin::Origin;
use super::problem::Problem;
use super::yaml::{self, Node};
use serde_json::Value;

/// First parts of all keys. A key that begins otherwise belongs to `training`, whose keys the
/// Python ancestor kept at the top of `base.yaml`.
pub const SECTIONS: [&str; 6] = ["training", "datasets", "gpu_profiles", "pipeline", "cluster", "agent"];

const ENV_PREFIX: &str = "COORD_";

/// One value somebody wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Dotted, with its section.
    pub key: String,
    pub value: Value,
    pub origin: Origin,
}

/// What one file, the environment or the flags say, in the order written.
pub type Layer = Vec<Written>;

/// Reads one file. `place` makes the origin of a line; a file that is no YAML is one problem.
pub fn from_yaml(text: &str, place: impl Fn(u64) -> Origin, problems: &mut Vec<Problem>) -> Layer {
    let mut layer = Layer::new();
    match yaml::parse(text) {
        Ok(root) => match root.node {
            Node::Map(_) => flatten("", root, &place, &mut layer, problems),
            Node::Leaf(Value::Null) => {}
            Node::Leaf(_) => {
                problems.push(Problem::new(&place(root.line), "", "expected keys with values"));
            }
        },
        Err(e) => problems.push(Problem::new(&place(e.line), "", e.message)),
    }
    layer
}

/// Reads `COORD_SECTION__KEY=value` variables; others, without a double underscore, are not ours.
pub fn from_env<'a>(
    vars: impl IntoIterator<Item = (&'a str, &'a str)>,
    problems: &mut Vec<Problem>,
) -> Layer {
    let mut vars: Vec<_> = vars.into_iter().collect();
    // The environment has no order of its own; a report must not change from run to run.
    vars.sort_unstable();
    let mut layer = Layer::new();
    for (name, value) in vars {
        let Some(key) = name.strip_prefix(ENV_PREFIX).filter(|rest| rest.contains("__")) else { continue };
        let key = key.to_lowercase().replace("__", ".");
        assign(&key, value, Origin::Env { name: name.to_owned() }, &mut layer, problems);
    }
    layer
}

/// Reads the texts of `--set key=value`.
pub fn from_flags<'a>(flags: impl IntoIterator<Item = &'a str>, problems: &mut Vec<Problem>) -> Layer {
    let mut layer = Layer::new();
    for flag in flags {
        let origin = Origin::Flag { text: format!("--set {flag}") };
        match flag.split_once('=') {
            Some((key, value)) => assign(key.trim(), value, origin, &mut layer, problems),
            None => problems
                .push(Problem::new(&origin, flag, "no value given").hint("write --set key.path=value")),
        }
    }
    layer
}

/// The value of a variable or flag is YAML as well: `0.01`, `true`, `[a, b]`, `text`.
fn assign(key: &str, value: &str, origin: Origin, layer: &mut Layer, problems: &mut Vec<Problem>) {
    match yaml::parse(value) {
        Ok(root) => flatten(key, root, &|_| origin.clone(), layer, problems),
        Err(e) => problems.push(Problem::new(&origin, with_section(key), e.message)),
    }
}

fn flatten(
    prefix: &str,
    at: yaml::At,
    place: &impl Fn(u64) -> Origin,
    layer: &mut Layer,
    problems: &mut Vec<Problem>,
) {
    match at.node {
        Node::Map(entries) => {
            for (name, child) in entries {
                if name.contains('.') || name.is_empty() {
                    let message = format!("the key {name:?} may not be empty or contain a dot");
                    problems.push(
                        Problem::new(&place(child.line), with_section(prefix), message)
                            .hint("nest the keys, one per line"),
                    );
                    continue;
                }
                let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                flatten(&key, child, place, layer, problems);
            }
        }
        Node::Leaf(value) => {
            layer.push(Written { key: with_section(prefix), value, origin: place(at.line) });
        }
    }
}

fn with_section(key: &str) -> String {
    let first = key.split('.').next().unwrap_or_default();
    if key.is_empty() || SECTIONS.contains(&first) { key.to_owned() } else { format!("training.{key}") }
}
