//! What can go wrong at the store. A caller branches on [`ArtifactError::is_transient`]; a person reads
//! the text, which names the object and the way out.

use common::digest::Digest;
use object_store::client::HttpError;
use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("store URL {url:?}: {problem}; write file:///folder, s3://bucket/prefix or memory://")]
    BadUrl { url: String, problem: String },

    #[error("object key {key:?}: {problem}")]
    BadKey { key: String, problem: String },

    /// There is no such object (or, for a write, no such bucket).
    #[error("{at} does not exist{}", mend_missing(.at))]
    Missing { at: String },

    #[error(
        "{at}: the store refuses access ({cause}); check the owner and mode of the folder, or the access \
         key, secret key and bucket policy (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
    )]
    Denied { at: String, cause: String },

    #[error(
        "{at}: no space left ({cause}); free some space or raise the quota, a later run goes on from here"
    )]
    Full { at: String, cause: String },

    /// The store cannot be reached or is overloaded: trying again later can help.
    #[error(
        "{at}: the store does not answer ({cause}); check the endpoint (AWS_ENDPOINT_URL) and the network"
    )]
    Unavailable { at: String, cause: String },

    #[error("{at}: no answer within {after_ms} ms")]
    TimedOut { at: String, after_ms: u64 },

    #[error("{at} holds {bytes} bytes, more than the {max_bytes} allowed here")]
    TooLarge { at: String, bytes: u64, max_bytes: u64 },

    /// More objects than [`crate::store::LIST_MAX`]: the prefix is too wide.
    #[error("{at} lists more than {max} objects; ask for a longer prefix")]
    TooMany { at: String, max: usize },

    #[error("{at} is damaged: expected SHA-256 {expected}, found {found}")]
    Corrupt { at: String, expected: Digest, found: Digest },

    /// A file of this machine: what is uploaded, fetched to or cached.
    #[error("{}: cannot {doing}: {source}{}", .path.display(), mend_local(.source))]
    Local { path: PathBuf, doing: &'static str, source: io::Error },

    /// Anything else the store said. Not retried.
    #[error("{at}: {cause}")]
    Store { at: String, cause: String },
}

impl ArtifactError {
    /// Can the same call succeed later without anyone mending anything?
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::TimedOut { .. })
    }

    /// Translates an error of object_store about the object or folder `at` (a URL).
    pub(crate) fn from_store(at: String, error: object_store::Error) -> ArtifactError {
        use object_store::Error as E;
        match error {
            E::NotFound { .. } => Self::Missing { at },
            E::PermissionDenied { source, .. } | E::Unauthenticated { source, .. } => {
                Self::Denied { at, cause: source.to_string() }
            }
            E::InvalidPath { source } => Self::BadKey { key: at, problem: source.to_string() },
            other => Self::from_chain(at, &other),
        }
    }

    /// object_store wraps what happened several levels deep; the innermost known cause decides.
    fn from_chain(at: String, error: &(dyn StdError + 'static)) -> ArtifactError {
        let cause = error.to_string();
        let mut current = Some(error);
        while let Some(e) = current {
            if let Some(io) = e.downcast_ref::<io::Error>()
                && let Some(known) = from_io_kind(&at, io)
            {
                return known;
            }
            if e.downcast_ref::<HttpError>().is_some() {
                return Self::Unavailable { at, cause };
            }
            current = e.source();
        }
        match server_is_struggling(&cause) {
            true => Self::Unavailable { at, cause },
            false => Self::Store { at, cause },
        }
    }

    pub(crate) fn local<'a>(
        doing: &'static str,
        path: &'a Path,
    ) -> impl Fn(io::Error) -> ArtifactError + Copy + use<'a> {
        move |source| Self::Local { path: path.to_owned(), doing, source }
    }
}

fn from_io_kind(at: &str, error: &io::Error) -> Option<ArtifactError> {
    let (at, cause) = (at.to_owned(), error.to_string());
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Some(ArtifactError::Denied { at, cause })
        }
        io::ErrorKind::NotADirectory => Some(ArtifactError::Denied {
            at,
            cause: format!("{cause}: a file stands where its folder should be"),
        }),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Some(ArtifactError::Full { at, cause })
        }
        io::ErrorKind::NotFound => Some(ArtifactError::Missing { at }),
        _ => None,
    }
}

/// The HTTP status is not part of object_store's public errors, only of their text.
fn server_is_struggling(text: &str) -> bool {
    let by_status = ["5", "429", "408"].iter().any(|s| text.contains(&format!("status code: {s}")));
    by_status || text.contains("<Code>SlowDown</Code>") || text.contains("<Code>InternalError</Code>")
}

fn mend_missing(at: &str) -> &'static str {
    match at.starts_with("s3://") {
        true => " (if this is a write: create the bucket first)",
        false => "",
    }
}

fn mend_local(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space, a later run goes on",
        io::ErrorKind::PermissionDenied => "; check owner and mode",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl StdError + Send + Sync + 'static) -> ArtifactError {
        let error = object_store::Error::Generic { store: "test", source: Box::new(source) };
        ArtifactError::from_store("s3://b/k".to_owned(), error)
    }

    #[test]
    fn the_innermost_cause_decides() {
        assert!(matches!(generic(io::Error::from(io::ErrorKind::StorageFull)), ArtifactError::Full { .. }));
        let read_only = generic(io::Error::from(io::ErrorKind::ReadOnlyFilesystem));
        assert!(matches!(read_only, ArtifactError::Denied { .. }));
        assert!(!read_only.is_transient());
        let cut = HttpError::new(object_store::client::HttpErrorKind::Interrupted, io::Error::other("cut"));
        assert!(generic(cut).is_transient());
        assert!(matches!(generic(io::Error::other("odd")), ArtifactError::Store { .. }));
    }

    #[test]
    fn a_missing_bucket_says_how_to_mend_it() {
        let path = "k".to_owned();
        let gone = object_store::Error::NotFound { path, source: "NoSuchBucket".into() };
        let told = ArtifactError::from_store("s3://b/k".to_owned(), gone).to_string();
        assert!(told.contains("s3://b/k") && told.contains("create the bucket"), "{told}");
    }

    #[test]
    fn a_struggling_server_is_transient_and_a_wrong_request_is_not() {
        let said = |status: &str| {
            generic(io::Error::other(format!("Server returned non-2xx status code: {status}: x")))
        };
        assert!(said("503 Service Unavailable").is_transient());
        assert!(said("429 Too Many Requests").is_transient());
        assert!(!said("400 Bad Request").is_transient());
    }
}
