//! The thread that starts children. `PR_SET_PDEATHSIG` fires when the *thread* that forked ends, so children
//! may not be made by threads of a pool, which come and go.

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getppid, setsid};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::mpsc;
use tokio::sync::oneshot;

struct Order {
    command: Command,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// A handle; the thread lives until the last one is dropped.
#[derive(Clone)]
pub struct Spawner {
    orders: mpsc::SyncSender<Order>,
}

impl Spawner {
    pub fn start() -> io::Result<Spawner> {
        let (orders, incoming) = mpsc::sync_channel::<Order>(16);
        std::thread::Builder::new().name("spawner".to_owned()).spawn(move || {
            for Order { mut command, answer } in incoming {
                prepare(&mut command);
                if let Err(Ok(mut unwanted)) = answer.send(command.spawn()) {
                    // Nobody waits any more: a child that nobody knows must not live.
                    let ended = unwanted.kill().and_then(|()| unwanted.wait());
                    tracing::warn!(?ended, "a child was started for nobody");
                }
            }
        })?;
        Ok(Spawner { orders })
    }

    /// Starts `command` in a session and process group of its own; it dies with this process.
    pub async fn spawn(&self, command: Command) -> io::Result<Child> {
        let (answer, answered) = oneshot::channel();
        let gone = || io::Error::other("the spawner thread is gone");
        self.orders
            .try_send(Order { command, answer })
            .map_err(|_| io::Error::other("too many starts at once"))?;
        answered.await.map_err(|_| gone())?
    }
}

fn prepare(command: &mut Command) {
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are made: setsid, prctl, getppid.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the signal was asked for.
            if getppid() != parent {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
    }
}
