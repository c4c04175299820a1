//! A child process that never outlives us, and is asked before it is killed.

use anyhow::{Context as _, Result};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getppid};
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Lines of a log that are shown when a child gave up.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: u64 = 8 * 1024;

/// How to start a child.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    pub name: &'static str,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Its stdout and stderr, appended.
    pub log: PathBuf,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
}

impl ChildSpec {
    fn command(&self, log: &File) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().map(|(k, v)| (k, v))).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log.try_clone()?);
        // A group of its own: Ctrl-C in the terminal is for us, who stop the children in order.
        command.process_group(0);
        let parent = nix::unistd::getpid();
        // SAFETY: between fork and exec only two system calls are made, both async-signal-safe; no memory
        // is allocated, no lock taken.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                if getppid() != parent {
                    return Err(std::io::Error::from_raw_os_error(nix::libc::ESRCH));
                }
                Ok(())
            });
        }
        Ok(command)
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        tail(&self.log).unwrap_or_default()
    }
}

pub struct Child {
    /// `None` once it was reaped: from then on its number may be another process's.
    target: Arc<Mutex<Option<Pid>>>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Child {
    pub async fn spawn(spec: &ChildSpec) -> Result<Child> {
        let failed = || format!("starting {} ({})", spec.name, spec.program.display());
        if let Some(folder) = spec.log.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let open = OpenOptions::new().create(true).append(true).open(&spec.log);
        let log = open.with_context(|| format!("opening {}", spec.log.display()))?;
        let mut command = spec.command(&log)?;
        let (started, start) = oneshot::channel();
        let (ended, exit) = watch::channel(None);
        let target = Arc::new(Mutex::new(None));
        let shared = target.clone();
        // The parent-death signal comes when the *thread* that forked ends: this one lives as long as the
        // child, which a thread of the runtime may not.
        let body = move || match command.spawn() {
            Err(error) => drop(started.send(Err(error))),
            Ok(mut child) => {
                let pid = Pid::from_raw(child.id().cast_signed());
                *lock(&shared) = Some(pid);
                if started.send(Ok(())).is_err() {
                    let _gone = kill(pid, Signal::SIGKILL);
                }
                // Waits without reaping, so that no signal can hit a number that was given again.
                let _interrupted = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
                *lock(&shared) = None;
                ended.send_replace(child.wait().ok());
            }
        };
        std::thread::Builder::new().name(format!("child {}", spec.name)).spawn(body).with_context(failed)?;
        start.await.context("the thread of the child ended").with_context(failed)?.with_context(failed)?;
        Ok(Child { target, exit })
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = *lock(&self.target)
            && let Err(error) = kill(pid, signal)
        {
            tracing::warn!(%pid, %signal, %error, "child could not be signalled");
        }
    }

    /// Waits for its end; `None` if the status is not to be had.
    pub async fn wait(&self) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        // An error means that the thread ended, and with it the child.
        exit.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }

    /// SIGTERM, and SIGKILL after the grace.
    pub async fn stop(&self, grace: Duration) {
        self.signal(Signal::SIGTERM);
        if tokio::time::timeout(grace, self.wait()).await.is_err() {
            self.signal(Signal::SIGKILL);
            let _status = self.wait().await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
    }
}

fn lock(target: &Mutex<Option<Pid>>) -> std::sync::MutexGuard<'_, Option<Pid>> {
    // A single assignment can not be left half done.
    target.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tail(path: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Some(lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n"))
}
