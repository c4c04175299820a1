//! A dataset's captures -> vocabulary, training, validation and test graphs.

mod build;
mod cache;
mod varied;

use std::collections::BTreeMap;
use std::path::PathBuf;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::digest::{ContentDigest, DatasetDigest, dataset_digest};
use crate::error::{DataError, Result};
use crate::graph_set::GraphSet;
use crate::layout::{CaptureFile, Layout};
use crate::read::{ReadOptions, ReadReport};
use crate::split::{SplitConfig, split};
use crate::vocabulary::{Vocabulary, VocabularyScope};
use crate::window::{EdgeFeatures, WindowConfig};
use build::{Built, Counter, Source};

/// Version of the mathematics here. Raised whenever the same captures and settings give other graphs, so that no
/// prepared graphs of an older program are taken for ours.
pub const CODE_VERSION: u32 = 2;

/// What to do with training captures that are copies of each other (train_01 lies in train_02 once more).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Copies {
    /// Each once.
    #[default]
    Once,
    /// Each as often as it is there, as the published window counts do.
    AsFound,
}

/// How captures become training data. Semantic throughout: a change makes other training data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrepareConfig {
    pub window: WindowConfig,
    pub vocabulary: VocabularyScope,
    pub copies: Copies,
    /// Varied copies of each training capture, see [`crate::profile`]; only where nodes are encoded by a profile.
    pub varied_copies: u32,
    pub split: SplitConfig,
}

/// What does not change the result.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PrepareTuning {
    /// Folder for prepared graphs and file digests; none = nothing is kept. Safe to share between processes.
    pub cache_dir: Option<PathBuf>,
    /// Captures worked on at once; 0 = one per core.
    pub threads: usize,
    /// How much damage a capture may have before it is refused: decides whether there is a result, not which.
    pub read: ReadOptions,
}

/// How far preparation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub captures_done: usize,
    pub captures_total: usize,
    /// Messages read so far.
    pub rows: u64,
}

/// What became of a capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureUse {
    Training,
    /// Left out of training: the same messages as the capture named here.
    CopyOf(String),
    /// A suppress capture from a training folder, which has nothing to learn from: moved to this test folder.
    MovedToTest(String),
    Test,
}

/// One capture of the report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaptureReport {
    pub folder: String,
    pub name: String,
    pub used_as: CaptureUse,
    /// None where the file is a byte-wise copy of another and was not read.
    pub read: Option<ReadReport>,
    pub windows: u64,
    pub attack_windows: u64,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PrepareReport {
    pub dataset: String,
    pub dataset_sha256: ContentDigest,
    /// Digest of dataset, configuration and code version: the name in the cache.
    pub key: ContentDigest,
    pub num_ids: u32,
    pub train_windows: u64,
    pub train_attack_windows: u64,
    pub val_windows: u64,
    pub val_attack_windows: u64,
    /// How many of the training and of the validation windows are from varied copies: the last ones of each set.
    pub train_varied_windows: u64,
    pub val_varied_windows: u64,
    /// Training windows in neither part.
    pub unused_windows: u64,
    pub captures: Vec<CaptureReport>,
    /// Things worth telling that are no errors.
    pub warnings: Vec<String>,
    /// True if everything came from the cache.
    #[serde(skip)]
    pub from_cache: bool,
}

impl PrepareReport {
    /// True if every capture that was read has no more bad lines than `budget` lets pass.
    fn within(&self, budget: &ReadOptions) -> bool {
        let reads = self.captures.iter().filter_map(|capture| capture.read.as_ref());
        reads.into_iter().all(|read| budget.allows(read.bad_lines, read.rows))
    }
}

/// Everything a phase trains and tests on.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    pub vocabulary: Vocabulary,
    pub train: GraphSet,
    pub val: GraphSet,
    /// Test folder -> its graphs, captures in order of name.
    pub tests: BTreeMap<String, GraphSet>,
    pub report: PrepareReport,
}

impl Prepared {
    /// Number of validation windows as they were captured: the first of `val`, before those of varied copies.
    pub fn val_real(&self) -> usize {
        self.val.len().saturating_sub(self.report.val_varied_windows as usize)
    }
}

