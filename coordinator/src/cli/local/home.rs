//! The home of a cluster on this machine: which files are where, who owns it, where it can be reached.

use crate::cli::exit::{Exit, Fault};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How the cluster of a home can be reached; also kept after its end, for the defaults of later commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub nats_url: String,
    pub token: String,
    pub store_url: String,
    pub data_url: Option<String>,
    pub output_dir: PathBuf,
    pub pid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

/// Held while a cluster of this home runs. The children do not inherit it.
pub struct HomeLock {
    _file: File,
}

impl Home {
    pub fn at(root: &Path) -> Home {
        Home { root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()) }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Data of the private nats-server.
    pub fn nats_dir(&self) -> PathBuf {
        self.root.join("nats")
    }

    pub fn store_url(&self) -> String {
        format!("file://{}", self.root.join("objects").display())
    }

    pub fn agent_dir(&self) -> PathBuf {
        self.root.join("agent")
    }

    /// Digests of captures by size and time, so that a second look is quick. `None` before anything was
    /// run here: looking leaves no trace.
    pub fn hash_cache(&self) -> Option<PathBuf> {
        self.root.is_dir().then(|| self.root.join("hashes.json"))
    }

    fn running_file(&self) -> PathBuf {
        self.root.join("local.json")
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub fn create(&self) -> Result<()> {
        std::fs::create_dir_all(&self.root)
            .and_then(|()| std::fs::set_permissions(&self.root, std::fs::Permissions::from_mode(0o700)))
            .with_context(|| format!("making the home folder {}", self.root.display()))
    }

    /// Takes the home for this process.
    pub fn lock(&self) -> Result<HomeLock> {
        let path = self.lock_file();
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.with_context(|| format!("opening {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(HomeLock { _file: file }),
            Err(TryLockError::WouldBlock) => {
                let owner =
                    self.last().map_or("another process".to_owned(), |l| format!("process {}", l.pid));
                let message = format!("{owner} runs a local cluster in {} already", self.root.display());
                Err(Fault::new(Exit::Error, message)
                    .way_out("use it with `coord run`, stop it, or give this one another --home")
                    .into())
            }
            Err(TryLockError::Error(e)) => Err(e).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// Tells later commands where the cluster is. Only its owner can read it: it holds the token.
    pub fn write_running(&self, running: &Running) -> Result<()> {
        let path = self.running_file();
        let draft = path.with_extension("new");
        let write = || {
            let text = serde_json::to_vec_pretty(running)?;
            let open = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft);
            open.and_then(|mut file| file.write_all(&text))?;
            std::fs::rename(&draft, &path)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// The cluster that ran here last, whether it lives or not.
    pub fn last(&self) -> Option<Running> {
        let text = std::fs::read(self.running_file()).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// The cluster that runs here now.
    pub fn running(&self) -> Option<Running> {
        // A held lock, not the process number, tells life: numbers are given again.
        let file = OpenOptions::new().write(true).open(self.lock_file()).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => self.last(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_has_one_owner_and_tells_where_its_cluster_is() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(&dir.path().join("home"));
        assert_eq!((home.hash_cache(), home.running()), (None, None));
        home.create().unwrap();
        let running = Running {
            nats_url: "nats://127.0.0.1:1".into(),
            token: "t".into(),
            store_url: home.store_url(),
            data_url: None,
            output_dir: dir.path().into(),
            pid: 7,
        };
        home.write_running(&running).unwrap();
        assert_eq!((home.last(), home.running()), (Some(running.clone()), None));
        let lock = home.lock().unwrap();
        assert_eq!(home.running(), Some(running));
        let error = home.lock().map(drop).unwrap_err().to_string();
        assert!(error.contains("process 7"), "{error}");
        drop(lock);
        assert_eq!(home.running(), None);
    }
}
