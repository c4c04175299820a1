//! Captures and pipes as windows.

use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

use dataset::{
    AttackKind, CaptureFile, CaptureFormat, DataError, Frames, ReadOptions, ReadReport, SilenceConfig,
    Vocabulary, WindowStream, Windows, read_candump, read_capture,
};

use super::ScoreError;
use crate::phase::data::window_config;
use crate::phase::model_file::ModelFile;

/// Name of the standard input among captures.
const STDIN: &str = "-";
/// A bus that is listened to for days has its bad lines: they are counted, never a reason to stop listening.
const LIVE: ReadOptions = ReadOptions { max_bad_lines: u64::MAX, max_bad_share: 1.0 };

/// Where messages come from.
#[derive(Debug)]
pub struct Source {
    /// The capture's name in rows.
    pub label: String,
    pub attack_kind: AttackKind,
    /// None: candump lines on stdin.
    file: Option<CaptureFile>,
}

impl Source {
    /// A capture by its path, or stdin.
    ///
    /// # Errors
    /// `Data` for a file that cannot be read.
    pub fn of(path: &Path, format: Option<CaptureFormat>) -> Result<Self, ScoreError> {
        if path == Path::new(STDIN) {
            return Ok(Self {
                label: STDIN.to_owned(),
                attack_kind: AttackKind::from_names("", ""),
                file: None,
            });
        }
        let format = format.map_or_else(|| CaptureFormat::detect(path), Ok)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let attack_kind = AttackKind::from_names("", &name);
        let file = CaptureFile { folder: String::new(), name, path: path.to_owned(), format, attack_kind };
        let label = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { label, attack_kind, file: Some(file) })
    }
}

/// Windows on their way to the detectors.
#[derive(Debug)]
pub struct Chunk {
    pub windows: Windows,
    /// Whether the capture says which messages were injected.
    pub has_labels: bool,
}

impl Chunk {
    /// Puts the windows of `more` behind ours.
    ///
    /// # Errors
    /// When there are more nodes than a set can number.
    pub fn append(&mut self, more: &Self) -> Result<(), DataError> {
        let (ours, theirs) = (&mut self.windows, &more.windows);
        ours.graphs.append(&theirs.graphs)?;
        ours.start_s.extend(&theirs.start_s);
        ours.end_s.extend(&theirs.end_s);
        ours.silence.extend(&theirs.silence);
        Ok(())
    }
}

/// Reads a source to its end and sends its windows as they are complete.
///
/// # Errors
/// Whatever is wrong with the capture.
pub fn read(
    source: &Source,
    model: &ModelFile,
    vocabulary: &Vocabulary,
    send: &SyncSender<Chunk>,
) -> Result<ReadReport, ScoreError> {
    let silence = model.silence.as_ref();
    let config = silence.map_or_else(SilenceConfig::default, |part| part.config);
    let vehicles = silence.map_or(&[][..], |part| &part.vehicles);
    let mut stream = WindowStream::new(&window_config(&model.data), vocabulary, &config, vehicles)?;
    let mut has_labels = true;
    let mut sink = |frames: &Frames| {
        has_labels = frames.has_labels;
        post(send, stream.push(frames)?, has_labels)
    };
    let report = match &source.file {
        Some(file) => read_capture(file, &ReadOptions::default(), &mut sink)?,
        None => read_candump(std::io::stdin().lock(), Path::new("stdin"), &LIVE, &mut sink)?,
    };
    post(send, stream.finish()?, has_labels)?;
    Ok(report)
}

fn post(send: &SyncSender<Chunk>, windows: Windows, has_labels: bool) -> Result<(), DataError> {
    if windows.graphs.is_empty() {
        return Ok(());
    }
    send.send(Chunk { windows, has_labels }).map_err(|_| DataError::Io {
        action: "go on with",
        path: PathBuf::from("the capture"),
        source: std::io::ErrorKind::BrokenPipe.into(),
    })
}
