//! Scores of captures by a trained model: window by window, from files or from a live bus.
//!
//! | Where | What |
//! |--|--|
//! | [`model`] | what is scored with: a result's folder, a `.pth` file, or weights with another model's settings |
//! | [`windows`] | captures and pipes as windows, read on a thread of their own |
//! | [`scorer`] | windows to scores and decisions, in batches |
//! | [`write`] | JSON lines and parquet |
//! | [`summary`] | what is told at the end |
//!
//! Scores, thresholds and rules are those of the training reports: the same functions make both.

pub mod error;
pub mod model;
pub mod scorer;
pub mod summary;
pub mod windows;
pub mod write;

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use dataset::{CaptureFormat, GraphSet, ReadReport};
use tch::Device;

pub use error::ScoreError;
use model::ScoringModel;
use scorer::Scorer;
pub use summary::Summary;
use windows::{Chunk, Source};
use write::Sink;

/// Chunks of windows that may wait for the detectors.
const CHUNKS_AHEAD: usize = 64;

/// What is to be scored, and how.
#[derive(Debug, Clone)]
pub struct Request {
    pub model: PathBuf,
    /// The detectors of a fusion, where they do not lie beside it.
    pub detectors: Option<PathBuf>,
    /// Where shapes, ids and thresholds come from, if `model` holds bare weights.
    pub like: Option<PathBuf>,
    /// Captures; `-` is a candump log on stdin.
    pub captures: Vec<PathBuf>,
    /// None: told by the content.
    pub format: Option<CaptureFormat>,
    pub device: Device,
    /// Windows at once; fewer while messages come in slowly.
    pub batch: usize,
}

/// Scores all captures of a request, in order.
///
/// # Errors
/// [`ScoreError`]; what was written before stays.
pub fn run(request: &Request, sink: &mut dyn Sink) -> Result<Summary, ScoreError> {
    let model = ScoringModel::load(request)?;
    let sources: Vec<Source> =
        request.captures.iter().map(|path| Source::of(path, request.format)).collect::<Result<_, _>>()?;
    let mut scorer = Scorer::new(&model, request.device, request.batch);
    let began = Instant::now();
    let mut summary = Summary::of(&model);
    for source in &sources {
        let report = one(source, &model, &mut scorer, sink, &mut summary, request.batch)?;
        summary.capture_ends(source, &report)?;
    }
    sink.finish()?;
    summary.seconds = began.elapsed().as_secs_f64();
    Ok(summary)
}

fn one(
    source: &Source,
    model: &ScoringModel,
    scorer: &mut Scorer<'_>,
    sink: &mut dyn Sink,
    summary: &mut Summary,
    batch: usize,
) -> Result<ReadReport, ScoreError> {
    let (send, receive) = mpsc::sync_channel(CHUNKS_AHEAD);
    std::thread::scope(|scope| {
        let (file, vocabulary) = (&model.pair.file, &model.pair.vocabulary);
        let reader = scope.spawn(move || windows::read(source, file, vocabulary, &send));
        let scored = (|| {
            while let Some(chunk) = next(&receive, batch)? {
                let rows = scorer.score(&chunk, &source.label)?;
                summary.add(&rows);
                sink.put(&rows)?;
            }
            Ok(())
        })();
        // A reader that waits for room must hear that nobody takes windows any more.
        drop(receive);
        // `scope` would pass on the reader's panic; told as one here.
        let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        scored.and(read)
    })
}

/// The next windows: those that wait, joined to about a batch.
fn next(receive: &Receiver<Chunk>, batch: usize) -> Result<Option<Chunk>, ScoreError> {
    let Ok(mut chunk) = receive.recv() else { return Ok(None) };
    while chunk.windows.graphs.len() < batch {
        match receive.try_recv() {
            Ok(more) => chunk.append(&more)?,
            Err(_) => break,
        }
    }
    Ok(Some(chunk))
}

/// All graphs of a set.
fn all(set: &GraphSet) -> Vec<u32> {
    (0..set.len() as u32).collect()
}
