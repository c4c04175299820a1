//! The child process: started and awaited on a thread of its own, signalled without a race.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getppid};
use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{oneshot, watch};

/// A running or ended child. Dropping it asks the child to stop.
pub(super) struct Child {
    pid: Pid,
    /// `None` once the child was reaped: from then on its number may be another process's.
    target: Arc<Mutex<Option<Pid>>>,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Child {
    /// Starts `command`, which inherits `keep_open` and is told to stop when this process dies.
    pub(super) async fn spawn(mut command: Command, keep_open: RawFd) -> io::Result<Self> {
        let parent = nix::unistd::getpid();
        // A group of its own: Ctrl-C in the terminal is for us, who stop the server last.
        command.process_group(0);
        // SAFETY: between fork and exec only these three system calls are made, all async-signal-safe; no
        // memory is allocated, no lock taken. `keep_open` belongs to the lock that outlives this call.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGTERM)?;
                if getppid() != parent {
                    return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
                }
                fcntl(BorrowedFd::borrow_raw(keep_open), FcntlArg::F_SETFD(FdFlag::empty()))?;
                Ok(())
            });
        }
        let (started, start) = oneshot::channel();
        let (ended, exit) = watch::channel(None);
        let target = Arc::new(Mutex::new(None));
        let shared = target.clone();
        // The parent-death signal comes when the *thread* that forked ends, so neither a worker nor a blocking
        // thread of the runtime may fork: this one lives as long as the child.
        let body = move || match command.spawn() {
            Err(error) => drop(started.send(Err(error))),
            Ok(mut child) => {
                let pid = Pid::from_raw(child.id().cast_signed());
                *lock(&shared) = Some(pid);
                // If nobody waits for the start any more, nobody will stop the child: do it here.
                if started.send(Ok(pid)).is_err() {
                    let _ = kill(pid, Signal::SIGTERM);
                }
                // Waits without reaping, so that no signal can hit a reused number.
                let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
                *lock(&shared) = None;
                let status = child.wait().ok();
                ended.send_replace(status);
            }
        };
        std::thread::Builder::new().name("nats-server".to_owned()).spawn(body)?;
        let pid = start.await.map_err(|_| io::Error::other("the thread of the child ended"))??;
        Ok(Self { pid, target, exit })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw().cast_unsigned()
    }

    pub(super) fn is_alive(&self) -> bool {
        lock(&self.target).is_some()
    }

    /// Sends a signal; an ended child needs none.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = *lock(&self.target)
            && let Err(error) = kill(pid, signal)
        {
            tracing::warn!(%pid, %signal, %error, "nats-server could not be signalled");
        }
    }

    /// Waits for the end of the child; `None` if its status is not to be had.
    pub(super) async fn wait(&self) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        // An error means that the thread has ended, and with it the child.
        exit.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }
}

fn lock(target: &Mutex<Option<Pid>>) -> std::sync::MutexGuard<'_, Option<Pid>> {
    // A single assignment cannot be left half done.
    target.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
    }
}
