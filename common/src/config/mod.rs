//! Configuration: as written, layer over layer, and as resolved.
//!
//! Later layers win: defaults < files of the configuration folder < `COORD_SECTION__KEY` variables
//! < `--set key=value`. All of them speak of the same dotted keys ([`written`]); [`schema`] knows
//! which there are, [`overlay`] checks types, [`validate`] ranges, and **all** problems of all
//! layers are told together ([`Problems`]). Nothing here reads a file or the environment: the
//! caller brings the texts ([`Sources`]).
//!
//! | module | holds |
//! |--|--|
//! | [`semantic`], [`arch`], [`tuning`] | what a trainer gets; only the first two enter the job key |
//! | [`settings`], [`resolve`] | the keys of `base.yaml` and how special ones fall back to general ones |
//! | [`datasets`], [`profiles`], [`pipeline`] | the other three files |
//! | `named` | a semantic configuration by the names people write |
//! | [`show`] | a job's resolved configuration with the origin of each value |
//!
//! A dataset may override semantic settings (`datasets.NAME.overrides`). Within one layer such an
//! override wins over the general setting; a later layer wins over both, so that a flag is never
//! silently ignored.

pub mod arch;
pub mod datasets;
mod load;
mod named;
pub mod origin;
mod overlay;
pub mod pipeline;
pub mod problem;
pub mod profiles;
mod resolve;
mod schema;
pub mod semantic;
pub mod settings;
pub mod show;
pub mod tuning;
mod validate;
mod written;
mod yaml;

#[cfg(test)]
mod tests;

pub use arch::ModelSize;
pub use datasets::DatasetSpec;
pub use load::{BUILT_IN_FILES, FILE_NAMES, Sources};
pub use origin::Origin;
pub use pipeline::{
    AgentSpec, ClusterSpec, PhaseSpec, PipelineSpec, PlacementPolicy, PlacementSpec, RetryBudgets,
};
pub use problem::{Problem, Problems};
pub use profiles::{CPU_PROFILE, GpuProfile, GpuProfiles};
pub use semantic::{DataSemantic, FusionSemantic, PhaseSemantic, StudentSemantic, TeacherSemantic};
pub use settings::TrainingSettings;
pub use show::JobConfig;
pub use tuning::{DeviceChoice, Tuning};

use crate::ids::{DatasetId, Phase};
use crate::units::Mib;
use std::collections::BTreeMap;

/// The resolved configuration. Every value in it has passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The datasets written about; others are allowed and get [`DatasetSpec::default`].
    pub datasets: BTreeMap<String, DatasetSpec>,
    pub profiles: GpuProfiles,
    pub pipeline: PipelineSpec,
    pub cluster: ClusterSpec,
    pub agent: AgentSpec,
    general: Training,
    /// Only datasets with overrides have their own.
    by_dataset: BTreeMap<String, Training>,
    /// Of everything but `training`.
    origins: BTreeMap<String, Origin>,
}

/// Training settings with the origin of each written key.
#[derive(Debug, Clone, PartialEq)]
struct Training {
    settings: TrainingSettings,
    origins: BTreeMap<String, Origin>,
}

impl Config {
    /// Reads all layers; on any mistake every mistake is told.
    pub fn resolve(sources: &Sources<'_>) -> Result<Config, Problems> {
        load::resolve(sources)
    }

    /// The configuration inside the binary.
    pub fn built_in() -> Config {
        // A test resolves the built-in files.
        Config::resolve(&Sources::default()).expect("the built-in configuration is sound")
    }

    /// What a phase computes on a dataset.
    pub fn semantic(&self, dataset: &DatasetId, phase: Phase) -> PhaseSemantic {
        self.training(dataset).settings.semantic(phase)
    }

    /// Where and how fast a phase runs; the same for every dataset.
    pub fn tuning(&self, phase: Phase) -> Tuning {
        self.general.settings.tuning(phase)
    }

    /// Both, as saved under `generated_configs/`.
    pub fn job(&self, dataset: &DatasetId, phase: Phase) -> JobConfig {
        JobConfig {
            dataset: dataset.clone(),
            phase,
            semantic: self.semantic(dataset, phase),
            tuning: self.tuning(phase),
        }
    }

    /// What is known about a dataset, listed or not.
    pub fn dataset(&self, dataset: &DatasetId) -> DatasetSpec {
        self.datasets.get(dataset.as_str()).cloned().unwrap_or_default()
    }

    /// Memory a phase on a dataset asks of a card, with the card's profile; `None` = of the CPU.
    pub fn memory_ask(&self, dataset: &DatasetId, phase: Phase, card: Option<(&str, Mib)>) -> (Mib, &str) {
        let (profile, _) = match card {
            Some((name, total_mib)) => self.profiles.profile_for(name, total_mib),
            None => self.profiles.cpu(),
        };
        (self.pipeline.phases.get(phase).memory_on(self.size(dataset, phase), profile), profile)
    }

    /// Size of the networks of a phase on a dataset.
    pub fn size(&self, dataset: &DatasetId, phase: Phase) -> ModelSize {
        let settings = &self.training(dataset).settings;
        match phase {
            Phase::Teacher => settings.teacher.size,
            Phase::Student => settings.student.size,
            Phase::Fusion => settings.fusion.size,
        }
    }

    /// The full key that decided a resolved training key (`teacher.gat.lr` may come from
    /// `training.lr`), and who wrote it.
    pub fn origin(&self, dataset: &DatasetId, key: &str) -> (String, Origin) {
        let training = self.training(dataset);
        let decided_by = format!("training.{}", training.settings.deciding_key(key));
        let origin = training.origins.get(&decided_by).cloned().unwrap_or(Origin::Default);
        (decided_by, origin)
    }

    /// Who wrote a full key outside `training` (`cluster.lease_s`), or the first key below it.
    pub fn origin_of(&self, key: &str) -> Origin {
        let below = format!("{key}.");
        let is_it = |written: &str| written == key || written.starts_with(&below);
        let first = self.origins.range(key.to_owned()..).find(|(written, _)| is_it(written));
        first.map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    fn training(&self, dataset: &DatasetId) -> &Training {
        self.by_dataset.get(dataset.as_str()).unwrap_or(&self.general)
    }
}
