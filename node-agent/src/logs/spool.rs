//! One attempt's log on this disk, and the note of how much of it was sent.
//!
//! The note is written before a piece is sent and after it was: whoever goes on, in this life or the next, sends
//! the same piece again or the one after it, never one that overlaps.

use crate::workdir::Layout;
use agent_core::RunId;
use artifacts::ArtifactError;
use common::ids::{Attempt, JobId, NodeId};
use common::job_key::JobKey;
use common::logs::{LogPiece, PIECE_MAX_BYTES};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A store that refuses an archive is asked again so late at most.
const ARCHIVE_RETRY_MAX: Duration = Duration::from_secs(300);

/// How far a log is on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub job: JobId,
    pub key: JobKey,
    pub attempt: Attempt,
    pub node: NodeId,
    /// Bytes of the log that were sent.
    sent: u64,
    /// Bytes of the piece that is being sent.
    under_way: u64,
    last_sent: bool,
    archived: bool,
}

impl Note {
    pub fn new(job: JobId, run: RunId, node: NodeId) -> Note {
        let RunId { key, attempt } = run;
        Note { job, key, attempt, node, sent: 0, under_way: 0, last_sent: false, archived: false }
    }

    pub fn run(&self) -> RunId {
        RunId { key: self.key, attempt: self.attempt }
    }

    fn log(&self, layout: &Layout) -> PathBuf {
        layout.process_log(&self.job, &self.run())
    }

    fn path(&self, layout: &Layout) -> PathBuf {
        layout.log_notes().join(format!("{}.{}.json", self.key, self.attempt))
    }

    fn write(&self, layout: &Layout) -> io::Result<()> {
        let path = self.path(layout);
        let temp = path.with_extension("part");
        fs::write(&temp, serde_json::to_vec(self)?)?;
        fs::rename(&temp, &path)
    }
}

pub struct Spool {
    pub note: Note,
    /// The trainer is gone.
    pub ended: bool,
    pub archiving: Option<JoinHandle<Result<(), ArtifactError>>>,
    complained: bool,
    archive_at: Option<Instant>,
    archive_wait: Duration,
}

/// Logs of trainers that died with an earlier life of the agent, or were not done with at its end.
pub fn left_behind(layout: &Layout) -> BTreeMap<RunId, Spool> {
    let Ok(entries) = fs::read_dir(layout.log_notes()) else { return BTreeMap::new() };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let notes = files.filter(|path| path.extension().is_some_and(|e| e == "json"));
    let read = |path: PathBuf| serde_json::from_slice::<Note>(&fs::read(path).ok()?).ok();
    notes.filter_map(read).map(|note| (note.run(), Spool::of(note, true))).collect()
}

impl Spool {
    fn of(note: Note, ended: bool) -> Spool {
        let archive_wait = Duration::from_secs(1);
        Spool { note, ended, archiving: None, complained: false, archive_at: None, archive_wait }
    }

    pub fn begin(layout: &Layout, note: Note) -> Spool {
        if let Err(error) = note.write(layout) {
            tracing::warn!(run = %note.run(), %error, "a log is not noted: it is lost if this agent dies");
        }
        Spool::of(note, false)
    }

    /// What is to be sent now. The same until it was [`sent`](Spool::sent).
    pub fn next_piece(&mut self, layout: &Layout, cap_bytes: u64) -> io::Result<Option<LogPiece>> {
        if self.note.last_sent {
            return Ok(None);
        }
        let mut log = File::open(self.note.log(layout))?;
        let end = log.metadata()?.len();
        let most = match self.note.under_way {
            0 => end.min(cap_bytes).saturating_sub(self.note.sent).min(PIECE_MAX_BYTES as u64),
            bytes => bytes,
        };
        log.seek(SeekFrom::Start(self.note.sent))?;
        let mut bytes = Vec::new();
        log.take(most).read_to_end(&mut bytes)?;
        if self.note.under_way == 0 {
            let whole = whole_lines(&bytes, self.ended);
            bytes.truncate(whole);
        }
        if bytes.is_empty() {
            let over = self.ended.then(|| self.piece(&[], dropped(end, cap_bytes, &self.note), true));
            return Ok(over);
        }
        if self.note.under_way == 0 {
            self.note.under_way = bytes.len() as u64;
            self.note.write(layout)?;
        }
        Ok(Some(self.piece(&bytes, String::from_utf8_lossy(&bytes).into_owned(), false)))
    }

    fn piece(&self, bytes: &[u8], text: String, last: bool) -> LogPiece {
        let Note { job, key, attempt, node, sent, .. } = self.note.clone();
        LogPiece { job, key, attempt, node, offset: sent, bytes: bytes.len() as u64, text, last }
    }

    pub fn sent(&mut self, layout: &Layout, piece: &LogPiece) -> io::Result<()> {
        (self.note.sent, self.note.under_way) = (piece.end(), 0);
        self.note.last_sent = piece.last;
        self.note.write(layout)
    }

    pub fn wants_archive(&self) -> bool {
        let now = Instant::now();
        self.ended
            && !self.note.archived
            && self.archiving.is_none()
            && self.archive_at.is_none_or(|at| now >= at)
    }

    /// The log as it is archived.
    pub fn whole(&self, layout: &Layout, cap_bytes: u64) -> io::Result<Vec<u8>> {
        let log = File::open(self.note.log(layout))?;
        let end = log.metadata()?.len();
        let mut bytes = Vec::new();
        log.take(cap_bytes).read_to_end(&mut bytes)?;
        bytes.extend_from_slice(dropped(end, cap_bytes, &self.note).as_bytes());
        Ok(bytes)
    }

