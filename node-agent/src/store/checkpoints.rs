//! Checkpoints in the store: `runs/<key>/<attempt>/ckpt/<number>/…`, with `checkpoint.json` written last. A
//! checkpoint without it does not exist, so a torn one is never resumed from.

use super::{lasting, reading, writing};
use agent_core::{LocalCheckpoint, Nature, Problem, RunId};
use artifacts::run::{fetch_files, upload_files};
use artifacts::{ArtifactError, LocalFile, Store};
use common::ids::Attempt;
use common::job_key::JobKey;
use common::manifest::FileEntry;
use common::registry::attempt_prefix;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Last object of a checkpoint.
pub const INDEX_NAME: &str = "checkpoint.json";
const INDEX_MAX_BYTES: u64 = 1 << 20;
/// So many are kept of one attempt: the newest, and one in case that is damaged.
const KEPT: u32 = 2;
/// So many are tried before an attempt begins anew.
const TRIED: usize = 4;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    model: String,
    epoch: u32,
    files: Vec<FileEntry>,
}

/// A checkpoint brought to this disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub folder: PathBuf,
    pub epoch: u32,
}

fn prefix(run: &RunId, seq: u32) -> String {
    format!("{}/ckpt/{seq}", attempt_prefix(&run.key, run.attempt))
}

/// Stores a checkpoint whole, then removes those it makes superfluous.
pub async fn store(store: &Store, run: &RunId, checkpoint: &LocalCheckpoint) -> Result<(), Problem> {
    // The trainer may be at work in its folder: looked at again later.
    let local = |e: String| Problem { nature: Nature::Away, ..lasting(e) };
    let files =
        files_below(&checkpoint.dir).map_err(|e| local(format!("{}: {e}", checkpoint.dir.display())))?;
    let below = prefix(run, checkpoint.seq);
    let files = upload_files(store, &below, &files).await.map_err(|error| match error {
        ArtifactError::Local { .. } => local(error.to_string()),
        error => writing(error),
    })?;
    let index = Index { model: checkpoint.model.clone(), epoch: checkpoint.epoch, files };
    let bytes = serde_json::to_vec_pretty(&index).map_err(lasting)?;
    store.put(&format!("{below}/{INDEX_NAME}"), bytes).await.map_err(writing)?;
    if let Err(error) = remove_old(store, run, checkpoint.seq).await {
        tracing::warn!(%run, %error, "old checkpoints are left in the store");
    }
    Ok(())
}

/// The index first, so that what is half removed does not count as whole.
async fn remove_old(store: &Store, run: &RunId, newest: u32) -> Result<(), ArtifactError> {
    let root = format!("{}/ckpt", attempt_prefix(&run.key, run.attempt));
    let kept: Vec<String> =
        (0..KEPT).filter_map(|back| Some(format!("{}/", prefix(run, newest.checked_sub(back)?)))).collect();
    let listed = store.list(&root).await?;
    let old = listed.into_iter().map(|o| o.key).filter(|key| !kept.iter().any(|keep| key.starts_with(keep)));
    let (indexes, files): (Vec<String>, Vec<String>) = old.partition(|key| key.ends_with(INDEX_NAME));
    store.delete(&indexes).await?;
    store.delete(&files).await
}

/// Brings the newest whole checkpoint of any attempt of `key` below `dest`; `None` when there is none.
/// A damaged one is passed over for the one before it.
pub async fn fetch_newest(store: &Store, key: &JobKey, dest: &Path) -> Result<Option<Found>, Problem> {
    let listed = store.list(&key.run_prefix()).await.map_err(reading)?;
    let mut whole: Vec<(Attempt, u32, String)> =
        listed.iter().filter_map(|object| place_of(&key.run_prefix(), &object.key)).collect();
    whole.sort();
    for (attempt, seq, below) in whole.into_iter().rev().take(TRIED) {
        let folder = dest.join(format!("{attempt}-{seq}"));
        match fetch(store, &below, &folder).await {
            Ok(epoch) => return Ok(Some(Found { folder, epoch })),
            Err(Broken::Damaged(problem)) => {
                tracing::warn!(below, problem, "a damaged checkpoint is passed over");
            }
            // Says nothing of the checkpoint: a store that is away, a full disk of ours.
            Err(Broken::NotRead(problem)) => return Err(problem),
        }
    }
    Ok(None)
}

/// Attempt, number and folder of an index object.
fn place_of(run_prefix: &str, key: &str) -> Option<(Attempt, u32, String)> {
    let below = key.strip_suffix(INDEX_NAME)?.strip_suffix('/')?;
    let mut parts = below.strip_prefix(run_prefix)?.strip_prefix('/')?.split('/');
    let attempt = parts.next()?.strip_prefix('a')?.parse().ok()?;
    let seq = (parts.next()? == "ckpt").then(|| parts.next()?.parse().ok())??;
    parts.next().is_none().then(|| (Attempt(attempt), seq, below.to_owned()))
}