/// Prepares a dataset, or takes it from the cache.
///
/// The result depends on captures and `config` alone, not on threads or cache. Captures are read in parallel, one
/// per thread; a capture is streamed, its graphs are kept. A cache that cannot be used is a warning in the report.
pub fn prepare(
    layout: &Layout,
    config: &PrepareConfig,
    tuning: &PrepareTuning,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Prepared> {
    config.window.validate()?;
    config.split.validate(&config.window)?;
    if layout.train.is_empty() {
        return Err(DataError::NoTraining { dataset: layout.dataset.clone() });
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(tuning.threads).build().map_err(|e| {
        DataError::io("start threads for", &PathBuf::from(&layout.dataset), std::io::Error::other(e))
    })?;
    pool.install(|| {
        let (cache, mut warnings) = cache::open(tuning.cache_dir.as_deref());
        let hashes = cache.as_ref().map(|cache| cache.hashes());
        let digest = dataset_digest(layout, hashes.as_deref()).or_else(|e| match e {
            // The digests are fine without their cache; a full or read-only disk must not stop a training.
            DataError::Io { ref path, .. } if Some(path) == hashes.as_ref() => {
                warnings.push(format!("digests of captures were not kept: {e}"));
                dataset_digest(layout, None)
            }
            e => Err(e),
        })?;
        let key = cache::key(&digest, config);
        let kept = cache.as_ref().and_then(|cache| cache.load(&key));
        // An entry made under a wider budget of bad lines is read again, to be refused with its reason.
        if let Some(mut prepared) = kept.filter(|kept| kept.report.within(&tuning.read)) {
            prepared.report.from_cache = true;
            prepared.report.warnings.extend(warnings);
            return Ok(prepared);
        }
        let mut prepared = prepare_anew(layout, config, &tuning.read, &digest, key, progress)?;
        if let Some(Err(e)) = cache.map(|cache| cache.save(&key, &prepared)) {
            warnings.push(format!("prepared graphs were not kept: {e}"));
        }
        prepared.report.warnings.extend(warnings);
        Ok(prepared)
    })
}

fn prepare_anew(
    layout: &Layout,
    config: &PrepareConfig,
    read: &ReadOptions,
    digest: &DatasetDigest,
    key: ContentDigest,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Prepared> {
    let counter = Counter::new(layout.len(), progress);
    let source = Source { config, read, digest, counter: &counter };
    let mut captures = Vec::new();
    let training = training_captures(layout, &source, &mut captures)?;
    let (vocabulary, train) = source.number_ids(training)?;
    let (train, moved): (Vec<Built>, Vec<Built>) =
        train.into_iter().partition(|built| built.moved_to.is_none());
    captures.extend(train.iter().map(|built| built.report(CaptureUse::Training)));

    let with_edges = config.window.edge_features == EdgeFeatures::Full;
    let (training, graphs): (Vec<Built>, Vec<GraphSet>) = train.into_iter().map(Built::take_graphs).unzip();
    let all = GraphSet::concat(&graphs, with_edges)?;
    drop(graphs);
    let parts = split(&all, &config.split)?;
    let (mut train, mut val) = (all.select(&parts.train)?, all.select(&parts.val)?);
    let added = varied::build(&source, &training, &all, &parts, with_edges)?;
    train.append(&added.train)?;
    val.append(&added.val)?;
    let (train_varied, val_varied) = (added.train.len() as u64, added.val.len() as u64);
    drop((all, added));

    let test_files: Vec<&CaptureFile> = layout.tests.values().flatten().collect();
    let built: Vec<Built> = test_files
        .par_iter()
        .with_max_len(1)
        .map(|file| source.test(file, &vocabulary))
        .collect::<Result<_>>()?;
    let mut tests: BTreeMap<String, GraphSet> = BTreeMap::new();
    for built in moved.into_iter().chain(built) {
        let folder = built.moved_to.clone().unwrap_or_else(|| built.file.folder.clone());
        let used_as = built.moved_to.clone().map_or(CaptureUse::Test, CaptureUse::MovedToTest);
        captures.push(built.report(used_as));
        tests.entry(folder).or_insert_with(|| GraphSet::empty(with_edges)).append(&built.graphs)?;
    }
    let mut warnings = Vec::new();
    if train.attack_count() + val.attack_count() == 0 {
        warnings
            .push("no training window holds an attack: a classifier has nothing to learn from".to_string());
    }
    if val.is_empty() {
        warnings.push("the validation part is empty: too few different windows".to_string());
    }
    let report = PrepareReport {
        dataset: layout.dataset.clone(),
        dataset_sha256: digest.sha256,
        key,
        num_ids: vocabulary.num_ids(),
        train_windows: train.len() as u64,
        train_attack_windows: train.attack_count() as u64,
        val_windows: val.len() as u64,
        val_attack_windows: val.attack_count() as u64,
        train_varied_windows: train_varied,
        val_varied_windows: val_varied,
        unused_windows: parts.unused.len() as u64,
        captures,
        warnings,
        from_cache: false,
    };
    Ok(Prepared { vocabulary, train, val, tests, report })
}

/// Builds the training captures, each different one once unless the configuration wants copies; what is left out is
/// put on `left_out`.
fn training_captures<'a>(
    layout: &'a Layout,
    source: &Source<'_>,
    left_out: &mut Vec<CaptureReport>,
) -> Result<Vec<Built<'a>>> {
    let once = source.config.copies == Copies::Once;
    let mut first_with: BTreeMap<ContentDigest, String> = BTreeMap::new();
    let mut files = Vec::new();
    for file in &layout.train {
        let sha256 = source.sha256(file)?;
        match first_with.get(&sha256) {
            Some(first) if once => {
                source.counter.capture_done(0);
                left_out.push(build::unread_copy(file, first));
            }
            _ => {
                first_with.insert(sha256, file.label());
                files.push(file);
            }
        }
    }
    let built: Vec<Built> =
        files.par_iter().with_max_len(1).map(|file| source.training(file)).collect::<Result<_>>()?;
    // Parquet notes its own folder in each row, so copies may differ as files and be equal only as messages.
    let mut first_with: BTreeMap<String, String> = BTreeMap::new();
    let mut kept = Vec::new();
    for built in built {
        match first_with.get(&built.read.rows_hash) {
            Some(first) if once => left_out.push(built.report(CaptureUse::CopyOf(first.clone()))),
            _ => {
                first_with.insert(built.read.rows_hash.clone(), built.file.label());
                kept.push(built);
            }
        }
    }
    Ok(kept)
}

/// Vocabulary of the given captures by scope.
fn vocabulary_of(built: &[Built], scope: VocabularyScope) -> Vocabulary {
    let training = built.iter().filter(|built| built.moved_to.is_none());
    Vocabulary::new(training.flat_map(|built| match scope {
        VocabularyScope::AllTrain => built.all_ids.iter().copied(),
        VocabularyScope::BenignTrain => built.benign_ids.iter().copied(),
    }))
}

#[cfg(test)]
mod tests;
