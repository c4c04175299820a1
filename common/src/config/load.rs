//! All layers read, checked and laid over each other.

use super::datasets::DatasetSpec;
use super::origin::Origin;
use super::overlay::Overlay;
use super::problem::{Problem, Problems};
use super::schema::{KeyError, Schema};
use super::settings::TrainingSettings;
use super::validate::{self, Findings};
use super::written::{self, Layer, Written};
use super::{Config, Training};
use crate::ids::Phase;
use std::collections::BTreeMap;

/// Names of the files of a configuration folder; each may be missing.
pub const FILE_NAMES: [&str; 4] = ["base.yaml", "gpu_profiles.yaml", "datasets.yaml", "pipeline.yaml"];

/// The copies inside the binary, name and text.
pub const BUILT_IN_FILES: [(&str, &str); 4] = [
    ("conf/base.yaml", include_str!("../../../conf/base.yaml")),
    ("conf/gpu_profiles.yaml", include_str!("../../../conf/gpu_profiles.yaml")),
    ("conf/datasets.yaml", include_str!("../../../conf/datasets.yaml")),
    ("conf/pipeline.yaml", include_str!("../../../conf/pipeline.yaml")),
];

/// What somebody wrote. The name of a file is told in messages as it is given here.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// (name, text), later files win.
    pub files: Vec<(&'a str, &'a str)>,
    /// The process environment; variables of others are left alone.
    pub env: Vec<(&'a str, &'a str)>,
    /// Texts of `--set key=value`, later ones win.
    pub flags: Vec<&'a str>,
}

/// A checked layer: general leaves, and for each dataset its overrides as `training.` leaves.
#[derive(Default)]
struct Checked {
    general: Layer,
    overrides: BTreeMap<String, Layer>,
}

pub(super) fn resolve(sources: &Sources<'_>) -> Result<Config, Problems> {
    let mut problems = Vec::new();
    let schema = Schema::new();
    let layers: Vec<Checked> = read(sources, &mut problems)
        .into_iter()
        .map(|layer| check_keys(&schema, layer, &mut problems))
        .collect();

    let mut all = Overlay::of_defaults(&schema);
    for leaf in layers.iter().flat_map(|layer| &layer.general) {
        problems.extend(all.set(leaf).err());
    }
    let by_dataset = with_overrides(&schema, &layers, &mut problems);
    let mut datasets: BTreeMap<String, DatasetSpec> = all.section("datasets");
    for (dataset, leaf) in
        layers.iter().flat_map(|l| &l.overrides).flat_map(|(d, ls)| ls.iter().map(move |l| (d, l)))
    {
        let key = without_section(&leaf.key).to_owned();
        datasets.entry(dataset.clone()).or_default().overrides.insert(key, leaf.value.clone());
    }
    let config = Config {
        datasets,
        profiles: all.section("gpu_profiles"),
        pipeline: all.section("pipeline"),
        cluster: all.section("cluster"),
        agent: all.section("agent"),
        general: Training { settings: all.section("training"), origins: all.origins.clone() },
        by_dataset,
        origins: all.origins,
    };
    validate_all(&config, &mut problems);
    if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
}

fn read(sources: &Sources<'_>, problems: &mut Vec<Problem>) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (file, text) in BUILT_IN_FILES {
        let place = |line| Origin::BuiltIn { file: file.to_owned(), line };
        layers.push(written::from_yaml(text, place, problems));
    }
    for (file, text) in &sources.files {
        let place = |line| Origin::File { file: (*file).to_owned(), line };
        layers.push(written::from_yaml(text, place, problems));
    }
    layers.push(written::from_env(sources.env.iter().copied(), problems));
    layers.push(written::from_flags(sources.flags.iter().copied(), problems));
    layers
}

