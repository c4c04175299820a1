//! The folder that holds a dataset's captures: as it is, when the data URL is a folder of this machine; else
//! fetched once and kept. Either way its digest must be the one that was planned with: the job key stands for it.

use super::reading;
use crate::workdir::Layout;
use agent_core::{Nature, Problem};
use artifacts::{Store, StoreOptions};
use common::digest::Digest;
use common::ids::DatasetId;
use common::messages::JobOffer;
use common::slot::Cause;
use dataset::DataError;
use std::path::{Path, PathBuf};

/// Why captures can not be trained on.
#[derive(Debug, thiserror::Error)]
pub enum CapturesError {
    #[error(
        "captures: there is no folder {} on this machine; put the captures there or name another folder with --data",
        .0.display()
    )]
    NoFolder(PathBuf),
    #[error("captures: {0} holds no objects")]
    Empty(String),
    #[error(
        "captures: {} holds others than were planned with (digest {found}, planned {planned}); bring this machine's \
         copy in line, or run `coord plan` again if they were changed on purpose",
        .folder.display()
    )]
    Differ { folder: PathBuf, found: Digest, planned: Digest },
    #[error("captures: {0}")]
    Unusable(#[from] DataError),
}

impl From<CapturesError> for Problem {
    fn from(error: CapturesError) -> Problem {
        let (nature, cause) = match &error {
            // Facts of this node, not of the captures: a mount that is away, a disk with errors.
            CapturesError::NoFolder(_) => (Nature::Final, Cause::Infrastructure),
            CapturesError::Unusable(DataError::Io { .. }) => (Nature::Refused, Cause::Infrastructure),
            CapturesError::Empty(_) | CapturesError::Differ { .. } | CapturesError::Unusable(_) => {
                (Nature::Final, Cause::UserError)
            }
        };
        Problem { nature, cause, message: error.to_string() }
    }
}

/// Why a look at captures did not say that they are the planned ones.
#[derive(Debug, thiserror::Error)]
enum Unchecked {
    #[error(transparent)]
    Captures(#[from] CapturesError),
    #[error("looking at the captures was broken off: {0}")]
    BrokenOff(#[from] tokio::task::JoinError),
}

impl From<Unchecked> for Problem {
    fn from(error: Unchecked) -> Problem {
        match error {
            Unchecked::Captures(error) => error.into(),
            Unchecked::BrokenOff(_) => super::lasting(error),
        }
    }
}

/// The captures of one job.
pub struct Captures<'a> {
    data_url: &'a str,
    dataset: &'a DatasetId,
    planned: Digest,
    layout: &'a Layout,
}

impl<'a> Captures<'a> {
    pub fn of(offer: &'a JobOffer, layout: &'a Layout) -> Captures<'a> {
        let (data_url, dataset) = (offer.data_url.as_str(), &offer.job.name.dataset);
        Captures { data_url, dataset, planned: offer.spec.inputs.dataset_digest, layout }
    }

    /// `<data>/<dataset>` on this disk, with the planned digest.
    pub async fn bring(&self) -> Result<PathBuf, Problem> {
        if let Some(root) = local(self.data_url) {
            return Ok(self.checked(&root).await?);
        }
        let root = self.layout.captures().join(Digest::of(self.data_url.as_bytes()).short());
        self.fetch(&root).await?;
        match self.checked(&root).await {
            // What was fetched for an earlier plan may be of the same size: once more from the source.
            Err(Unchecked::Captures(CapturesError::Differ { .. })) => {
                let folder = root.join(self.dataset.as_str());
                tokio::fs::remove_dir_all(&folder)
                    .await
                    .map_err(|e| super::lasting(format!("cannot delete {}: {e}", folder.display())))?;
                self.fetch(&root).await?;
                Ok(self.checked(&root).await?)
            }
            checked => Ok(checked?),
        }
    }

