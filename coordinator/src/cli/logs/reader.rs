//! How much of each attempt's log was shown, and what of the next piece is new.

use crate::output::Out;
use crate::output::logs as page;
use anyhow::Result;
use artifacts::{ArtifactError, Store};
use common::chain::PastAttempt;
use common::ids::{Attempt, JobName};
use common::job_key::JobKey;
use common::logs::{LogPiece, archive_of, news_of};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// An agent archives no more of a log than its own limit, far below this.
const ARCHIVE_MAX_BYTES: u64 = 4 << 30;

#[derive(Default)]
struct Known {
    /// Bytes that were shown, or are known to be lost.
    read: u64,
    /// Nothing follows.
    over: bool,
}

pub struct Reader {
    out: Out,
    store: Option<Store>,
    job: JobName,
    key: JobKey,
    /// Only this one is shown.
    only: Option<Attempt>,
    known: BTreeMap<Attempt, Known>,
    /// Whose lines were written last.
    shown: Option<Attempt>,
    /// Attempts without a result, told or first seen when.
    told: BTreeSet<Attempt>,
    ended_at: BTreeMap<Attempt, Instant>,
}

impl Reader {
    pub fn new(out: Out, store: Option<Store>, job: JobName, key: JobKey, only: Option<Attempt>) -> Reader {
        let (known, told, ended_at) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Reader { out, store, job, key, only, known, shown: None, told, ended_at }
    }

    pub fn key(&self) -> JobKey {
        self.key
    }

    fn wanted(&self, attempt: Attempt) -> bool {
        self.only.is_none_or(|only| only == attempt)
    }

    pub fn is_over(&self, attempt: Attempt) -> bool {
        !self.wanted(attempt) || self.known.get(&attempt).is_some_and(|known| known.over)
    }

    pub fn is_silent(&self) -> bool {
        self.shown.is_none() && self.told.is_empty()
    }

    /// Shows what is new in the archive of an attempt that is over; whether there is one.
    pub async fn archived(&mut self, attempt: Attempt) -> Result<bool> {
        let (true, Some(store)) = (self.wanted(attempt), &self.store) else { return Ok(false) };
        let bytes = match store.get(&archive_of(&self.key, attempt), ARCHIVE_MAX_BYTES).await {
            Ok(bytes) => bytes,
            Err(ArtifactError::Missing { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let known = self.known.entry(attempt).or_default();
        let read = usize::try_from(known.read).unwrap_or(usize::MAX).min(bytes.len());
        *known = Known { read: bytes.len() as u64, over: true };
        let text = String::from_utf8_lossy(&bytes[read..]);
        self.show(attempt, None, read as u64, &text);
        Ok(true)
    }

    /// Shows what is new in a piece. One that does not follow on means that the stream forgot what is before it.
    pub async fn piece(&mut self, piece: &LogPiece) -> Result<()> {
        let attempt = piece.attempt;
        if self.is_over(attempt) {
            return Ok(());
        }
        let read = self.known.entry(attempt).or_default().read;
        let news = match news_of(piece, read) {
            Some(Err(gap)) if !self.archived(attempt).await? => {
                self.out
                    .talk(&format!("{gap} bytes of attempt {} are not in the stream any more", attempt.0));
                Some(piece.text.as_str())
            }
            Some(Err(_archived)) => return Ok(()),
            Some(Ok(text)) => Some(text),
            None => Some(piece.text.as_str()).filter(|_| piece.last),
        };
        if let Some(text) = news {
            self.show(attempt, Some(piece.node.as_str()), piece.offset, text);
        }
        let known = self.known.entry(attempt).or_default();
        known.read = known.read.max(piece.end());
        known.over |= piece.last;
        Ok(())
    }

    /// An attempt ended without a result: told once.
    pub fn ended(&mut self, past: &PastAttempt) {
        if self.wanted(past.attempt) && self.told.insert(past.attempt) {
            page::ended(self.out, &self.job, past);
        }
    }

    /// The same, when its lines were shown or do not come for `patience`.
    pub fn ended_when_read(&mut self, past: &PastAttempt, patience: Duration) {
        let since = *self.ended_at.entry(past.attempt).or_insert_with(Instant::now);
        if self.is_over(past.attempt) || since.elapsed() > patience {
            self.ended(past);
        }
    }

    /// The last lines of an attempt did not come.
    pub fn unfinished(&self, attempt: Attempt) {
        self.out.talk(&format!(
            "the end of attempt {}'s log has not arrived: its node may be away; it is on that node's disk",
            attempt.0
        ));
    }

    fn show(&mut self, attempt: Attempt, node: Option<&str>, offset: u64, text: &str) {
        if text.is_empty() {
            return;
        }
        let begins = self.shown.replace(attempt) != Some(attempt);
        page::lines(
            self.out,
            &page::Lines {
                job: &self.job,
                attempt,
                node,
                offset,
                begins: begins && self.only.is_none(),
                text,
            },
        );
    }
}
