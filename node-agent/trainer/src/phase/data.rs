//! Captures to graphs, and which windows a model learns from.

use common::config::semantic as sem;
use common::trainer_protocol::Stage;
use dataset::{
    ChunkRule, Copies, EdgeFeatures, GraphSet, Layout, NodeEncoding, PrepareConfig, PrepareTuning, Prepared,
    ProfileConfig, ReadOptions, SplitConfig, SplitKind, VocabularyScope, WindowConfig,
};

use super::{Job, PhaseError};
use crate::fit::Listener;
use crate::metrics::Truth;

/// Name of the validation split in reports.
pub const VALIDATION: &str = "val";
/// Name of the training split there.
pub const TRAINING: &str = "train";

/// What the entry of the cache that was used is called among the things that were used: the agent shares it with
/// other machines under this word.
pub const PREPARED: &str = "prepared";

/// Prepares the job's captures, or takes them from the cache.
///
/// # Errors
/// Whatever is wrong with the captures.
pub fn prepare(job: &Job, listener: &mut dyn Listener) -> Result<Prepared, PhaseError> {
    listener.stage(Stage::Preparing);
    let _span = tracing::info_span!("preparing", dataset = %job.dataset).entered();
    let layout = layout(job)?;
    let tuning = PrepareTuning {
        cache_dir: Some(job.cache_dir.clone()),
        threads: job.tuning.workers.max(1) as usize,
        read: read_options(job),
    };
    let prepared = dataset::prepare(&layout, &prepare_config(job.semantic.data()), &tuning, &|_| {})?;
    for warning in &prepared.report.warnings {
        tracing::warn!("{warning}");
    }
    for (folder, set) in &prepared.tests {
        let labelled = truth(set).iter().flatten().count();
        if labelled > 0 && labelled < set.len() {
            let unlabelled = set.len() - labelled;
            tracing::warn!(folder, labelled, unlabelled, "figures are of the labelled windows only");
        }
    }
    let report = &prepared.report;
    tracing::info!(
        train = report.train_windows,
        val = report.val_windows,
        tests = prepared.tests.len(),
        num_ids = report.num_ids,
        cached = report.from_cache,
        "graphs are ready"
    );
    Ok(prepared)
}

/// The captures of the job.
///
/// # Errors
/// When there are none.
pub fn layout(job: &Job) -> Result<Layout, PhaseError> {
    match (job.captures_dir.parent(), job.captures_dir.file_name()) {
        (Some(root), Some(name)) => Ok(dataset::layout::find(root, &name.to_string_lossy())?),
        _ => {
            let path = job.captures_dir.clone();
            let mend = "give the folder of one dataset".to_owned();
            Err(dataset::DataError::Missing { what: "dataset folder", path, mend }.into())
        }
    }
}

/// How much damage of a capture is let pass.
#[must_use]
pub fn read_options(job: &Job) -> ReadOptions {
    ReadOptions { max_bad_lines: job.tuning.bad_lines_per_file_max.into(), ..ReadOptions::default() }
}

/// The configuration's words in those of the dataset room.
#[must_use]
pub fn prepare_config(data: &sem::DataSemantic) -> PrepareConfig {
    PrepareConfig {
        window: window_config(data),
        vocabulary: match data.vocabulary {
            sem::VocabularyScope::AllTrain => VocabularyScope::AllTrain,
            sem::VocabularyScope::BenignTrain => VocabularyScope::BenignTrain,
        },
        copies: Copies::Once,
        varied_copies: data.varied_copies,
        split: SplitConfig {
            method: match data.split.kind {
                sem::SplitKind::RandomDedup => SplitKind::RandomDedup,
                sem::SplitKind::Contiguous => {
                    SplitKind::Contiguous { embargo_windows: data.split.embargo_windows }
                }
            },
            val_fraction: data.split.val_fraction,
            seed: data.split.seed,
        },
    }
}

/// How messages become windows.
#[must_use]
pub fn window_config(data: &sem::DataSemantic) -> WindowConfig {
    WindowConfig {
        window: data.window,
        stride: data.stride,
        chunk_rule: match data.chunk_rule {
            sem::ChunkRule::Whole => ChunkRule::Whole,
            sem::ChunkRule::Original => ChunkRule::Original,
        },
        edge_features: EdgeFeatures::None,
        nodes: match data.encoding {
            sem::NodeEncoding::Ids => NodeEncoding::Ids,
            sem::NodeEncoding::Profile => {
                NodeEncoding::Profile(ProfileConfig { messages: data.profile_messages })
            }
        },
    }
}

/// Indices of all graphs.
#[must_use]
pub fn everything(set: &GraphSet) -> Vec<u32> {
    (0..set.len() as u32).collect()
}

/// Indices of the graphs an auto-encoder learns from.
#[must_use]
pub fn pool_for(set: &GraphSet, train_on: sem::TrainOn) -> Vec<u32> {
    match train_on {
        sem::TrainOn::All => everything(set),
        sem::TrainOn::Benign => {
            (0..set.len() as u32).filter(|&graph| set.label[graph as usize] == 0).collect()
        }
    }
}

/// Truth of every window: none where its capture carries no labels (frames were removed, nothing was
/// injected; or a log nobody has labelled).
#[must_use]
pub fn truth(set: &GraphSet) -> Vec<Truth> {
    let known = |&capture: &u32| set.captures[capture as usize].has_labels;
    set.capture.iter().zip(&set.label).map(|(capture, &label)| known(capture).then_some(label)).collect()
}

/// What thresholds are chosen on and combiners compared by.
pub struct Calibration<'a> {
    /// The name that its figures go by in reports.
    pub name: &'static str,
    pub set: &'a GraphSet,
    /// Thresholds are chosen on the first so many of its windows.
    pub windows: usize,
}

/// Validation, or training where there is no validation window.
///
/// Thresholds are for traffic as it is captured: varied copies teach what an attack may look like, but in some of
/// their windows there is next to nothing to see, and a threshold that should sort those out as well would fit the
/// vehicles of training only. They count where the captured windows alone are of one class.
#[must_use]
pub fn calibration(prepared: &Prepared) -> Calibration<'_> {
    let (name, set, captured) = if prepared.val.is_empty() {
        (TRAINING, &prepared.train, prepared.train.len())
    } else {
        (VALIDATION, &prepared.val, prepared.val_real())
    };
    Calibration { name, set, windows: windows_for_threshold(&truth(set), captured) }
}

/// On how many of the windows thresholds are chosen: the `captured` ones, which come first, if they are of both
/// classes; else all.
pub fn windows_for_threshold(truth: &[Truth], captured: usize) -> usize {
    let has = |label| truth[..captured].contains(&Some(label));
    if has(0) && has(1) { captured } else { truth.len() }
}

#[cfg(test)]
mod tests {
    use super::windows_for_threshold;

    #[test]
    fn thresholds_are_for_captured_windows_unless_they_are_of_one_class() {
        let truth = [Some(0), None, Some(1), Some(0), Some(1)];
        let windows = [5, 3, 2, 0].map(|captured| windows_for_threshold(&truth, captured));
        assert_eq!(windows, [5, 3, 5, 5]);
    }
}
