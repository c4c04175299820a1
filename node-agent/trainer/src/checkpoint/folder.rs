//! The root folder of an attempt's checkpoints.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::CheckpointError;
use super::files::{self, Loaded, Snapshot};

/// Checkpoints kept; older ones are removed after a newer one is whole.
pub const KEPT: usize = 2;

/// Folder of numbered checkpoints, written by one process.
#[derive(Debug, Clone)]
pub struct CheckpointFolder {
    root: PathBuf,
}

impl CheckpointFolder {
    /// Creates the folder if need be.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, CheckpointError> {
        let root = root.into();
        std::fs::create_dir_all(&root).map_err(CheckpointError::io(&root))?;
        Ok(Self { root })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Numbers of the checkpoints that have their final name, ascending; whole or not is not judged here.
    pub fn numbers(&self) -> Result<Vec<u64>, CheckpointError> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.root).map_err(CheckpointError::io(&self.root))? {
            let entry = entry.map_err(CheckpointError::io(&self.root))?;
            if let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// One above every number present: a resumed fit never writes over an older checkpoint.
    pub fn next_number(&self) -> Result<u64, CheckpointError> {
        Ok(self.numbers()?.last().map_or(1, |last| last + 1))
    }

    /// Writes the next checkpoint, then removes all but the newest [`KEPT`]. Returns its folder, whole on
    /// disk.
    ///
    /// # Errors
    /// On failure (a full disk, say) what was there before is untouched and the half-written folder gone.
    pub fn write<H: Serialize>(&self, snapshot: &Snapshot<H>) -> Result<PathBuf, CheckpointError> {
        let number = self.next_number()?;
        let temporary = self.root.join(format!(".{number}.tmp"));
        let whole = self.root.join(number.to_string());
        remove_if_there(&temporary)?;
        std::fs::create_dir(&temporary).map_err(CheckpointError::io(&temporary))?;
        let written = files::write(&temporary, snapshot)
            .and_then(|()| std::fs::rename(&temporary, &whole).map_err(CheckpointError::io(&whole)))
            .and_then(|()| files::sync(&self.root));
        if let Err(error) = written {
            // Best effort: the disk may be the very thing that fails, and the first error tells more.
            let _ = std::fs::remove_dir_all(&temporary);
            return Err(error);
        }
        self.prune()?;
        Ok(whole)
    }

    /// The newest checkpoint that is whole, with its folder; torn ones are passed over and named in `torn`.
    ///
    /// # Errors
    /// Only what keeps the folder itself from being read.
    pub fn newest_whole<H: DeserializeOwned>(&self) -> Result<Newest<H>, CheckpointError> {
        let mut torn = Vec::new();
        for number in self.numbers()?.into_iter().rev() {
            let dir = self.root.join(number.to_string());
            match files::load(&dir) {
                Ok(loaded) => return Ok(Newest { found: Some((dir, loaded)), torn }),
                Err(error) => torn.push(error),
            }
        }
        Ok(Newest { found: None, torn })
    }

    fn prune(&self) -> Result<(), CheckpointError> {
        let numbers = self.numbers()?;
        let excess = numbers.len().saturating_sub(KEPT);
        for number in &numbers[..excess] {
            remove_if_there(&self.root.join(number.to_string()))?;
        }
        Ok(())
    }
}

/// Result of a scan.
#[derive(Debug)]
pub struct Newest<H> {
    pub found: Option<(PathBuf, Loaded<H>)>,
    /// Why newer ones were passed over, newest first; worth a warning each.
    pub torn: Vec<CheckpointError>,
}

fn remove_if_there(dir: &Path) -> Result<(), CheckpointError> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(CheckpointError::io(dir)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::fs;
    use tch::{Kind, Tensor};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Header {
        epoch: u32,
    }

    fn snapshot(epoch: u32) -> Snapshot<Header> {
        let weights = Tensor::from_slice(&[epoch as f32, 0.1, -2.5]);
        // A transposed view: what a fit hands over need not be contiguous.
        let grid = Tensor::arange(6, (Kind::Int64, tch::Device::Cpu)).view([2, 3]).tr();
        Snapshot { header: Header { epoch }, tensors: vec![("w".into(), weights), ("grid".into(), grid)] }
    }

    fn folder() -> (tempfile::TempDir, CheckpointFolder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = CheckpointFolder::open(dir.path().join("ckpt")).unwrap();
        (dir, folder)
    }

    #[test]
    fn what_was_written_comes_back_bit_for_bit() {
        let (_dir, folder) = folder();
        let written = folder.write(&snapshot(3)).unwrap();
        let loaded: Loaded<Header> = files::load(&written).unwrap();
        assert_eq!(loaded.header, Header { epoch: 3 });
        for (name, tensor) in snapshot(3).tensors {
            assert_eq!(loaded.tensors[&name], tensor, "{name}");
            assert_eq!(loaded.tensors[&name].kind(), tensor.kind());
        }
    }

    #[test]
    fn the_two_newest_are_kept_and_numbers_go_on() {
        let (_dir, folder) = folder();
        for epoch in 1..=4 {
            folder.write(&snapshot(epoch)).unwrap();
        }
        assert_eq!(folder.numbers().unwrap(), vec![3, 4]);
        let (dir, loaded) = folder.newest_whole::<Header>().unwrap().found.unwrap();
        assert_eq!((dir, loaded.header.epoch), (folder.root().join("4"), 4));
        assert_eq!(CheckpointFolder::open(folder.root()).unwrap().next_number().unwrap(), 5);
    }

    #[test]
    fn torn_checkpoints_are_passed_over_and_named() {
        type Damage = fn(&Path);
        let tear: [(&str, Damage); 4] = [
            ("missing", |d| fs::remove_file(d.join("state.json")).unwrap()),
            ("missing", |d| fs::remove_file(d.join("state.safetensors")).unwrap()),
            ("bytes", |d| {
                let path = d.join("state.safetensors");
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
            }),
            ("digest", |d| {
                let path = d.join("state.safetensors");
                let mut bytes = fs::read(&path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(&path, bytes).unwrap();
            }),
        ];
        for (word, damage) in tear {
            let (_dir, folder) = folder();
            folder.write(&snapshot(1)).unwrap();
            damage(&folder.write(&snapshot(2)).unwrap());
            let newest = folder.newest_whole::<Header>().unwrap();
            assert_eq!(newest.found.unwrap().1.header.epoch, 1, "{word}");
            assert!(newest.torn[0].to_string().contains(word), "{word}: {}", newest.torn[0]);
        }
    }

    #[test]
    fn a_crash_before_the_rename_leaves_nothing_to_find_and_nothing_in_the_way() {
        let (_dir, folder) = folder();
        folder.write(&snapshot(1)).unwrap();
        let half = folder.root().join(".2.tmp");
        fs::create_dir(&half).unwrap();
        fs::write(half.join("state.json"), b"{").unwrap();
        assert_eq!(folder.newest_whole::<Header>().unwrap().found.unwrap().1.header.epoch, 1);
        folder.write(&snapshot(2)).unwrap();
        assert_eq!(folder.newest_whole::<Header>().unwrap().found.unwrap().1.header.epoch, 2);
        assert!(!half.exists());
    }

    #[test]
    fn an_empty_folder_holds_no_checkpoint() {
        let (_dir, folder) = folder();
        let newest = folder.newest_whole::<Header>().unwrap();
        assert!(newest.found.is_none() && newest.torn.is_empty());
    }
}