/// Why a checkpoint is not on this disk.
#[derive(Debug)]
enum Broken {
    /// It will never be whole.
    Damaged(String),
    NotRead(Problem),
}

impl From<ArtifactError> for Broken {
    fn from(error: ArtifactError) -> Broken {
        match reading(error) {
            problem if problem.nature == Nature::Final => Broken::Damaged(problem.message),
            problem => Broken::NotRead(problem),
        }
    }
}

async fn fetch(store: &Store, below: &str, folder: &Path) -> Result<u32, Broken> {
    let bytes = store.get(&format!("{below}/{INDEX_NAME}"), INDEX_MAX_BYTES).await?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|e| Broken::Damaged(e.to_string()))?;
    fetch_files(store, below, &index.files, folder, None).await?;
    Ok(index.epoch)
}

/// Every file below `folder`, by its path relative to it, sorted.
pub(super) fn files_below(folder: &Path) -> io::Result<Vec<LocalFile>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(relative) = folders.pop() {
        for entry in std::fs::read_dir(folder.join(&relative))? {
            let entry = entry?;
            let name = relative.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(name);
            } else {
                let text = name.to_str().ok_or_else(|| io::Error::other("a file name that is no text"))?;
                files.push(LocalFile { name: text.to_owned(), path: entry.path() });
            }
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use artifacts::StoreOptions;
    use common::digest::Digest;

    fn run(attempt: u32) -> RunId {
        RunId { key: JobKey(Digest::of(b"job")), attempt: Attempt(attempt) }
    }

    fn checkpoint(folder: &Path, seq: u32) -> LocalCheckpoint {
        let dir = folder.join(seq.to_string());
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join("weights"), format!("w{seq}")).unwrap();
        std::fs::write(dir.join("sub/rng"), "r").unwrap();
        LocalCheckpoint { seq, dir, model: "gat".into(), epoch: seq * 10 }
    }

    fn memory() -> Store {
        Store::open("memory://", &StoreOptions::default()).unwrap()
    }

    #[tokio::test]
    async fn the_newest_of_all_attempts_is_found_and_old_ones_go() {
        let (store_at, folder) = (memory(), tempfile::tempdir().unwrap());
        for (attempt, seq) in [(1, 1), (1, 2), (1, 3), (2, 1)] {
            store(&store_at, &run(attempt), &checkpoint(folder.path(), seq)).await.unwrap();
        }
        let found = fetch_newest(&store_at, &run(1).key, &folder.path().join("r")).await.unwrap().unwrap();
        assert_eq!(found.epoch, 10, "of attempt 2");
        assert_eq!(std::fs::read_to_string(found.folder.join("sub/rng")).unwrap(), "r");
        let left = store_at.list(&attempt_prefix(&run(1).key, Attempt(1))).await.unwrap();
        assert!(!left.iter().any(|o| o.key.contains("/ckpt/1/")) && left.len() == 6, "{left:?}");
    }

    #[tokio::test]
    async fn a_torn_or_damaged_checkpoint_is_passed_over() {
        let (store_at, folder) = (memory(), tempfile::tempdir().unwrap());
        let dest = folder.path().join("r");
        assert_eq!(fetch_newest(&store_at, &run(1).key, &dest).await.unwrap(), None);
        store(&store_at, &run(1), &checkpoint(folder.path(), 1)).await.unwrap();
        store(&store_at, &run(1), &checkpoint(folder.path(), 2)).await.unwrap();
        store_at.put(&format!("{}/weights", prefix(&run(1), 2)), "damaged").await.unwrap();
        store_at.put(&format!("{}/weights", prefix(&run(1), 3)), "no index").await.unwrap();
        let found = fetch_newest(&store_at, &run(1).key, &dest).await.unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(found.folder.join("weights")).unwrap(), "w1");
    }

    #[tokio::test]
    async fn a_disk_of_ours_that_can_not_be_written_damages_no_checkpoint() {
        let (store_at, folder) = (memory(), tempfile::tempdir().unwrap());
        store(&store_at, &run(1), &checkpoint(folder.path(), 1)).await.unwrap();
        let blocked = folder.path().join("blocked");
        std::fs::write(&blocked, "a file where the folder should be").unwrap();
        let problem = fetch_newest(&store_at, &run(1).key, &blocked.join("r")).await.unwrap_err();
        assert_eq!(problem.nature, Nature::Refused, "{}", problem.message);
    }
}