    pub fn archived(&mut self, layout: &Layout) -> io::Result<()> {
        self.note.archived = true;
        self.note.write(layout)
    }

    pub fn archive_failed(&mut self, error: &str) {
        tracing::warn!(run = %self.note.run(), error, "the log is not archived yet");
        self.archive_at = Some(Instant::now() + self.archive_wait);
        self.archive_wait = (self.archive_wait * 2).min(ARCHIVE_RETRY_MAX);
    }

    /// Something of this disk went wrong, and is tried again: told once.
    pub fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            tracing::warn!(run = %self.note.run(), %error, "a log can not be sent now");
        }
    }

    pub fn is_done(&self) -> bool {
        self.note.last_sent && self.note.archived
    }

    pub fn forget(&self, layout: &Layout) {
        let path = self.note.path(layout);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "a note can not be deleted");
        }
    }
}

/// How much of `bytes` may be sent: whole lines, a line that fills a piece, or the last line of a dead trainer.
fn whole_lines(bytes: &[u8], ended: bool) -> usize {
    match bytes.iter().rposition(|b| *b == b'\n') {
        Some(at) => at + 1,
        None if ended || bytes.len() >= PIECE_MAX_BYTES => bytes.len(),
        None => 0,
    }
}

fn dropped(end: u64, cap_bytes: u64, note: &Note) -> String {
    match end.saturating_sub(cap_bytes) {
        0 => String::new(),
        more => format!("node-agent: {more} bytes more are on node {} only\n", note.node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::WorkDir;
    use common::digest::Digest;
    use common::ids::{DatasetId, JobName, Phase, PlanId};
    use std::io::Write;

    const CAP: u64 = 1 << 20;

    fn note() -> Note {
        let name = JobName::new(DatasetId::new("d").unwrap(), Phase::Teacher);
        let run = RunId { key: JobKey(Digest::of(b"k")), attempt: Attempt(2) };
        Note::new(JobId { plan: PlanId::new("p").unwrap(), name }, run, NodeId::new("n").unwrap())
    }

    fn append(layout: &Layout, text: &str) {
        let path = note().log(layout);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut log = File::options().create(true).append(true).open(path).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn pieces_are_whole_lines_in_order_and_the_end_is_told() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkDir::take(root.path()).unwrap();
        let layout = work.layout();
        append(&layout, "one\ntwo\nthr");
        let mut spool = Spool::begin(&layout, note());
        let first = spool.next_piece(&layout, CAP).unwrap().unwrap();
        assert_eq!((first.offset, first.text.as_str(), first.last), (0, "one\ntwo\n", false));
        append(&layout, "ee\n");
        assert_eq!(spool.next_piece(&layout, CAP).unwrap().unwrap(), first, "the same until it was sent");
        spool.sent(&layout, &first).unwrap();
        let second = spool.next_piece(&layout, CAP).unwrap().unwrap();
        assert_eq!((second.offset, second.text.as_str()), (8, "three\n"));
        spool.sent(&layout, &second).unwrap();
        append(&layout, "torn");
        assert_eq!(spool.next_piece(&layout, CAP).unwrap(), None);
        spool.ended = true;
        let torn = spool.next_piece(&layout, CAP).unwrap().unwrap();
        assert_eq!((torn.offset, torn.text.as_str()), (14, "torn"));
        spool.sent(&layout, &torn).unwrap();
        let last = spool.next_piece(&layout, CAP).unwrap().unwrap();
        assert!(last.last && last.bytes == 0 && last.offset == 18);
        spool.sent(&layout, &last).unwrap();
        assert_eq!(spool.next_piece(&layout, CAP).unwrap(), None);
        assert!(spool.wants_archive() && !spool.is_done());
        spool.archived(&layout).unwrap();
        assert!(spool.is_done());
        spool.forget(&layout);
        assert!(left_behind(&layout).is_empty());
    }

    #[test]
    fn the_next_life_sends_the_piece_under_way_again_as_it_was() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkDir::take(root.path()).unwrap();
        let layout = work.layout();
        append(&layout, "one\n");
        let under_way = Spool::begin(&layout, note()).next_piece(&layout, CAP).unwrap().unwrap();
        append(&layout, "two\n");
        let mut left = left_behind(&layout);
        let spool = left.get_mut(&note().run()).unwrap();
        assert!(spool.ended, "its trainer died with the agent");
        assert_eq!(spool.next_piece(&layout, CAP).unwrap().unwrap(), under_way);
        spool.sent(&layout, &under_way).unwrap();
        assert_eq!(spool.next_piece(&layout, CAP).unwrap().unwrap().text, "two\n");
    }

    #[test]
    fn what_is_beyond_the_limit_is_counted() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkDir::take(root.path()).unwrap();
        let layout = work.layout();
        append(&layout, "one\ntwo\nthree\n");
        let mut spool = Spool::begin(&layout, note());
        spool.ended = true;
        let first = spool.next_piece(&layout, 8).unwrap().unwrap();
        assert_eq!(first.text, "one\ntwo\n");
        spool.sent(&layout, &first).unwrap();
        let last = spool.next_piece(&layout, 8).unwrap().unwrap();
        assert!(last.last && last.text == "node-agent: 6 bytes more are on node n only\n", "{last:?}");
        assert!(spool.whole(&layout, 8).unwrap().starts_with(b"one\ntwo\nnode-agent: 6 bytes more"));
    }
}
