//! The home of a cluster on this machine: which files are where, who owns it, where it can be reached.

use crate::cli::exit::{Exit, Fault};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Whoever looks whether a cluster runs holds the lock for a moment.
const LOOKERS_MAX: Duration = Duration::from_secs(1);
/// From the lock to an address: a nats-server with a large store takes a while to be read.
const START_MAX: Duration = Duration::from_secs(40);
/// No process has this number.
const NOBODY: u32 = 0;
const POLL: Duration = Duration::from_millis(20);

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
    pub async fn lock(&self) -> Result<HomeLock> {
        let path = self.lock_file();
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let mut file = open.with_context(|| format!("opening {}", path.display()))?;
        let deadline = Instant::now() + LOOKERS_MAX;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // Maybe only somebody who looks whether a cluster runs here.
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => tokio::time::sleep(POLL).await,
                Err(TryLockError::WouldBlock) => return Err(self.taken().into()),
                Err(TryLockError::Error(e)) => {
                    return Err(e).with_context(|| format!("locking {}", path.display()));
                }
            }
        }
        // Whose the lock is. What an earlier owner wrote about its cluster is void from here on, also when it had
        // the same number (in a container everybody has).
        if let Some(earlier) = self.last() {
            self.write_running(&Running { pid: NOBODY, ..earlier })?;
        }
        let sign = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        sign.with_context(|| format!("writing {}", path.display()))?;
        Ok(HomeLock { _file: file })
    }

    fn taken(&self) -> Fault {
        let owner = self.owner().map_or("another process".to_owned(), |pid| format!("process {pid}"));
        let message = format!("{owner} runs a local cluster in {} already", self.root.display());
        Fault::new(Exit::Error, message)
            .way_out("use it with `coord run`, stop it, or give this one another --home")
    }

    /// Who took the lock last.
    fn owner(&self) -> Option<u32> {
        std::fs::read_to_string(self.lock_file()).ok()?.trim().parse().ok()
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

    /// The cluster that runs here now; one that is just starting is waited for.
    ///
    /// Errors: it does not get going.
    pub async fn running(&self) -> Result<Option<Running>> {
        let deadline = Instant::now() + START_MAX;
        loop {
            // A held lock, not the process number, tells life: numbers are given again.
            let Ok(file) = OpenOptions::new().write(true).open(self.lock_file()) else { return Ok(None) };
            let Err(TryLockError::WouldBlock) = file.try_lock_shared() else { return Ok(None) };
            drop(file);
            let (owner, told) = (self.owner(), self.last());
            if let Some(running) = told.filter(|r| Some(r.pid) == owner) {
                return Ok(Some(running));
            }
            if Instant::now() >= deadline {
                let message = format!("the local cluster in {} does not get going", self.root.display());
                return Err(Fault::new(Exit::Unavailable, message)
                    .way_out("stop it and look at its log, coordinator_logs/ in its --output-dir")
                    .into());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_home_has_one_owner_and_tells_where_its_cluster_is() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(&dir.path().join("home"));
        assert_eq!((home.hash_cache(), home.running().await.unwrap()), (None, None));
        home.create().unwrap();
        let running = Running {
            nats_url: "nats://127.0.0.1:1".into(),
            token: "t".into(),
            store_url: home.store_url(),
            data_url: None,
            output_dir: dir.path().into(),
            pid: std::process::id(),
        };
        home.write_running(&running).unwrap();
        assert_eq!((home.last(), home.running().await.unwrap()), (Some(running.clone()), None));
        let lock = home.lock().await.unwrap();
        home.write_running(&running).unwrap();
        assert_eq!(home.running().await.unwrap(), Some(running));
        let error = home.lock().await.map(drop).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(lock);
        assert_eq!(home.running().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_an_earlier_cluster_wrote_is_not_the_one_that_starts() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let running = |port: u16, pid: u32| Running {
            nats_url: format!("nats://127.0.0.1:{port}"),
            token: "t".into(),
            store_url: home.store_url(),
            data_url: None,
            output_dir: dir.path().into(),
            pid,
        };
        home.write_running(&running(1, std::process::id())).unwrap();
        let lock = home.lock().await.unwrap();
        let starting = async {
            tokio::time::sleep(POLL * 3).await;
            home.write_running(&running(2, std::process::id())).unwrap();
        };
        let (found, ()) = tokio::join!(home.running(), starting);
        assert_eq!(found.unwrap().unwrap().nats_url, "nats://127.0.0.1:2");
        drop(lock);
    }

    /// Somebody who looks holds the lock for a moment, together with all others who look.
    #[tokio::test]
    async fn a_look_keeps_nobody_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        drop(home.lock().await.unwrap());
        let looking = OpenOptions::new().write(true).open(home.lock_file()).unwrap();
        looking.try_lock_shared().unwrap();
        let looked = async {
            tokio::time::sleep(POLL * 3).await;
            drop(looking);
        };
        let (lock, ()) = tokio::join!(home.lock(), looked);
        lock.unwrap();
    }
}
