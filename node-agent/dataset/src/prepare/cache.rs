//! Prepared graphs kept on disk, one folder per key. A folder appears whole, by rename, or not at all, so any number
//! of processes may prepare the same thing at once: the first one's stays.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CODE_VERSION, PrepareConfig, PrepareReport, Prepared};
use crate::atomic::{temporary_beside, write_atomically};
use crate::digest::{ContentDigest, DatasetDigest};
use crate::error::{DataError, Result};
use crate::graph_set::GraphSet;
use crate::vocabulary::Vocabulary;

/// A temporary folder older than this belongs to a process that died.
const STALE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Name of an entry: captures, configuration and the version of the mathematics.
pub(super) fn key(digest: &DatasetDigest, config: &PrepareConfig) -> ContentDigest {
    #[derive(Serialize)]
    struct Key<'a> {
        code_version: u32,
        dataset: ContentDigest,
        config: &'a PrepareConfig,
    }
    let key = Key { code_version: CODE_VERSION, dataset: digest.sha256, config };
    let text = serde_json::to_vec(&key).expect("plain numbers, strings and enums always serialize");
    ContentDigest::of(&text)
}

#[derive(Serialize, Deserialize)]
struct Index {
    vocabulary: Vocabulary,
    /// Test folders in the order of the files test-000.graphs, test-001.graphs, ...
    tests: Vec<String>,
    report: PrepareReport,
}

pub(super) struct Cache {
    folder: PathBuf,
}

/// Opens the cache folder; one that cannot be made is a warning and no cache.
pub(super) fn open(folder: Option<&Path>) -> (Option<Cache>, Vec<String>) {
    let Some(folder) = folder else { return (None, Vec::new()) };
    match fs::create_dir_all(folder) {
        Ok(()) => {
            let cache = Cache { folder: folder.to_path_buf() };
            cache.sweep();
            (Some(cache), Vec::new())
        }
        Err(e) => (None, vec![format!("no cache: cannot make folder {}: {e}", folder.display())]),
    }
}

impl Cache {
    /// The file of the capture files' digests.
    pub(super) fn hashes(&self) -> PathBuf {
        self.folder.join("file_hashes.json")
    }

    fn entry(&self, key: &ContentDigest) -> PathBuf {
        self.folder.join(key.to_string())
    }

    /// The entry, if it is there and whole. A damaged one is removed.
    pub(super) fn load(&self, key: &ContentDigest) -> Option<Prepared> {
        let entry = self.entry(key);
        if !entry.is_dir() {
            return None;
        }
        match load_entry(&entry) {
            Ok(prepared) if prepared.report.key == *key => {
                // The time of last use orders the eviction; failing to set it only makes it worse, not wrong.
                let _older = fs::File::open(entry.join("prepared.json"))
                    .and_then(|file| file.set_modified(std::time::SystemTime::now()));
                Some(prepared)
            }
            _ => {
                // If it cannot be removed, saving will fail and say so.
                let _ = remove(&entry);
                None
            }
        }
    }

    /// Keeps a result. An entry that another process has put there meanwhile stays.
    pub(super) fn save(&self, key: &ContentDigest, prepared: &Prepared) -> Result<()> {
        let entry = self.entry(key);
        let temporary = temporary_beside(&entry);
        let result = save_entry(&temporary, prepared).and_then(|()| match fs::rename(&temporary, &entry) {
            Err(_) if entry.is_dir() => Ok(()),
            done => done.map_err(|e| DataError::io("write", &entry, e)),
        });
        if temporary.exists() {
            // Ours was not wanted or is not whole; a rest that cannot be removed is swept a day later.
            let _ = fs::remove_dir_all(&temporary);
        }
        result
    }

    /// Removes what dead processes left.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().contains(".tmp-")) {
            let age =
                entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|time| time.elapsed().ok());
            if age.is_some_and(|age| age > STALE_AFTER) {
                // Another process may sweep the same thing at this moment.
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        }
    }
}

/// Renames first, so that nobody reads a half removed entry.
fn remove(entry: &Path) -> std::io::Result<()> {
    let temporary = temporary_beside(entry);
    fs::rename(entry, &temporary)?;
    fs::remove_dir_all(&temporary)
}

fn test_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("test-{number:03}.graphs"))
}

fn save_entry(folder: &Path, prepared: &Prepared) -> Result<()> {
    prepared.train.save(&folder.join("train.graphs"))?;
    prepared.val.save(&folder.join("val.graphs"))?;
    for (number, graphs) in prepared.tests.values().enumerate() {
        graphs.save(&test_file(folder, number))?;
    }
    let path = folder.join("prepared.json");
    let index = Index {
        vocabulary: prepared.vocabulary.clone(),
        tests: prepared.tests.keys().cloned().collect(),
        report: prepared.report.clone(),
    };
    let text = serde_json::to_vec_pretty(&index)
        .map_err(|e| DataError::BrokenJson { path: path.clone(), reason: e.to_string() })?;
    write_atomically(&path, |out| out.write_all(&text))
}

fn load_entry(folder: &Path) -> Result<Prepared> {
    let path = folder.join("prepared.json");
    let text = fs::read(&path).map_err(|e| DataError::io("read", &path, e))?;
    let index: Index = serde_json::from_slice(&text)
        .map_err(|e| DataError::BrokenJson { path: path.clone(), reason: e.to_string() })?;
    let mut tests = BTreeMap::new();
    for (number, name) in index.tests.into_iter().enumerate() {
        tests.insert(name, GraphSet::load(&test_file(folder, number))?);
    }
    Ok(Prepared {
        vocabulary: index.vocabulary,
        train: GraphSet::load(&folder.join("train.graphs"))?,
        val: GraphSet::load(&folder.join("val.graphs"))?,
        tests,
        report: index.report,
    })
}