    async fn checked(&self, root: &Path) -> Result<PathBuf, Unchecked> {
        let folder = root.join(self.dataset.as_str());
        let (root, dataset, planned) = (root.to_owned(), self.dataset.clone(), self.planned);
        // The trainer's own: what is hashed here is not read again there.
        let hashes = self.layout.prepared().join("file_hashes.json");
        let checked = tokio::task::spawn_blocking(move || check(&root, &dataset, planned, &hashes));
        checked.await??;
        Ok(folder)
    }

    /// A file of the right size is taken as the same; the digest has the last word.
    async fn fetch(&self, root: &Path) -> Result<(), Problem> {
        let store = Store::open(self.data_url, &StoreOptions::default()).map_err(reading)?;
        let listed = store.list(self.dataset.as_str()).await.map_err(reading)?;
        if listed.is_empty() {
            return Err(CapturesError::Empty(store.url(self.dataset.as_str())).into());
        }
        for object in listed {
            let dest = root.join(&object.key);
            let here = tokio::fs::metadata(&dest).await.is_ok_and(|m| m.len() == object.bytes);
            if !here {
                store.get_file(&object.key, &dest, None).await.map_err(reading)?;
            }
        }
        Ok(())
    }
}

/// The folder of a URL that names one of this machine.
fn local(data_url: &str) -> Option<PathBuf> {
    match data_url.strip_prefix("file://") {
        Some(path) => Some(PathBuf::from(path)),
        None if data_url.contains("://") => None,
        None => Some(PathBuf::from(data_url)),
    }
}

fn check(root: &Path, dataset: &DatasetId, planned: Digest, hashes: &Path) -> Result<(), CapturesError> {
    let folder = root.join(dataset.as_str());
    if !folder.is_dir() {
        return Err(CapturesError::NoFolder(folder));
    }
    let layout = dataset::layout::find(root, dataset.as_str())?;
    let digest = match dataset::dataset_digest(&layout, Some(hashes)) {
        // The file of known digests can not be written: it only saves time.
        Err(DataError::Io { action: "write", .. }) => dataset::dataset_digest(&layout, None)?,
        digest => digest?,
    };
    let found = Digest::from_bytes(*digest.sha256.as_bytes());
    match found == planned {
        true => Ok(()),
        false => Err(CapturesError::Differ { folder, found, planned }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CSV: &str = "timestamp,arbitration_id,data_field,attack\n1.0,0C9,00,0\n1.1,0D1,00,0\n";

    #[test]
    fn a_url_is_a_folder_of_this_machine_or_not() {
        assert_eq!(local("/data"), Some("/data".into()));
        assert_eq!(local("file:///data"), Some("/data".into()));
        assert_eq!(local("s3://bucket/data"), None);
    }

    #[test]
    fn captures_must_be_those_that_were_planned_with() {
        let root = tempfile::tempdir().unwrap();
        let (dataset, hashes) = (DatasetId::new("car").unwrap(), root.path().join("cache/hashes.json"));
        let check = |planned| check(root.path(), &dataset, planned, &hashes);
        let missing = check(Digest::of(b"")).unwrap_err();
        assert!(matches!(&missing, CapturesError::NoFolder(folder) if folder.ends_with("car")), "{missing}");
        let file = root.path().join("car/train_01/a.csv");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, CSV).unwrap();
        let layout = dataset::layout::find(root.path(), "car").unwrap();
        let planned = dataset::dataset_digest(&layout, None).unwrap().sha256;
        let planned = Digest::from_bytes(*planned.as_bytes());
        check(planned).unwrap();
        fs::write(&file, CSV.replace("1.1", "1.25")).unwrap();
        let error = check(planned).unwrap_err();
        let CapturesError::Differ { found, .. } = &error else { panic!("{error}") };
        let told = error.to_string();
        for part in ["car", &found.to_string(), &planned.to_string(), "coord plan"] {
            assert!(told.contains(part), "{told}");
        }
        assert_eq!(Problem::from(error).cause, Cause::UserError);
        assert_eq!(Problem::from(missing).cause, Cause::Infrastructure, "another node may have its folder");
    }
}
