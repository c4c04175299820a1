//! Files by digest on the local disk, so that a node fetches a parent's model or a prepared dataset once.
//! Several processes may share one folder: files appear by rename and are checked at every use.

use crate::error::ArtifactError;
use crate::hashing::digest_of_file;
use crate::transfer::{blocking, persist, temp_beside};
use common::digest::Digest;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// `<dir>/<first two characters>/<digest>`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
    max_bytes: u64,
}

impl Cache {
    /// Keeps at most about `max_bytes`; what was used longest ago goes first.
    pub fn new(dir: impl Into<PathBuf>, max_bytes: u64) -> Cache {
        Cache { dir: dir.into(), max_bytes }
    }

    fn path_of(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.dir.join(&name[..2]).join(name)
    }

    /// Copies a kept file to `dest`; `false` when it is not here. A copy, not a link: whoever writes to
    /// `dest` later must not reach the cache. A damaged file is removed and counts as not here.
    pub async fn copy_out(&self, digest: &Digest, dest: &Path) -> Result<bool, ArtifactError> {
        let (kept, dest, digest) = (self.path_of(digest), dest.to_owned(), *digest);
        blocking(move || {
            let mut from = match File::open(&kept) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(e) => return Err(ArtifactError::local("read the cache", &kept)(e)),
            };
            let mut temp = temp_beside(&dest)?;
            io::copy(&mut from, &mut temp).map_err(ArtifactError::local("write", &dest))?;
            let sound = digest_of_file(temp.path()).map_err(ArtifactError::local("read", &dest))? == digest;
            if !sound {
                tracing::warn!(path = %kept.display(), "damaged cache file removed");
                remove(&kept);
                return Ok(false);
            }
            // The time of last use orders the eviction; failing to set it only makes it worse, not wrong.
            let _older = from.set_modified(SystemTime::now());
            persist(temp, &dest)?;
            Ok(true)
        })
        .await
    }

    /// Keeps a copy of a file whose digest was just checked. Never fails the caller: a cache that cannot
    /// be written costs a fetch next time.
    pub async fn keep(&self, digest: &Digest, file: &Path) {
        let (cache, kept, file) = (self.clone(), self.path_of(digest), file.to_owned());
        let done = blocking(move || {
            let failed = ArtifactError::local("write the cache", &kept);
            let size = std::fs::metadata(&file).map_err(failed)?.len();
            if size > cache.max_bytes {
                return Ok(());
            }
            cache.make_room(size).map_err(failed)?;
            let mut temp = temp_beside(&kept)?;
            io::copy(&mut File::open(&file).map_err(failed)?, &mut temp).map_err(failed)?;
            persist(temp, &kept)
        });
        if let Err(error) = done.await {
            tracing::warn!(%error, "file not kept in the cache");
        }
    }

    fn make_room(&self, wanted_bytes: u64) -> io::Result<()> {
        let mut files = self.files()?;
        files.sort_by_key(|(_, _, used)| *used);
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (path, bytes, _) in files {
            if total + wanted_bytes <= self.max_bytes {
                break;
            }
            remove(&path);
            total -= bytes;
        }
        Ok(())
    }

    /// (path, size in bytes, last use) of everything kept.
    fn files(&self) -> io::Result<Vec<(PathBuf, u64, SystemTime)>> {
        let mut found = Vec::new();
        let folders = match std::fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
            folders => folders?,
        };
        for folder in folders {
            let folder = folder?;
            if !folder.file_type()?.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(folder.path())? {
                let file = file?;
                // Another process may evict at the same moment: what is gone is gone.
                let Ok(meta) = file.metadata() else { continue };
                found.push((file.path(), meta.len(), meta.modified()?));
            }
        }
        Ok(found)
    }
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cache file not removed");
    }
}
