//! [`Store`]: one opened store and the calls on small objects. Whole files: [`crate::transfer`].

use crate::error::ArtifactError;
use crate::options::{Place, StoreOptions};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Key;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Most objects that one [`Store::list`] gives.
pub const LIST_MAX: usize = 100_000;

/// An opened store. Clones share the connection pool.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<dyn ObjectStore>,
    /// URL without a trailing slash; for messages and `Debug`.
    url: Arc<str>,
    folder: Option<Arc<Path>>,
    call_timeout: Duration,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.url)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    pub bytes: u64,
    pub etag: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: String,
    pub bytes: u64,
}

impl Store {
    /// `file:///folder` or a plain path (made if missing), `s3://bucket/prefix`, `memory://` (each open is
    /// another, empty one). Nothing is sent yet: a wrong bucket or key shows at the first call.
    pub fn open(url: &str, options: &StoreOptions) -> Result<Store, ArtifactError> {
        let call_timeout = options.call_timeout;
        match Place::parse(url)? {
            Place::Memory => Ok(Store {
                inner: Arc::new(InMemory::new()),
                url: "memory:/".into(),
                folder: None,
                call_timeout,
            }),
            Place::Folder(path) => Store::open_folder(&path, call_timeout),
            Place::S3 { bucket, prefix } => {
                let s3 = options.s3(url, &bucket)?;
                let inner: Arc<dyn ObjectStore> = match prefix.as_str() {
                    "" => Arc::new(s3),
                    prefix => Arc::new(PrefixStore::new(s3, parse_key(prefix)?)),
                };
                let url = url.trim_end_matches('/').into();
                Ok(Store { inner, url, folder: None, call_timeout })
            }
        }
    }

    fn open_folder(path: &Path, call_timeout: Duration) -> Result<Store, ArtifactError> {
        std::fs::create_dir_all(path).map_err(ArtifactError::local("make the store's folder", path))?;
        let path = path.canonicalize().map_err(ArtifactError::local("find the store's folder", path))?;
        let at = format!("file://{}", path.display());
        // Durable before a put returns: the file is synced, renamed into place, and its folder synced.
        let inner = LocalFileSystem::new_with_prefix(&path)
            .map_err(|e| ArtifactError::from_store(at.clone(), e))?
            .with_fsync(true);
        Ok(Store { inner: Arc::new(inner), url: at.into(), folder: Some(path.into()), call_timeout })
    }

    /// URL of an object (or, with an empty key, of the store), for people.
    pub fn url(&self, key: &str) -> String {
        match key {
            "" => self.url.to_string(),
            key => format!("{}/{key}", self.url),
        }
    }

    /// Path of an object in a folder store, whether it exists or not. `None` for the other kinds and for a
    /// key that is none.
    pub fn local_path(&self, key: &str) -> Option<PathBuf> {
        let key = parse_key(key).ok()?;
        self.folder.as_ref().map(|folder| folder.join(key.as_ref()))
    }

    /// Writes a small object whole; whoever reads the key sees the old bytes or the new, never a part.
    pub async fn put(&self, key: &str, bytes: impl Into<Bytes>) -> Result<(), ArtifactError> {
        let path = parse_key(key)?;
        let payload = PutPayload::from_bytes(bytes.into());
        self.call(key, self.inner.put(&path, payload)).await.map(drop)
    }

    /// Reads a small object whole; refuses one of more than `max_bytes`.
    pub async fn get(&self, key: &str, max_bytes: u64) -> Result<Bytes, ArtifactError> {
        let path = parse_key(key)?;
        let found = self.call(key, self.inner.get(&path)).await?;
        if found.meta.size > max_bytes {
            return Err(ArtifactError::TooLarge { at: self.url(key), bytes: found.meta.size, max_bytes });
        }
        self.call(key, found.bytes()).await
    }

    /// Size of an object without its bytes; `None` when there is none.
    pub async fn head(&self, key: &str) -> Result<Option<ObjectHead>, ArtifactError> {
        let path = parse_key(key)?;
        match self.call(key, self.inner.head(&path)).await {
            Ok(meta) => Ok(Some(ObjectHead { bytes: meta.size, etag: meta.e_tag })),
            Err(ArtifactError::Missing { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Every object below a folder (`""` = all), sorted by key. `a/b` lists `a/b/c` but not `a/bc`.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ArtifactError> {
        let below = match prefix.trim_end_matches('/') {
            "" => None,
            prefix => Some(parse_key(prefix)?),
        };
        let found: Result<Vec<ObjectMeta>, _> =
            self.call(prefix, self.inner.list(below.as_ref()).take(LIST_MAX + 1).try_collect()).await;
        let found = match found {
            Err(ArtifactError::Missing { .. }) => Vec::new(),
            other => other?,
        };
        if found.len() > LIST_MAX {
            return Err(ArtifactError::TooMany { at: self.url(prefix), max: LIST_MAX });
        }
        let mut listed: Vec<Listed> =
            found.into_iter().map(|m| Listed { key: m.location.to_string(), bytes: m.size }).collect();
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(listed)
    }

    /// Removes objects; one that is not there is no error.
    pub async fn delete<K: AsRef<str>>(&self, keys: &[K]) -> Result<(), ArtifactError> {
        let paths = keys.iter().map(|k| parse_key(k.as_ref())).collect::<Result<Vec<Key>, _>>()?;
        let locations = stream::iter(paths.into_iter().map(Ok)).boxed();
        let gone = self.inner.delete_stream(locations).try_for_each(|_| async { Ok(()) });
        // The stream ends at its first error, and a folder store calls a missing file one: ask one by one.
        match self.call("", gone).await {
            Err(ArtifactError::Missing { .. }) => self.delete_each(keys).await,
            other => other,
        }
    }

    async fn delete_each<K: AsRef<str>>(&self, keys: &[K]) -> Result<(), ArtifactError> {
        for key in keys {
            let path = parse_key(key.as_ref())?;
            match self.call(key.as_ref(), self.inner.delete(&path)).await {
                Ok(()) | Err(ArtifactError::Missing { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// One call that leaves the process: bounded in time, its error about `key`.
    pub(crate) async fn call<T>(
        &self,
        key: &str,
        call: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ArtifactError> {
        match tokio::time::timeout(self.call_timeout, call).await {
            Ok(result) => result.map_err(|e| ArtifactError::from_store(self.url(key), e)),
            Err(_elapsed) => Err(ArtifactError::TimedOut {
                at: self.url(key),
                after_ms: self.call_timeout.as_millis() as u64,
            }),
        }
    }
}

/// Refuses what would leave the store's folder or mean another object than it says.
pub(crate) fn parse_key(key: &str) -> Result<Key, ArtifactError> {
    let bad = |problem: String| ArtifactError::BadKey { key: key.to_owned(), problem };
    if key.is_empty() || key.starts_with('/') || key.ends_with('/') {
        return Err(bad("must be neither empty nor begin or end with a slash".into()));
    }
    if key.contains('#') {
        return Err(bad("may not contain '#' (a folder store names unfinished writes so)".into()));
    }
    Key::parse(key).map_err(|e| bad(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_inside_the_store() {
        assert_eq!(parse_key("runs/ab/a1/model.pth").unwrap().as_ref(), "runs/ab/a1/model.pth");
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/./b", "a#1"] {
            assert!(matches!(parse_key(bad), Err(ArtifactError::BadKey { .. })), "{bad:?} was accepted");
        }
    }
}
