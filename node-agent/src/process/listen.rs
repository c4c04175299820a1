//! The child's voice and its end: one thread reads frames, another waits for the exit.

use super::diagnose::MARKER;
use super::registry::Processes;
use crate::agent::Told;
use crate::logs::Logs;
use agent_core::{ChildExit, Event, RunId};
use common::trainer_protocol::{FrameError, FromTrainer, read_frame};
use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, ChildStdout, ExitStatus};
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// Last bytes of stderr that go into a failure's message.
const TAIL_BYTES: u64 = 2_000;
/// Of what a hung child hangs in, beside its own last lines.
const THREADS_BYTES: usize = 600;
/// The last lines are looked for in so much of the log.
const LOOK_BACK_BYTES: u64 = 256 * 1024;
/// Frames of a newer protocol that are skipped before the child counts as foreign.
const UNKNOWN_FRAMES_MAX: u32 = 100;
/// For the pipe to run dry when the process group is dead (one that left the group may hold it open).
const DRAIN: Duration = Duration::from_secs(30);

pub struct Ear {
    pub run: RunId,
    pub out: PathBuf,
    pub log: PathBuf,
    /// Where this child's lines begin in the log.
    pub log_from: u64,
    pub processes: Processes,
    pub logs: Logs,
}

/// Holds both threads back until the loop knows of the child.
pub struct Gate([mpsc::SyncSender<()>; 2]);

impl Gate {
    pub fn open(self) {
        for waiting in self.0 {
            // The thread waits for nothing else; the channel has room for this one.
            let _ = waiting.send(());
        }
    }
}

/// Starts both threads; the second ends with `Exited`. On an error none of them touches the child.
pub fn start(ear: Ear, child: Child, stdout: Option<ChildStdout>, told: Sender<Told>) -> io::Result<Gate> {
    let (promised, promises) = mpsc::sync_channel(1);
    let (hearing, may_hear) = mpsc::sync_channel(1);
    let (waiting, may_wait) = mpsc::sync_channel(1);
    let (run, tell) = (ear.run, told.clone());
    std::thread::Builder::new().name(format!("frames {run}")).spawn(move || {
        if may_hear.recv().is_ok() {
            let files = stdout.map_or_else(Vec::new, |pipe| hear(run, pipe, &tell));
            // Nobody waits any more if the pipe outlived the process group.
            let _ = promised.send(files);
        }
    })?;
    std::thread::Builder::new().name(format!("end {run}")).spawn(move || {
        if may_wait.recv().is_ok() {
            end(&ear, child, &promises, &told);
        }
    })?;
    Ok(Gate([hearing, waiting]))
}

fn end(ear: &Ear, child: Child, promises: &mpsc::Receiver<Vec<String>>, told: &Sender<Told>) {
    let exit = wait(ear, child);
    let files = promises.recv_timeout(DRAIN).unwrap_or_default();
    let missing = files.into_iter().filter(|name| !is_there(&ear.out, name)).collect();
    let stderr_tail = tail(&ear.log, ear.log_from).unwrap_or_default();
    ear.logs.end(ear.run);
    // A loop that is gone needs no news.
    let _ = told.blocking_send(Told::news(Event::Exited { run: ear.run, exit, stderr_tail, missing }));
}

/// Tells every frame; returns the files that `Done` promised.
fn hear(run: RunId, pipe: ChildStdout, told: &Sender<Told>) -> Vec<String> {
    let mut pipe = BufReader::new(pipe);
    let (mut files, mut unknown) = (Vec::new(), 0);
    loop {
        let event = match read_frame::<FromTrainer>(&mut pipe) {
            Ok(frame) => {
                if let FromTrainer::Done(done) = &frame {
                    files.clone_from(&done.files);
                }
                Event::Frame { run, frame }
            }
            Err(FrameError::Closed) => return files,
            Err(FrameError::Decode(error)) if unknown < UNKNOWN_FRAMES_MAX => {
                unknown += 1;
                tracing::warn!(%run, %error, "a frame of an unknown kind is skipped");
                continue;
            }
            Err(error) => {
                let message = error.to_string();
                let heard = told.blocking_send(Told::news(Event::Garbage { run, message }));
                // Read on, so that the child does not block on a full pipe until it is killed.
                if heard.is_ok()
                    && let Err(error) = io::copy(&mut pipe, &mut io::sink())
                {
                    tracing::debug!(%run, %error, "the pipe broke");
                }
                return files;
            }
        };
        if told.blocking_send(Told::news(event)).is_err() {
            return files;
        }
    }
}

fn wait(ear: &Ear, mut child: Child) -> ChildExit {
    let pid = Pid::from_raw(child.id() as i32);
    // Without reaping: until it is reaped under the lock, the pid can not be anyone else's.
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while let Err(Errno::EINTR) = waitid(Id::Pid(pid), flags) {}
    match ear.processes.reap(&ear.run, &mut child) {
        Ok(status) => exit_of(status),
        Err(error) => {
            tracing::warn!(run = %ear.run, %error, "the child could not be waited for");
            ChildExit::Signal(0)
        }
    }
}

fn exit_of(status: ExitStatus) -> ChildExit {
    match (status.code(), status.signal()) {
        (Some(code), _) => ChildExit::Code(code),
        (None, signal) => ChildExit::Signal(signal.unwrap_or(0)),
    }
}

/// A promised file that lies below `out` and nowhere else.
fn is_there(out: &Path, name: &str) -> bool {
    let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    inside && out.join(name).is_file()
}

/// The last whole lines of the log from `from` on. Of a diagnosis at its end only the beginning is taken.
fn tail(log: &Path, from: u64) -> io::Result<String> {
    let mut file = File::open(log)?;
    let end = file.metadata()?.len();
    let begin = end.saturating_sub(LOOK_BACK_BYTES).max(from);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(LOOK_BACK_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (own, diagnosis) = text.split_at(text.rfind(MARKER).unwrap_or(text.len()));
    let beginning = &diagnosis[..diagnosis.floor_char_boundary(THREADS_BYTES)];
    let most = TAIL_BYTES as usize - beginning.len();
    let kept = &own[own.ceil_char_boundary(own.len().saturating_sub(most))..];
    let whole = match kept.split_once('\n') {
        Some((_torn, rest)) if kept.len() < own.len() => rest,
        _ => kept,
    };
    Ok(format!("{whole}{beginning}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_of_this_child_and_begins_with_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "of another child\nfirst\nlast\n").unwrap();
        assert_eq!(tail(&log, 17).unwrap(), "first\nlast\n");
        let long = "x".repeat(50) + "\n";
        std::fs::write(&log, long.repeat(100)).unwrap();
        let kept = tail(&log, 0).unwrap();
        assert!(kept.lines().all(|line| line.len() == 50) && kept.len() > 1_900, "{kept}");
        std::fs::write(&log, format!("{}{MARKER}\n{}", long.repeat(100), "  thread\n".repeat(1_000)))
            .unwrap();
        let hung = tail(&log, 0).unwrap();
        assert!(hung.starts_with("xxx") && hung.contains(MARKER), "both are told: {hung}");
        assert!(hung.len() <= TAIL_BYTES as usize && hung.len() > 1_900, "{}", hung.len());
    }

    #[test]
    fn a_promised_file_outside_of_the_folder_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        std::fs::create_dir(&out).unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        std::fs::write(out.join("model"), "x").unwrap();
        assert!(is_there(&out, "model"));
        assert!(!is_there(&out, "../secret") && !is_there(&out, "missing"));
        assert!(!is_there(&out, folder.path().join("secret").to_str().unwrap()));
    }
}
