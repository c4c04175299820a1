//! Graphs of single captures.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rayon::prelude::*;

use super::{CaptureReport, CaptureUse, PrepareConfig, Progress, vocabulary_of};
use crate::attack::AttackKind;
use crate::digest::{ContentDigest, DatasetDigest};
use crate::error::{DataError, Result};
use crate::frames::Frames;
use crate::graph::{CaptureBuilder, IdSpace};
use crate::graph_set::{CaptureInfo, GraphSet};
use crate::layout::CaptureFile;
use crate::profile::{ROLES, Variation};
use crate::read::{ReadOptions, ReadReport, read_capture};
use crate::vocabulary::Vocabulary;
use crate::window::NodeEncoding;

/// One capture's graphs.
pub(super) struct Built<'a> {
    pub(super) file: &'a CaptureFile,
    pub(super) graphs: GraphSet,
    pub(super) read: ReadReport,
    pub(super) all_ids: BTreeSet<u32>,
    /// Ids of messages that are not injected.
    pub(super) benign_ids: BTreeSet<u32>,
    /// Test folder that a training capture without anything to learn from goes to.
    pub(super) moved_to: Option<String>,
}

impl Built<'_> {
    /// Parts with the graphs.
    pub(super) fn take_graphs(mut self) -> (Self, GraphSet) {
        let graphs = std::mem::replace(&mut self.graphs, GraphSet::empty(false));
        (self, graphs)
    }

    pub(super) fn report(&self, used_as: CaptureUse) -> CaptureReport {
        CaptureReport {
            folder: self.file.folder.clone(),
            name: self.file.name.clone(),
            used_as,
            read: Some(self.read.clone()),
            windows: self.graphs.len() as u64,
            attack_windows: self.graphs.attack_count() as u64,
        }
    }
}

/// Report of a capture that was not read, being a copy byte by byte.
pub(super) fn unread_copy(file: &CaptureFile, first: &str) -> CaptureReport {
    CaptureReport {
        folder: file.folder.clone(),
        name: file.name.clone(),
        used_as: CaptureUse::CopyOf(first.to_string()),
        read: None,
        windows: 0,
        attack_windows: 0,
    }
}

/// Adds up progress over threads.
pub(super) struct Counter<'a> {
    total: usize,
    done: AtomicUsize,
    rows: AtomicU64,
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl<'a> Counter<'a> {
    pub(super) fn new(total: usize, progress: &'a (dyn Fn(Progress) + Sync)) -> Self {
        Self { total, done: AtomicUsize::new(0), rows: AtomicU64::new(0), progress }
    }

    pub(super) fn capture_done(&self, rows: u64) {
        let captures_done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let rows = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        (self.progress)(Progress { captures_done, captures_total: self.total, rows });
    }
}

/// What all captures of one preparation share.
pub(super) struct Source<'a> {
    pub(super) config: &'a PrepareConfig,
    pub(super) read: &'a ReadOptions,
    pub(super) digest: &'a DatasetDigest,
    pub(super) counter: &'a Counter<'a>,
}

