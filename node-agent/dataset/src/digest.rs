//! Digests of capture files and of a whole dataset, with a cache so that a second look is quick.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic::write_atomically;
use crate::error::{DataError, Result};
use crate::layout::Layout;

/// A sha256; shown, parsed and serialized as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContentDigest([u8; 32]);

impl ContentDigest {
    /// Digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentDigest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected 64 hex digits, found `{text}`");
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for ContentDigest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ContentDigest> for String {
    fn from(digest: ContentDigest) -> Self {
        digest.to_string()
    }
}

/// Digest of one capture file's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureDigest {
    pub folder: String,
    pub name: String,
    pub bytes: u64,
    pub sha256: ContentDigest,
}

/// Digest of a dataset: of the sorted (folder, name, sha256) of its captures. Where the files lie, in which
/// form of folder and when they were written does not change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetDigest {
    pub sha256: ContentDigest,
    /// Sorted by folder, then name.
    pub captures: Vec<CaptureDigest>,
}

impl DatasetDigest {
    /// Digest of the capture with this folder and name.
    pub fn capture(&self, folder: &str, name: &str) -> Option<&CaptureDigest> {
        self.captures.iter().find(|capture| capture.folder == folder && capture.name == name)
    }
}

const CACHE_VERSION: u32 = 1;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct CacheFile {
    version: u32,
    files: BTreeMap<PathBuf, CacheEntry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct CacheEntry {
    size: u64,
    mtime_ns: i64,
    sha256: ContentDigest,
}

/// Digest of a dataset. With `cache_file`, files whose path, size and modification time stand there are not
/// read again; the file is written anew when something was hashed. A cache that cannot be read counts as none.
pub fn dataset_digest(layout: &Layout, cache_file: Option<&Path>) -> Result<DatasetDigest> {
    let mut cache = cache_file.map(load_cache).unwrap_or_default();
    let files: Vec<_> = layout.captures().collect();
    let entries: Vec<CacheEntry> = files
        .par_iter()
        .map(|file| entry_of(&file.path, cache.files.get(&file.path)))
        .collect::<Result<_>>()?;
    let mut captures = Vec::with_capacity(files.len());
    let mut changed = false;
    for (file, entry) in files.iter().zip(entries) {
        changed |= cache.files.insert(file.path.clone(), entry) != Some(entry);
        captures.push(CaptureDigest {
            folder: file.folder.clone(),
            name: file.name.clone(),
            bytes: entry.size,
            sha256: entry.sha256,
        });
    }
    if let (Some(path), true) = (cache_file, changed) {
        let text = serde_json::to_vec_pretty(&CacheFile { version: CACHE_VERSION, ..cache })
            .map_err(|e| DataError::BrokenJson { path: path.into(), reason: e.to_string() })?;
        write_atomically(path, |out| out.write_all(&text))?;
    }
    captures.sort_by(|a, b| (&a.folder, &a.name, a.sha256).cmp(&(&b.folder, &b.name, b.sha256)));
    let mut hasher = Sha256::new();
    for capture in &captures {
        // Lengths in front keep ("ab", "c") and ("a", "bc") apart.
        for text in [&capture.folder, &capture.name] {
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(capture.sha256.0);
    }
    Ok(DatasetDigest { sha256: ContentDigest(hasher.finalize().into()), captures })
}

fn load_cache(path: &Path) -> CacheFile {
    let cache: Option<CacheFile> = fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    cache.filter(|cache| cache.version == CACHE_VERSION).unwrap_or_default()
}

fn entry_of(path: &Path, known: Option<&CacheEntry>) -> Result<CacheEntry> {
    let meta = fs::metadata(path).map_err(|e| DataError::io("read", path, e))?;
    let (size, mtime_ns) = (meta.len(), meta.mtime().saturating_mul(1_000_000_000) + meta.mtime_nsec());
    match known {
        Some(entry) if entry.size == size && entry.mtime_ns == mtime_ns => Ok(*entry),
        _ => Ok(CacheEntry { size, mtime_ns, sha256: hash_file(path)? }),
    }
}

/// Sha256 of a file's bytes.
pub fn hash_file(path: &Path) -> Result<ContentDigest> {
    let mut file = File::open(path).map_err(|e| DataError::io("open", path, e))?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 256 * 1024];
    loop {
        match file.read(&mut block).map_err(|e| DataError::io("read", path, e))? {
            0 => return Ok(ContentDigest(hasher.finalize().into())),
            length => hasher.update(&block[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::find;

    const CSV: &str = "timestamp,arbitration_id,data_field,attack\n1.0,0C9,00,0\n1.1,0D1,00,0\n";

    fn dataset(root: &Path) -> Layout {
        for name in ["car/train_01/a.csv", "car/train_02/a.csv", "car/test_01/b.csv"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), CSV).unwrap();
        }
        find(root, "car").unwrap()
    }

    #[test]
    fn digest_follows_content_and_names_only() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = dataset_digest(&dataset(here.path()), None).unwrap();
        let elsewhere = dataset(there.path());
        assert_eq!(dataset_digest(&elsewhere, None).unwrap(), first);
        assert_eq!(
            first.capture("train_01", "a").unwrap().sha256,
            first.capture("train_02", "a").unwrap().sha256
        );
        fs::write(there.path().join("car/test_01/b.csv"), CSV.replace("1.1", "1.2")).unwrap();
        assert_ne!(dataset_digest(&elsewhere, None).unwrap().sha256, first.sha256);
    }

    #[test]
    fn cache_spares_reading_and_notices_changes() {
        let root = tempfile::tempdir().unwrap();
        let layout = dataset(root.path());
        let cache = root.path().join("state/hashes.json");
        let first = dataset_digest(&layout, Some(&cache)).unwrap();
        // A wrong entry is believed as long as size and time fit: proof that the file is not read again.
        let text = fs::read_to_string(&cache).unwrap();
        let real = ContentDigest::of(CSV.as_bytes()).to_string();
        fs::write(&cache, text.replace(&real, &"ab".repeat(32))).unwrap();
        let believed = dataset_digest(&layout, Some(&cache)).unwrap();
        assert_eq!(believed.captures[0].sha256.to_string(), "ab".repeat(32));
        for file in layout.captures() {
            fs::write(&file.path, format!("{CSV}\n")).unwrap();
        }
        let changed = dataset_digest(&layout, Some(&cache)).unwrap();
        assert_ne!(changed.sha256, first.sha256);
        fs::write(&cache, "{ broken").unwrap();
        assert_eq!(dataset_digest(&layout, Some(&cache)).unwrap(), changed);
    }

    #[test]
    fn digest_text_is_checked() {
        assert!("12".parse::<ContentDigest>().is_err());
        assert!("z".repeat(64).parse::<ContentDigest>().is_err());
        let digest = ContentDigest::of(b"abc");
        assert_eq!(digest.to_string().parse::<ContentDigest>().unwrap(), digest);
        assert!(digest.to_string().starts_with("ba7816bf"));
    }
}
