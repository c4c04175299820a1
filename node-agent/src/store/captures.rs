//! The folder that holds a dataset's captures: as it is, when the data URL is a folder of this machine; else
//! fetched once and kept.

use super::artifact;
use crate::workdir::Layout;
use agent_core::Problem;
use artifacts::{Store, StoreOptions};
use common::digest::Digest;
use common::ids::DatasetId;
use common::slot::Cause;
use std::path::{Path, PathBuf};

/// `<data>/<dataset>` on this disk.
pub async fn folder(data_url: &str, dataset: &DatasetId, layout: &Layout) -> Result<PathBuf, Problem> {
    match local(data_url) {
        Some(root) => existing(&root.join(dataset.as_str())),
        None => fetched(data_url, dataset, layout).await,
    }
}

fn local(data_url: &str) -> Option<PathBuf> {
    match data_url.strip_prefix("file://") {
        Some(path) => Some(PathBuf::from(path)),
        None if data_url.contains("://") => None,
        None => Some(PathBuf::from(data_url)),
    }
}

fn existing(folder: &Path) -> Result<PathBuf, Problem> {
    if folder.is_dir() {
        return Ok(folder.to_owned());
    }
    let message = format!(
        "captures: there is no folder {} on this machine; put the captures there or name another folder with --data",
        folder.display()
    );
    Err(Problem { transient: false, cause: Cause::UserError, message })
}

/// A file of the right size is taken as the same: captures are never changed in place.
async fn fetched(data_url: &str, dataset: &DatasetId, layout: &Layout) -> Result<PathBuf, Problem> {
    let store = Store::open(data_url, &StoreOptions::default()).map_err(artifact)?;
    let root = layout.captures().join(Digest::of(data_url.as_bytes()).short());
    let listed = store.list(dataset.as_str()).await.map_err(artifact)?;
    if listed.is_empty() {
        let message = format!("captures: {} holds no objects", store.url(dataset.as_str()));
        return Err(Problem { transient: false, cause: Cause::UserError, message });
    }
    for object in listed {
        let dest = root.join(&object.key);
        let here = tokio::fs::metadata(&dest).await.is_ok_and(|m| m.len() == object.bytes);
        if !here {
            store.get_file(&object.key, &dest, None).await.map_err(artifact)?;
        }
    }
    Ok(root.join(dataset.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_folder_of_this_machine_or_not() {
        assert_eq!(local("/data"), Some("/data".into()));
        assert_eq!(local("file:///data"), Some("/data".into()));
        assert_eq!(local("s3://bucket/data"), None);
    }

    #[test]
    fn a_missing_folder_is_the_users_to_mend() {
        let problem = existing(Path::new("/nonexistent/d")).unwrap_err();
        assert_eq!(problem.cause, Cause::UserError);
        assert!(problem.message.contains("/nonexistent/d"));
    }
}
