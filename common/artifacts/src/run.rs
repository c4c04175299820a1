//! One attempt's result in the store: its files below the attempt's folder, and `manifest.json`, written
//! last. No manifest = no result; a manifest = everything it names was whole when it was written.

use crate::cache::Cache;
use crate::error::ArtifactError;
use crate::store::{Store, parse_key};
use bytes::Bytes;
use common::digest::Digest;
use common::manifest::{FileEntry, MANIFEST_NAME, Manifest};
use futures::{StreamExt, TryStreamExt, stream};
use std::path::{Path, PathBuf};

/// A manifest is a page of JSON; anything near this is none.
const MANIFEST_MAX_BYTES: u64 = 16 << 20;
const HEADS_IN_FLIGHT: usize = 8;

/// A file of this machine that becomes `<run prefix>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Below the attempt's folder, no leading slash.
    pub name: String,
    pub path: PathBuf,
}

/// What an upload leaves behind: enough to report the attempt as finished.
#[derive(Debug, Clone, PartialEq)]
pub struct UploadedRun {
    pub manifest: Manifest,
    pub manifest_digest: Digest,
}

/// Why an attempt's result is not what its report says. All but `Unavailable` are final for this attempt.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("{at} is missing")]
    Missing { at: String },
    #[error("{at} holds {found} bytes, its manifest says {expected}")]
    SizeDiffers { at: String, expected: u64, found: u64 },
    #[error("{at} has SHA-256 {found}, the report says {expected}")]
    DigestDiffers { at: String, expected: Digest, found: Digest },
    #[error("{at} is no manifest: {problem}")]
    BadManifest { at: String, problem: String },
    /// The store did not answer; nothing is known about the result. Try again.
    #[error(transparent)]
    Unavailable(ArtifactError),
    /// The store answered, and asking again would not help.
    #[error(transparent)]
    Store(ArtifactError),
}

impl VerifyError {
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl From<ArtifactError> for VerifyError {
    fn from(error: ArtifactError) -> Self {
        match error {
            ArtifactError::Missing { at } => Self::Missing { at },
            e if e.is_transient() => Self::Unavailable(e),
            e => Self::Store(e),
        }
    }
}

/// Uploads the files in the order given. Safe to repeat: the keys carry the attempt.
pub async fn upload_files(
    store: &Store,
    run_prefix: &str,
    files: &[LocalFile],
) -> Result<Vec<FileEntry>, ArtifactError> {
    let mut entries = Vec::with_capacity(files.len());
    for file in files {
        let info = store.put_file(&key_of(run_prefix, &file.name), &file.path).await?;
        entries.push(FileEntry { name: file.name.clone(), bytes: info.bytes, sha256: info.sha256 });
    }
    Ok(entries)
}

/// Writes the manifest. Only after everything it names: [`upload_run`] keeps that order.
pub async fn put_manifest(
    store: &Store,
    run_prefix: &str,
    manifest: &Manifest,
) -> Result<Digest, ArtifactError> {
    let key = key_of(run_prefix, MANIFEST_NAME);
    let bytes = manifest
        .to_bytes()
        .map_err(|e| ArtifactError::Store { at: store.url(&key), cause: e.to_string() })?;
    let digest = Digest::of(&bytes);
    store.put(&key, bytes).await?;
    Ok(digest)
}

/// Uploads all files, then the manifest that `describe` makes of their entries.
pub async fn upload_run(
    store: &Store,
    run_prefix: &str,
    files: &[LocalFile],
    describe: impl FnOnce(Vec<FileEntry>) -> Manifest,
) -> Result<UploadedRun, ArtifactError> {
    let manifest = describe(upload_files(store, run_prefix, files).await?);
    let manifest_digest = put_manifest(store, run_prefix, &manifest).await?;
    Ok(UploadedRun { manifest, manifest_digest })
}

/// The manifest of an attempt, if its bytes have this digest.
pub async fn get_manifest(
    store: &Store,
    run_prefix: &str,
    manifest_digest: &Digest,
) -> Result<Manifest, VerifyError> {
    let key = key_of(run_prefix, MANIFEST_NAME);
    let bytes: Bytes = store.get(&key, MANIFEST_MAX_BYTES).await?;
    let (at, found) = (store.url(&key), Digest::of(&bytes));
    if found != *manifest_digest {
        return Err(VerifyError::DigestDiffers { at, expected: *manifest_digest, found });
    }
    Manifest::from_bytes(&bytes).map_err(|e| VerifyError::BadManifest { at, problem: e.to_string() })
}

/// Is the result whole? Digest of the manifest, presence and size of each object it names. The objects'
/// own digests are checked by whoever fetches them.
pub async fn verify_run(
    store: &Store,
    run_prefix: &str,
    manifest_digest: &Digest,
) -> Result<Manifest, VerifyError> {
    let manifest = get_manifest(store, run_prefix, manifest_digest).await?;
    stream::iter(manifest.files.iter().map(|entry| verify_entry(store, run_prefix, entry)))
        .buffered(HEADS_IN_FLIGHT)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    Ok(manifest)
}

async fn verify_entry(store: &Store, run_prefix: &str, entry: &FileEntry) -> Result<(), VerifyError> {
    let key = key_of(run_prefix, &entry.name);
    let at = store.url(&key);
    match store.head(&key).await? {
        None => Err(VerifyError::Missing { at }),
        Some(head) if head.bytes != entry.bytes => {
            Err(VerifyError::SizeDiffers { at, expected: entry.bytes, found: head.bytes })
        }
        Some(_) => Ok(()),
    }
}

/// Fetches files of an attempt into `dest_dir/<name>`, each checked against its digest, from the cache
/// where it has them. Gives the paths in the order of `entries`.
pub async fn fetch_files(
    store: &Store,
    run_prefix: &str,
    entries: &[FileEntry],
    dest_dir: &Path,
    cache: Option<&Cache>,
) -> Result<Vec<PathBuf>, ArtifactError> {
    let mut paths = Vec::with_capacity(entries.len());
    for entry in entries {
        // The same rule that keeps keys inside the store keeps names inside `dest_dir`.
        let dest = dest_dir.join(parse_key(&entry.name)?.as_ref());
        let cached = match cache {
            Some(cache) => cache.copy_out(&entry.sha256, &dest).await?,
            None => false,
        };
        if !cached {
            store.get_file(&key_of(run_prefix, &entry.name), &dest, Some(&entry.sha256)).await?;
            if let Some(cache) = cache {
                cache.keep(&entry.sha256, &dest).await;
            }
        }
        paths.push(dest);
    }
    Ok(paths)
}

/// [`fetch_files`] for the names wanted of a committed result; a name its manifest lacks is `Missing`.
pub async fn fetch_run(
    store: &Store,
    run_prefix: &str,
    manifest_digest: &Digest,
    names: &[&str],
    dest_dir: &Path,
    cache: Option<&Cache>,
) -> Result<Vec<PathBuf>, VerifyError> {
    let manifest = get_manifest(store, run_prefix, manifest_digest).await?;
    let entry_of = |name: &&str| {
        let found = manifest.files.iter().find(|entry| entry.name == **name).cloned();
        found.ok_or_else(|| VerifyError::Missing { at: store.url(&key_of(run_prefix, name)) })
    };
    let entries = names.iter().map(entry_of).collect::<Result<Vec<_>, _>>()?;
    Ok(fetch_files(store, run_prefix, &entries, dest_dir, cache).await?)
}

fn key_of(run_prefix: &str, name: &str) -> String {
    format!("{run_prefix}/{name}")
}
