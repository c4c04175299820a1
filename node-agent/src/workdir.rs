//! Folders of one agent, and the lock that keeps a second one out.
//!
//! ```text
//!   agent.lock                      held while the agent lives
//!   scratch/<key>.<attempt>/        of one attempt: parents, resume, out, ckpt; deleted when it is gone
//!   kept/<key>/                     a finished result that the store does not have yet
//!   cache/prepared/                 prepared graphs, written by trainers, by content
//!   cache/objects/                  files of committed parents, by digest
//!   captures/                       captures fetched from a store that is no folder
//!   process_logs/<plan>/<dataset>.<phase>.<attempt>.log
//!   log_notes/<key>.<attempt>.json  how far a log is on its way to the bus and the store
//!   ceilings.json                   what ran out of memory here
//!   orchestrator_logs/              of the agent itself
//! ```

use crate::store::kept;
use agent_core::RunId;
use common::ids::JobId;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum WorkDirError {
    #[error("work folder {}: another node-agent is at work there (pid {pid}); give each its own --work-dir", .path.display())]
    Taken { path: PathBuf, pid: String },
    #[error("work folder {}: cannot {doing}: {source}; check owner, mode and free space", .path.display())]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
}

/// The folders; the lock is held until this is dropped.
#[derive(Debug)]
pub struct WorkDir {
    root: PathBuf,
    _lock: Flock<File>,
}

impl WorkDir {
    /// Takes the folder, checks that it can be written, and deletes the scratch of an earlier life: its
    /// children died with it.
    pub fn take(root: &Path) -> Result<WorkDir, WorkDirError> {
        let failed = |doing| move |source| WorkDirError::Io { path: root.to_owned(), doing, source };
        fs::create_dir_all(root).map_err(failed("make it"))?;
        let root = root.canonicalize().map_err(failed("find it"))?;
        let lock = lock(&root)?;
        let scratch = root.join("scratch");
        for folder in
            ["scratch", "kept", "cache/prepared", "cache/objects", "captures", "process_logs", "log_notes"]
        {
            fs::create_dir_all(root.join(folder)).map_err(failed("make its folders"))?;
        }
        clear(&Layout { root: root.clone() }, &scratch).map_err(failed("clear the scratch folder"))?;
        let probe = scratch.join("probe");
        fs::write(&probe, [0u8; 4096]).and_then(|()| fs::remove_file(&probe)).map_err(failed("write"))?;
        Ok(WorkDir { root, _lock: lock })
    }

    pub fn layout(&self) -> Layout {
        Layout { root: self.root.clone() }
    }
}

/// What a dead child left, but for what it finished.
fn clear(layout: &Layout, scratch: &Path) -> io::Result<()> {
    for entry in fs::read_dir(scratch)? {
        let entry = entry?;
        kept::keep(layout, &entry.path());
        match entry.file_type()?.is_dir() {
            true if entry.path().exists() => fs::remove_dir_all(entry.path())?,
            true => {}
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

fn lock(root: &Path) -> Result<Flock<File>, WorkDirError> {
    let path = root.join("agent.lock");
    let failed = |source| WorkDirError::Io { path: root.to_owned(), doing: "lock it", source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).read(true).open(&path);
    match Flock::lock(file.map_err(failed)?, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            lock.set_len(0).map_err(failed)?;
            lock.write_all(std::process::id().to_string().as_bytes()).map_err(failed)?;
            Ok(lock)
        }
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => {
            let pid = fs::read_to_string(&path).unwrap_or_default();
            Err(WorkDirError::Taken { path: root.to_owned(), pid })
        }
        Err((_, errno)) => Err(failed(errno.into())),
    }
}

/// Where things are; cheap to clone.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn scratch(&self, run: &RunId) -> PathBuf {
        self.root.join("scratch").join(run.to_string())
    }

    /// Where the trainer puts its result.
    pub fn out(&self, run: &RunId) -> PathBuf {
        self.scratch(run).join("out")
    }

    pub fn prepared(&self) -> PathBuf {
        self.root.join("cache/prepared")
    }

    pub fn objects(&self) -> PathBuf {
        self.root.join("cache/objects")
    }

    pub fn kept(&self) -> PathBuf {
        self.root.join("kept")
    }

    pub fn process_logs(&self) -> PathBuf {
        self.root.join("process_logs")
    }

    pub fn log_notes(&self) -> PathBuf {
        self.root.join("log_notes")
    }

    pub fn ceilings(&self) -> PathBuf {
        self.root.join("ceilings.json")
    }

    pub fn captures(&self) -> PathBuf {
        self.root.join("captures")
    }

    pub fn agent_logs(root: &Path) -> PathBuf {
        root.join("orchestrator_logs")
    }

    pub fn process_log(&self, job: &JobId, run: &RunId) -> PathBuf {
        let name = format!("{}.{}.{}.log", job.name.dataset, job.name.phase, run.attempt);
        self.process_logs().join(job.plan.as_str()).join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_is_kept_out_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = WorkDir::take(folder.path()).unwrap();
        let told = WorkDir::take(folder.path()).unwrap_err().to_string();
        assert!(
            told.contains("another node-agent") && told.contains(&std::process::id().to_string()),
            "{told}"
        );
        drop(first);
        WorkDir::take(folder.path()).unwrap();
    }

    #[test]
    fn scratch_of_an_earlier_life_is_deleted_and_the_cache_kept() {
        let folder = tempfile::tempdir().unwrap();
        drop(WorkDir::take(folder.path()).unwrap());
        fs::write(folder.path().join("scratch/left"), "x").unwrap();
        fs::write(folder.path().join("cache/prepared/kept"), "x").unwrap();
        drop(WorkDir::take(folder.path()).unwrap());
        assert!(!folder.path().join("scratch/left").exists());
        assert!(folder.path().join("cache/prepared/kept").exists());
    }
}
