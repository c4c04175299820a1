//! Prepared graphs, shared by all nodes: the first job of a dataset that ends stores what it made of the captures,
//! and no other machine makes it again.
//!
//! `prepared/<share>/` holds the files of one entry of the trainer's cache and, last, `index.json`. The share is a
//! digest of what the graphs follow from: captures, windowing, version of the code. Everything here is a help and
//! no duty: whatever goes wrong is a warning, and the trainer prepares for itself.

use super::checkpoints::files_below;
use crate::workdir::Layout;
use artifacts::run::{fetch_files, upload_files};
use artifacts::{ArtifactError, Store};
use common::digest::Digest;
use common::job_key::JobInputs;
use common::manifest::FileEntry;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const INDEX_NAME: &str = "index.json";
const INDEX_MAX_BYTES: u64 = 1 << 20;
/// What the trainer calls its entry in `tuning_used`.
pub const ENTRY_KEY: &str = "prepared";

#[derive(Debug, Serialize, Deserialize)]
struct Index {
    /// Name of the folder in the trainer's cache.
    entry: Digest,
    files: Vec<FileEntry>,
}

#[derive(Debug, thiserror::Error)]
enum ShareError {
    #[error(transparent)]
    Store(#[from] ArtifactError),
    #[error("{path}: {source}", path = .path.display())]
    Disk { path: PathBuf, source: std::io::Error },
    #[error("index: {0}")]
    Index(#[from] serde_json::Error),
}

/// Where the graphs of these inputs lie in the store.
fn prefix(inputs: &JobInputs) -> String {
    let parts = [
        dataset::prepare::CODE_VERSION.to_string(),
        inputs.dataset_digest.to_string(),
        inputs.semantic["data"].to_string(),
    ];
    format!("prepared/{}", Digest::of(parts.join("\n").as_bytes()))
}

/// Brings the graphs to this machine's cache, if they are in the store and not here.
pub async fn fetch(store: &Store, layout: &Layout, inputs: &JobInputs) {
    match try_fetch(store, &layout.prepared(), &prefix(inputs)).await {
        Ok(Some(entry)) => tracing::info!(%entry, "prepared graphs are taken from the store"),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "prepared graphs are not taken from the store"),
    }
}

async fn try_fetch(store: &Store, cache: &Path, prefix: &str) -> Result<Option<Digest>, ShareError> {
    let bytes = match store.get(&format!("{prefix}/{INDEX_NAME}"), INDEX_MAX_BYTES).await {
        Err(ArtifactError::Missing { .. }) => return Ok(None),
        bytes => bytes?,
    };
    let index: Index = serde_json::from_slice(&bytes)?;
    let dest = cache.join(index.entry.to_string());
    if dest.exists() {
        return Ok(None);
    }
    // The trainer sweeps what is called so and old.
    let temporary = cache.join(format!("{}.tmp-fetch-{}", index.entry, std::process::id()));
    let fetched = fetch_files(store, prefix, &index.files, &temporary, None).await;
    let moved = match fetched {
        Ok(_) => match std::fs::rename(&temporary, &dest) {
            // A trainer was faster.
            Err(_) if dest.is_dir() => Ok(None),
            done => {
                done.map(|()| Some(index.entry)).map_err(|source| ShareError::Disk { path: dest, source })
            }
        },
        Err(error) => Err(error.into()),
    };
    if temporary.exists() {
        // A rest that can not be removed is swept a day later.
        let _ = std::fs::remove_dir_all(&temporary);
    }
    moved
}

/// Stores the entry that a trainer used, if nobody has yet.
pub async fn share(store: &Store, layout: &Layout, inputs: &JobInputs, entry: &str) {
    match try_share(store, &layout.prepared(), &prefix(inputs), entry).await {
        Ok(true) => tracing::info!(entry, "prepared graphs are shared through the store"),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "prepared graphs are not shared"),
    }
}

async fn try_share(store: &Store, cache: &Path, prefix: &str, entry: &str) -> Result<bool, ShareError> {
    let (index_key, folder) = (format!("{prefix}/{INDEX_NAME}"), cache.join(entry));
    // Only the name of an entry, never a path.
    let Ok(entry) = entry.parse::<Digest>() else { return Ok(false) };
    if !folder.is_dir() || store.head(&index_key).await?.is_some() {
        return Ok(false);
    }
    let files = files_below(&folder).map_err(|source| ShareError::Disk { path: folder, source })?;
    let files = upload_files(store, prefix, &files).await?;
    store.put(&index_key, serde_json::to_vec(&Index { entry, files })?).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use artifacts::StoreOptions;
    use common::ids::Phase;
    use std::fs;

    fn inputs(window: u32, phase: Phase) -> JobInputs {
        JobInputs {
            phase,
            code_version: 1,
            semantic: serde_json::json!({ "data": { "window": window }, "teacher": { "lr": phase.as_str() } }),
            dataset_digest: Digest::of(b"captures"),
            parents: Default::default(),
            force_generation: 0,
        }
    }

    fn store() -> Store {
        Store::open("memory://", &StoreOptions::default()).unwrap()
    }

    #[tokio::test]
    async fn what_one_machine_made_another_has() {
        let (store, here, there) = (store(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (entry, at) = (Digest::of(b"entry").to_string(), prefix(&inputs(100, Phase::Teacher)));
        assert!(try_fetch(&store, there.path(), &at).await.unwrap().is_none(), "nothing is shared yet");
        assert!(!try_share(&store, here.path(), &at, &entry).await.unwrap(), "nothing to share");
        fs::create_dir(here.path().join(&entry)).unwrap();
        for name in ["train.graphs", "prepared.json"] {
            fs::write(here.path().join(&entry).join(name), name).unwrap();
        }
        assert!(try_share(&store, here.path(), &at, &entry).await.unwrap());
        assert!(!try_share(&store, here.path(), &at, &entry).await.unwrap(), "once is enough");
        // Another phase of the same graphs.
        let at = prefix(&inputs(100, Phase::Student));
        assert_eq!(try_fetch(&store, there.path(), &at).await.unwrap().unwrap().to_string(), entry);
        assert_eq!(fs::read(there.path().join(&entry).join("train.graphs")).unwrap(), b"train.graphs");
        assert!(try_fetch(&store, there.path(), &at).await.unwrap().is_none(), "it is here");
        assert_eq!(fs::read_dir(there.path()).unwrap().count(), 1, "something was left behind");
        assert!(
            try_fetch(&store, there.path(), &prefix(&inputs(50, Phase::Teacher))).await.unwrap().is_none()
        );
    }

    #[tokio::test]
    async fn a_damaged_share_is_not_taken_and_a_path_is_no_entry() {
        let (store, here, there) = (store(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (entry, at) = (Digest::of(b"entry").to_string(), prefix(&inputs(100, Phase::Teacher)));
        fs::create_dir(here.path().join(&entry)).unwrap();
        fs::write(here.path().join(&entry).join("train.graphs"), "graphs").unwrap();
        assert!(!try_share(&store, here.path(), &at, "../prepared").await.unwrap());
        assert!(try_share(&store, here.path(), &at, &entry).await.unwrap());
        store.put(&format!("{at}/train.graphs"), "others").await.unwrap();
        assert!(try_fetch(&store, there.path(), &at).await.is_err());
        assert_eq!(fs::read_dir(there.path()).unwrap().count(), 0, "a damaged entry was left");
    }
}
