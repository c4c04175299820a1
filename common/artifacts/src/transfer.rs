//! Whole files up and down. The digest is computed over the very bytes that travel, so it is right even if
//! the file on disk changes meanwhile.

use crate::error::ArtifactError;
use crate::hashing::Hasher;
use crate::store::{Store, parse_key};
use bytes::Bytes;
use common::digest::Digest;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;
use tokio::task::spawn_blocking;

/// One request of a big transfer. S3 wants at least 5 MiB a part and takes 10,000 parts: files up to 80 GB.
const PART_BYTES: usize = 8 << 20;
/// Files up to this size are one request.
const SINGLE_PUT_MAX_BYTES: u64 = 16 << 20;
/// Parts under way at once: keeps a transfer's memory below 40 MiB.
const PARTS_IN_FLIGHT: usize = 4;

/// What was stored or fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectInfo {
    pub bytes: u64,
    pub sha256: Digest,
}

impl Store {
    /// Uploads a file of this machine. The object appears whole or not at all.
    #[tracing::instrument(
        name = "artifact.push",
        skip_all,
        fields(otel.kind = "client", peer.service = "object-store", object = key)
    )]
    pub async fn put_file(&self, key: &str, path: &Path) -> Result<ObjectInfo, ArtifactError> {
        let object = parse_key(key)?;
        let (mut reader, size) = PartReader::open(path.to_owned()).await?;
        if size <= SINGLE_PUT_MAX_BYTES {
            let (mut reader, bytes) = reader.read(SINGLE_PUT_MAX_BYTES as usize + 1).await?;
            if bytes.len() as u64 <= SINGLE_PUT_MAX_BYTES {
                self.put(key, bytes).await?;
                return Ok(reader.info());
            }
            return Err(ArtifactError::local("upload", path)(std::io::Error::other("the file is growing")));
        }
        let mut upload = self.call(key, self.inner.put_multipart(&object)).await?;
        match self.send_parts(key, &mut *upload, &mut reader).await {
            Ok(()) => Ok(reader.info()),
            Err(e) => {
                // Best effort: parts that stay behind are invisible, only the bill shows them.
                if let Err(left) = self.call(key, upload.abort()).await {
                    tracing::warn!(key, error = %left, "could not discard the parts of a failed upload");
                }
                Err(e)
            }
        }
    }

    async fn send_parts(
        &self,
        key: &str,
        upload: &mut dyn MultipartUpload,
        reader: &mut PartReader,
    ) -> Result<(), ArtifactError> {
        let mut under_way = stream::FuturesUnordered::new();
        loop {
            let (next, bytes) = std::mem::take(reader).read(PART_BYTES).await?;
            *reader = next;
            if bytes.is_empty() {
                break;
            }
            under_way.push(self.call(key, upload.put_part(PutPayload::from_bytes(bytes))));
            if under_way.len() >= PARTS_IN_FLIGHT {
                under_way.next().await.transpose()?;
            }
        }
        while under_way.next().await.transpose()?.is_some() {}
        drop(under_way);
        self.call(key, upload.complete()).await.map(drop)
    }

    /// Fetches an object into a file: written beside `dest`, checked against `expect`, synced, renamed. What
    /// was at `dest` stays until then. Folders on the way are made.
    #[tracing::instrument(
        name = "artifact.pull",
        skip_all,
        fields(otel.kind = "client", peer.service = "object-store", object = key)
    )]
    pub async fn get_file(
        &self,
        key: &str,
        dest: &Path,
        expect: Option<&Digest>,
    ) -> Result<ObjectInfo, ArtifactError> {
        let object = parse_key(key)?;
        let head = self.head(key).await?.ok_or_else(|| ArtifactError::Missing { at: self.url(key) })?;
        let mut writer = PartWriter::beside(dest.to_owned()).await?;
        let starts = (0..head.bytes).step_by(PART_BYTES);
        let parts = stream::iter(starts.map(|start| {
            let (object, end) = (object.clone(), (start + PART_BYTES as u64).min(head.bytes));
            async move { self.call(key, self.inner.get_range(&object, start..end)).await }
        }));
        let mut parts = std::pin::pin!(parts.buffered(PARTS_IN_FLIGHT));
        while let Some(bytes) = parts.try_next().await? {
            writer = writer.write(bytes).await?;
        }
        let found = writer.info();
        if let Some(&expected) = expect
            && expected != found.sha256
        {
            return Err(ArtifactError::Corrupt { at: self.url(key), expected, found: found.sha256 });
        }
        if found.bytes != head.bytes {
            let cause = format!("was cut at {} of {} bytes while it was read", found.bytes, head.bytes);
            return Err(ArtifactError::Store { at: self.url(key), cause });
        }
        writer.finish().await?;
        Ok(found)
    }
}