impl Source<'_> {
    /// Digest of the file, taken when the dataset's was.
    pub(super) fn sha256(&self, file: &CaptureFile) -> Result<ContentDigest> {
        let known = self.digest.capture(&file.folder, &file.name);
        known.map(|capture| capture.sha256).ok_or_else(|| {
            DataError::io("find the digest of", &file.path, std::io::ErrorKind::NotFound.into())
        })
    }

    /// Graphs of a training capture, its nodes named by arbitration id until the vocabulary is known.
    pub(super) fn training<'a>(&self, file: &'a CaptureFile) -> Result<Built<'a>> {
        let mut built = self.build(file, IdSpace::raw())?;
        if file.attack_kind == AttackKind::Suppress && built.read.attack_rows == 0 {
            built.moved_to = Some(format!("{}__suppress", file.folder));
        } else if !built.read.has_labels && !file.in_attack_free_folder() {
            return Err(DataError::UnlabelledTraining { path: file.path.clone() });
        }
        self.counter.capture_done(built.read.rows);
        Ok(built)
    }

    /// Graphs of a test capture.
    pub(super) fn test<'a>(&self, file: &'a CaptureFile, vocabulary: &Vocabulary) -> Result<Built<'a>> {
        let built = self.build(file, IdSpace::of(vocabulary))?;
        self.counter.capture_done(built.read.rows);
        Ok(built)
    }

    /// Makes the vocabulary and puts its indices in place of the arbitration ids.
    ///
    /// Indices ascend with the ids, so graphs stay as they are as long as no id is unknown. Where one is, several
    /// nodes of a window may become one, and the capture is built once more.
    ///
    /// Roles are numbered already: there the vocabulary is theirs, and the last one stands for strangers.
    pub(super) fn number_ids<'a>(&self, mut built: Vec<Built<'a>>) -> Result<(Vocabulary, Vec<Built<'a>>)> {
        if let NodeEncoding::Profile(_) = self.config.window.nodes {
            return Ok((Vocabulary::new(0..ROLES - 1), built));
        }
        let vocabulary = vocabulary_of(&built, self.config.vocabulary);
        built.par_iter_mut().with_max_len(1).try_for_each(|built| {
            let has_unknown =
                built.all_ids.iter().any(|&id| vocabulary.index_of(id) == vocabulary.oov_index());
            if has_unknown {
                built.graphs = self.build(built.file, IdSpace::of(&vocabulary))?.graphs;
            } else {
                built.graphs.node_id.iter_mut().for_each(|id| *id = vocabulary.index_of(*id));
            }
            Ok::<(), DataError>(())
        })?;
        Ok((vocabulary, built))
    }

    /// Varied copies of each training capture.
    pub(super) fn copies_wanted(&self) -> u32 {
        match self.config.window.nodes {
            NodeEncoding::Ids => 0,
            NodeEncoding::Profile(_) => self.config.varied_copies,
        }
    }

    /// Graphs of varied copy number `copy` of a capture, and which of them hold an added message.
    pub(super) fn varied(&self, file: &CaptureFile, copy: u32) -> Result<(GraphSet, Vec<bool>)> {
        let info = self.info(file)?;
        // Another stream for each capture, the same wherever the file lies.
        let seed = self.config.split.seed ^ seed_of(&info.sha256);
        let mut builder = CaptureBuilder::new(&self.config.window, IdSpace::raw(), info)
            .varied_by(Variation::new(seed, copy));
        read_capture(file, self.read, &mut |frames| builder.push(frames))?;
        builder.finish_varied()
    }

    fn info(&self, file: &CaptureFile) -> Result<CaptureInfo> {
        Ok(CaptureInfo {
            folder: file.folder.clone(),
            name: file.name.clone(),
            attack_kind: file.attack_kind,
            sha256: self.sha256(file)?,
            has_labels: true,
        })
    }

    fn build<'a>(&self, file: &'a CaptureFile, ids: IdSpace) -> Result<Built<'a>> {
        let capture = self.info(file)?;
        let mut builder = CaptureBuilder::new(&self.config.window, ids, capture);
        let mut seen = SeenIds::default();
        let read = read_capture(file, self.read, &mut |frames| {
            seen.add(frames);
            builder.push(frames)
        })?;
        let mut graphs = builder.finish()?;
        graphs.captures[0].has_labels = labels_mean_something(file, &read);
        let (all_ids, benign_ids) = seen.sets();
        Ok(Built { file, graphs, read, all_ids, benign_ids, moved_to: None })
    }
}

/// The first eight bytes of a digest as a number.
fn seed_of(digest: &ContentDigest) -> u64 {
    digest.as_bytes()[..8].iter().fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}

/// Suppress captures say 0 in every row although frames were taken away; logs without labels say nothing, unless
/// they lie where everything is known to be benign.
fn labels_mean_something(file: &CaptureFile, read: &ReadReport) -> bool {
    let is_suppress = file.attack_kind == AttackKind::Suppress && read.attack_rows == 0;
    (read.has_labels || file.in_attack_free_folder()) && !is_suppress
}

/// Number of ids that get a flag instead of a place in a set.
const FLAGGED_IDS: usize = crate::vocabulary::STANDARD_IDS;
const SEEN: u8 = 1;
const SEEN_BENIGN: u8 = 2;

/// The ids of a capture; standard ones as flags, for there is one look-up a message.
struct SeenIds {
    standard: Box<[u8]>,
    extended: std::collections::BTreeMap<u32, u8>,
}

impl Default for SeenIds {
    fn default() -> Self {
        Self { standard: vec![0; FLAGGED_IDS].into_boxed_slice(), extended: Default::default() }
    }
}

impl SeenIds {
    fn add(&mut self, frames: &Frames) {
        for (&id, &label) in frames.id.iter().zip(&frames.label) {
            let flags = if label == 0 { SEEN | SEEN_BENIGN } else { SEEN };
            match self.standard.get_mut(id as usize) {
                Some(slot) => *slot |= flags,
                None => *self.extended.entry(id).or_default() |= flags,
            }
        }
    }

    fn sets(self) -> (BTreeSet<u32>, BTreeSet<u32>) {
        let standard = (0u32..).zip(self.standard.iter().copied());
        let flagged: Vec<(u32, u8)> =
            standard.chain(self.extended).filter(|&(_, flags)| flags != 0).collect();
        let ids =
            |flag: u8| flagged.iter().filter(|&&(_, flags)| flags & flag != 0).map(|&(id, _)| id).collect();
        (ids(SEEN), ids(SEEN_BENIGN))
    }
}
