//! Log lines of attempts on their way to whoever follows them.
//!
//! The agent spools each attempt's log on its disk and sends it in pieces, in order, to the stream
//! [`STREAM_LOGS`](crate::subjects::STREAM_LOGS) on [`logs_of`](crate::subjects::logs_of) the job's key. Pieces
//! overlap never and leave nothing out: each begins where the one before ended, so a reader that knows how far it
//! read goes on there, over reconnects and doubled messages. When the attempt is over the whole log lies in the
//! store under [`archive_of`].

use crate::ids::{Attempt, JobId, NodeId};
use crate::job_key::JobKey;
use crate::registry::attempt_prefix;
use serde::{Deserialize, Serialize};

/// Largest text of one piece, in bytes of the spool.
pub const PIECE_MAX_BYTES: usize = 32 * 1024;

/// Name of the archived log below the attempt's folder.
pub const ARCHIVE_NAME: &str = "log.txt";

/// One piece of an attempt's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPiece {
    pub job: JobId,
    pub key: JobKey,
    pub attempt: Attempt,
    pub node: NodeId,
    /// Bytes of the spool before this piece.
    pub offset: u64,
    /// Bytes of the spool in this piece. `text` may be longer: what is no UTF-8 was replaced.
    pub bytes: u64,
    /// Whole lines, but for a line longer than a piece and the last one.
    pub text: String,
    /// Nothing follows of this attempt.
    pub last: bool,
}

impl LogPiece {
    /// Where the next piece begins.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.bytes)
    }

    /// `Nats-Msg-Id`: sending a piece twice leaves one message.
    pub fn message_id(&self) -> String {
        let last = if self.last { ".last" } else { "" };
        format!("log.{}.{}.{}.{}{last}", self.job.plan, self.key, self.attempt, self.offset)
    }
}

/// Key of an attempt's whole log in the store, written when the attempt is over.
pub fn archive_of(key: &JobKey, attempt: Attempt) -> String {
    format!("{}/{ARCHIVE_NAME}", attempt_prefix(key, attempt))
}

/// What of `piece` is new to a reader that has `read` bytes of its attempt.
///
/// `None`: known already. `Some(Err(gap))`: so many bytes before it are missing (the stream forgot them; the archive
/// or the agent's disk has them). `Some(Ok(text))`: to be shown.
pub fn news_of(piece: &LogPiece, read: u64) -> Option<Result<&str, u64>> {
    if piece.offset > read {
        return Some(Err(piece.offset - read));
    }
    (piece.end() > read && piece.offset == read).then_some(Ok(piece.text.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::ids::{DatasetId, JobName, Phase, PlanId};

    #[test]
    fn a_reader_shows_each_piece_once_and_notices_a_gap() {
        let name = JobName::new(DatasetId::new("d").unwrap(), Phase::Teacher);
        let piece = LogPiece {
            job: JobId { plan: PlanId::new("p").unwrap(), name },
            key: JobKey(Digest::of(b"k")),
            attempt: Attempt(2),
            node: NodeId::new("n").unwrap(),
            offset: 10,
            bytes: 5,
            text: "line\n".into(),
            last: false,
        };
        assert_eq!(news_of(&piece, 10), Some(Ok("line\n")));
        assert_eq!(news_of(&piece, 15), None);
        assert_eq!(news_of(&piece, 4), Some(Err(6)));
        let last = LogPiece { last: true, bytes: 0, text: String::new(), ..piece.clone() };
        assert_ne!(last.message_id(), piece.message_id());
        assert!(archive_of(&piece.key, piece.attempt).ends_with("/a2/log.txt"));
    }
}