/// Reads and hashes parts off the executor. Moves through `spawn_blocking` and back.
#[derive(Default)]
struct PartReader {
    file: Option<File>,
    path: PathBuf,
    hasher: Hasher,
    bytes: u64,
}

impl PartReader {
    async fn open(path: PathBuf) -> Result<(PartReader, u64), ArtifactError> {
        blocking(move || {
            let failed = ArtifactError::local("read", &path);
            let file = File::open(&path).map_err(failed)?;
            let size = file.metadata().map_err(failed)?.len();
            let reader = PartReader { file: Some(file), path: path.clone(), ..PartReader::default() };
            Ok((reader, size))
        })
        .await
    }

    /// At most `limit` bytes; empty at the end of the file.
    async fn read(mut self, limit: usize) -> Result<(PartReader, Bytes), ArtifactError> {
        blocking(move || {
            let mut part = Vec::new();
            if let Some(file) = &mut self.file {
                let failed = ArtifactError::local("read", &self.path);
                file.take(limit as u64).read_to_end(&mut part).map_err(failed)?;
            }
            self.hasher.update(&part);
            self.bytes += part.len() as u64;
            Ok((self, Bytes::from(part)))
        })
        .await
    }

    fn info(&mut self) -> ObjectInfo {
        ObjectInfo { bytes: self.bytes, sha256: std::mem::take(&mut self.hasher).finish() }
    }
}

/// A temporary file beside its destination, removed unless finished.
struct PartWriter {
    temp: NamedTempFile,
    dest: PathBuf,
    hasher: Hasher,
    bytes: u64,
}

impl PartWriter {
    async fn beside(dest: PathBuf) -> Result<PartWriter, ArtifactError> {
        blocking(move || {
            let temp = temp_beside(&dest)?;
            Ok(PartWriter { temp, dest, hasher: Hasher::default(), bytes: 0 })
        })
        .await
    }

    async fn write(mut self, part: Bytes) -> Result<PartWriter, ArtifactError> {
        blocking(move || {
            self.temp.write_all(&part).map_err(ArtifactError::local("write", &self.dest))?;
            self.hasher.update(&part);
            self.bytes += part.len() as u64;
            Ok(self)
        })
        .await
    }

    fn info(&mut self) -> ObjectInfo {
        ObjectInfo { bytes: self.bytes, sha256: std::mem::take(&mut self.hasher).finish() }
    }

    async fn finish(self) -> Result<(), ArtifactError> {
        blocking(move || persist(self.temp, &self.dest)).await
    }
}

/// A temporary file in the folder of `dest` (made if missing), with the mode a plain new file would have.
pub(crate) fn temp_beside(dest: &Path) -> Result<NamedTempFile, ArtifactError> {
    let folder = folder_of(dest);
    std::fs::create_dir_all(folder).map_err(ArtifactError::local("make the folder", folder))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".part-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // the umask still applies
    }
    builder.tempfile_in(folder).map_err(ArtifactError::local("make a file in", folder))
}

/// Makes a finished temporary file durable under its name.
pub(crate) fn persist(temp: NamedTempFile, dest: &Path) -> Result<(), ArtifactError> {
    let failed = ArtifactError::local("write", dest);
    temp.as_file().sync_all().map_err(failed)?;
    temp.persist(dest).map_err(|e| failed(e.error))?;
    // The rename itself is durable only with its folder.
    File::open(folder_of(dest)).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn folder_of(dest: &Path) -> &Path {
    match dest.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Runs file work off the executor.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArtifactError> + Send + 'static,
) -> Result<T, ArtifactError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        // Only a panic in `work` or a runtime that is shutting down get here.
        Err(e) => Err(ArtifactError::Store { at: "local file work".to_owned(), cause: e.to_string() }),
    }
}
