//! Which attempt has which child. A pid is signalled only under the lock and only while the child is not
//! reaped, so a signal never hits a stranger that got the same number.

use agent_core::RunId;
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::io::{self, Write};
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// ```text
///   (none) --start begins--> Starting --started--> Alive --reaped--> Ended --cleaned--> (none)
///      `--killed--> Barred       `--killed--> Starting{kill} --started--> Alive, killed at once
/// ```
enum Entry {
    Starting {
        kill: bool,
    },
    Alive {
        pid: u32,
        stdin: Option<Arc<Mutex<ChildStdin>>>,
    },
    Ended,
    /// May not start any more.
    Barred,
}

/// What killing found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// There is a child (or will be in a moment); its end will be told.
    Child,
    /// There is none and will be none.
    Never,
}

/// A cheap handle.
#[derive(Clone, Default)]
pub struct Processes {
    entries: Arc<Mutex<HashMap<RunId, Entry>>>,
}

impl Processes {
    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a child may be started now.
    pub fn begin_start(&self, run: RunId) -> bool {
        let mut entries = self.lock();
        if entries.contains_key(&run) {
            return false;
        }
        entries.insert(run, Entry::Starting { kill: false });
        true
    }

    pub fn started(&self, run: RunId, pid: u32, stdin: Option<ChildStdin>) {
        let mut entries = self.lock();
        let kill = matches!(entries.get(&run), Some(Entry::Starting { kill: true }));
        entries.insert(run, Entry::Alive { pid, stdin: stdin.map(|s| Arc::new(Mutex::new(s))) });
        if kill {
            signal(pid);
        }
    }

    /// A start that came to nothing. Being barred stays.
    pub fn forget_start(&self, run: &RunId) {
        let mut entries = self.lock();
        if matches!(entries.get(run), Some(Entry::Starting { .. })) {
            entries.remove(run);
        }
    }

    /// Kills and reaps a child that nobody could listen to.
    pub fn abandon(&self, run: &RunId, pid: u32) {
        let mut entries = self.lock();
        signal(pid);
        if let Err(errno) = nix::sys::wait::waitpid(Pid::from_raw(pid as i32), None) {
            tracing::warn!(pid, %errno, "an abandoned child could not be waited for");
        }
        entries.remove(run);
    }

    /// Kills the whole process group, or sees to it that no child is started.
    pub fn kill(&self, run: &RunId) -> Killed {
        let mut entries = self.lock();
        match entries.get_mut(run) {
            Some(Entry::Alive { pid, .. }) => {
                signal(*pid);
                Killed::Child
            }
            Some(Entry::Starting { kill }) => {
                *kill = true;
                Killed::Child
            }
            // The end is on its way to the loop.
            Some(Entry::Ended) => Killed::Child,
            Some(Entry::Barred) => Killed::Never,
            None => {
                entries.insert(*run, Entry::Barred);
                Killed::Never
            }
        }
    }

    pub fn kill_all(&self) {
        for entry in self.lock().values() {
            if let Entry::Alive { pid, .. } = entry {
                signal(*pid);
            }
        }
    }

    /// Waits until the child of `run` is reaped, at most `limit`. Blocking.
    pub fn wait_gone(&self, run: &RunId, limit: Duration) {
        let until = Instant::now() + limit;
        let alive = || matches!(self.lock().get(run), Some(Entry::Alive { .. } | Entry::Starting { .. }));
        while alive() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Writes to the child's stdin. Blocking.
    pub fn write(&self, run: &RunId, bytes: &[u8]) -> io::Result<()> {
        // Not under the lock of all: a pipe can be full.
        let stdin = match self.lock().get(run) {
            Some(Entry::Alive { stdin: Some(stdin), .. }) => stdin.clone(),
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        let mut stdin = stdin.lock().unwrap_or_else(PoisonError::into_inner);
        stdin.write_all(bytes)?;
        stdin.flush()
    }

    /// Reaps a child that has ended already (but is still a zombie), its group killed before: no process of
    /// the attempt is left, and its pid is free from here on.
    pub fn reap(&self, run: &RunId, child: &mut Child) -> io::Result<ExitStatus> {
        let mut entries = self.lock();
        signal(child.id());
        let status = child.wait();
        entries.insert(*run, Entry::Ended);
        status
    }

    /// The attempt is gone.
    pub fn forget(&self, run: &RunId) {
        self.lock().remove(run);
    }
}

fn signal(pid: u32) {
    match killpg(Pid::from_raw(pid as i32), Signal::SIGKILL) {
        // ESRCH, EPERM: nobody of the group is left but perhaps a zombie.
        Ok(()) | Err(Errno::ESRCH | Errno::EPERM) => {}
        Err(errno) => tracing::warn!(pid, %errno, "a process group could not be killed"),
    }
}
