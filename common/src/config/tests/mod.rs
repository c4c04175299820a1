//! Tests of the configuration, by concern.

mod errors;
mod job_keys;
mod layers;
mod placement;
mod show;

use super::{Config, Problem, Sources};
use crate::ids::DatasetId;

fn dataset(name: &str) -> DatasetId {
    DatasetId::new(name).unwrap()
}

/// Resolves one base.yaml.
fn base(text: &str) -> Result<Config, super::Problems> {
    Config::resolve(&Sources { files: vec![("base.yaml", text)], ..Sources::default() })
}

fn flags(flags: &[&str]) -> Result<Config, super::Problems> {
    Config::resolve(&Sources { flags: flags.to_vec(), ..Sources::default() })
}

/// The problems of sources that must not resolve.
fn problems(sources: &Sources<'_>) -> Vec<Problem> {
    Config::resolve(sources).expect_err("these sources are wrong").0
}