/// Keeps the leaves with known keys and sorts them.
fn check_keys(schema: &Schema, layer: Layer, problems: &mut Vec<Problem>) -> Checked {
    let mut checked = Checked::default();
    for mut leaf in layer {
        let override_of = override_parts(&leaf.key).map(|(d, key)| (d.to_owned(), format!("training.{key}")));
        let looked_up = override_of.as_ref().map_or(leaf.key.as_str(), |(_, key)| key);
        match schema.leaf(looked_up) {
            Ok(_) => match override_of {
                Some((_, key)) if is_tuning(&key) => problems.push(
                    Problem::new(
                        &leaf.origin,
                        &leaf.key,
                        "a dataset can not override where and how fast it runs",
                    )
                    .hint("set it for all datasets instead"),
                ),
                Some((dataset, key)) => {
                    leaf.key = key;
                    checked.overrides.entry(dataset).or_default().push(leaf);
                }
                None => checked.general.push(leaf),
            },
            // `teacher:` with nothing below it says nothing.
            Err(KeyError::IsSection { .. }) if leaf.value.is_null() => {}
            Err(KeyError::IsSection { hint }) => {
                problems.push(Problem::new(&leaf.origin, leaf.key, "has keys below it, no value").hint(hint));
            }
            Err(KeyError::Unknown { hint }) => {
                problems.push(Problem::new(&leaf.origin, leaf.key, "unknown key").hint(hint));
            }
        }
    }
    checked
}

/// `datasets.NAME.overrides.KEY` to NAME and KEY.
fn override_parts(key: &str) -> Option<(&str, &str)> {
    let (dataset, rest) = key.strip_prefix("datasets.")?.split_once('.')?;
    let key = rest.strip_prefix("overrides.")?;
    Some((dataset, without_section(key)))
}

fn without_section(training_key: &str) -> &str {
    training_key.strip_prefix("training.").unwrap_or(training_key)
}

/// Whether a training key is tuning. The list is checked against [`super::Tuning`] by a test.
pub(super) fn is_tuning(key: &str) -> bool {
    const TOP: [&str; 8] = [
        "device",
        "mixed_precision",
        "micro_batch",
        "workers",
        "threads",
        "checkpoint_every_epochs",
        "checkpoint_every_minutes",
        "bad_lines_per_file_max",
    ];
    let key = without_section(key);
    TOP.contains(&key) || key.contains(".tuning.")
}

/// The training settings of every dataset that overrides some.
fn with_overrides(
    schema: &Schema,
    layers: &[Checked],
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Training> {
    let mut names: Vec<&String> = layers.iter().flat_map(|l| l.overrides.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let training = |leaf: &&Written| leaf.key.starts_with("training.");
    let mut by_dataset = BTreeMap::new();
    for name in names {
        let mut own = Overlay::of_defaults(schema);
        for layer in layers {
            for leaf in layer.general.iter().filter(training) {
                // A general leaf of the wrong type was told already.
                let _told = own.set(leaf);
            }
            for leaf in layer.overrides.get(name).into_iter().flatten() {
                problems.extend(own.set(leaf).err());
            }
        }
        let settings: TrainingSettings = own.section("training");
        by_dataset.insert(name.clone(), Training { settings, origins: own.origins });
    }
    by_dataset
}

fn validate_all(config: &Config, problems: &mut Vec<Problem>) {
    let mut add = |training: Option<&Training>, findings: Findings| {
        for (key, message) in findings.0 {
            let (key, origin) = match training {
                Some(t) => {
                    let key = format!("training.{}", t.settings.deciding_key(&key));
                    let origin = t.origins.get(&key).cloned().unwrap_or(Origin::Default);
                    (key, origin)
                }
                None => (key.clone(), config.origin_of(&key)),
            };
            let problem = Problem::new(&origin, key, message);
            // One general setting may be wrong for several models: it is still one mistake.
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    };
    for training in std::iter::once(&config.general).chain(config.by_dataset.values()) {
        let mut findings = Findings::default();
        for phase in Phase::ALL {
            validate::semantic(&training.settings.semantic(phase), &mut findings);
            validate::tuning(phase, &training.settings.tuning(phase), &mut findings);
        }
        add(Some(training), findings);
    }
    let mut findings = Findings::default();
    validate::profiles(&config.profiles, &mut findings);
    validate::datasets(&config.datasets, &mut findings);
    for training in std::iter::once(&config.general).chain(config.by_dataset.values()) {
        let fusion = training.settings.semantic(Phase::Fusion);
        validate::pipeline(&config.pipeline, &fusion, &config.profiles, &mut findings);
    }
    validate::cluster(&config.cluster, &mut findings);
    validate::agent(&config.agent, &mut findings);
    add(None, findings);
}
