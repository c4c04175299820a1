//! The only door to object storage: a folder, an S3-compatible server, or memory, behind one [`Store`].
//!
//! | module | holds |
//! |--|--|
//! | [`options`] | what a URL and its credentials mean |
//! | [`store`] | [`Store`]: open, put, get, head, list, delete of small objects |
//! | [`transfer`] | whole files up and down, digest computed on the way |
//! | [`run`] | one attempt's files and manifest: upload (manifest last), verify, fetch |
//! | [`cache`] | files by digest on the local disk |
//! | [`error`] | what can go wrong, and whether trying again can help |
//! | `testing` | a real S3 server as a child process (feature `testing`) |
//!
//! Rules of the room:
//! - Keys of results carry the attempt, so a plain put is safe and may be repeated. Nothing here rests on
//!   conditional puts: several S3 servers ignore `If-None-Match` without saying so.
//! - A put has returned only when the bytes are durable (file stores: file and folder are synced).
//! - Every call ends: requests, whole operations and retries are bounded by [`StoreOptions`].
//! - May touch: object_store, the local disk. May not touch: the bus, decisions about jobs.

pub mod cache;
pub mod error;
mod hashing;
pub mod options;
pub mod run;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod transfer;

pub use cache::Cache;
pub use error::ArtifactError;
pub use options::{Secret, StoreOptions};
pub use run::{LocalFile, UploadedRun, VerifyError};
pub use store::{Listed, ObjectHead, Store};
pub use transfer::ObjectInfo;
