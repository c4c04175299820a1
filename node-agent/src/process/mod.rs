//! The trainer child: started from one long-lived thread (its death signal is tied to the thread that made
//! it), in a process group of its own, heard through two threads, and gone only when it was reaped.
//!
//! | file | holds |
//! |--|--|
//! | `spawner` | the thread that starts children |
//! | `registry` | which attempt has which child; killing without hitting a stranger's pid |
//! | `listen` | frames from stdout, the end, the last lines of stderr |
//! | [`diagnose`] | what a hung child hangs in |

pub mod diagnose;
mod listen;
mod registry;
mod spawner;

pub use registry::{Killed, Processes};
pub use spawner::Spawner;

use crate::agent::Told;
use crate::clock::Clock;
use crate::logs::{Logs, Note};
use crate::store::kept;
use agent_core::{Event, RunId};
use common::trainer_protocol::{Start, ToTrainer, encode_frame};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tokio::sync::mpsc::Sender;

/// Variables that a child has no business with: it speaks to no network.
const SECRETS: &[&str] = &["AWS_", "COORD_NATS_", "COORD_STORE_"];

/// Everything one child is started with.
pub struct Plan {
    pub run: RunId,
    pub program: PathBuf,
    pub start: Start,
    /// The card it may see; `None` = none.
    pub card: Option<Card>,
    pub log: PathBuf,
    /// The log on its way to those who follow it.
    pub note: Note,
    pub logs: Logs,
    pub clock: Clock,
    pub resumed_from_epoch: Option<u32>,
}

/// A card as a child sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    pub id: String,
    /// Part of its memory that the child may take, more than 0 and at most 1: its reservation, so that neighbours
    /// on the card are never starved.
    pub memory_share: f64,
}

/// Starts the child, tells `Spawned` (or `SpawnFailed`), then everything it says and its end.
pub async fn spawn(plan: Plan, spawner: Spawner, processes: Processes, told: Sender<Told>) {
    let run = plan.run;
    if let Err(message) = begin(plan, spawner, processes.clone(), &told).await {
        processes.forget_start(&run);
        // A loop that is gone needs no news.
        let _ = told.send(Told::news(Event::SpawnFailed { run, message })).await;
    }
}

async fn begin(
    plan: Plan,
    spawner: Spawner,
    processes: Processes,
    told: &Sender<Told>,
) -> Result<(), String> {
    let Plan { run, program, start, card, log, note, logs, clock, resumed_from_epoch } = plan;
    let failed = |what: &'static str| move |e: io::Error| format!("cannot {what}: {e}");
    let scratch = start.scratch_dir.clone();
    fs::create_dir_all(&scratch).map_err(failed("make the scratch folder"))?;
    kept::set_aside(&scratch).map_err(failed("write to the scratch folder"))?;
    let (stderr, log_from) = open_log(&log).map_err(failed("open the process log"))?;
    let frame = encode_frame(&ToTrainer::Start(Box::new(start.clone()))).map_err(|e| e.to_string())?;
    if !processes.begin_start(run) {
        return Err("its slot was lost before it started".to_owned());
    }
    let command = command(&program, &start, card.as_ref(), &scratch, stderr);
    let mut child =
        spawner.spawn(command).await.map_err(|e| format!("cannot start {}: {e}", program.display()))?;
    let (pid, at) = (child.id(), clock.wall(clock.now()));
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let ear = listen::Ear {
        run,
        out: scratch.join("out"),
        log,
        log_from,
        processes: processes.clone(),
        logs: logs.clone(),
    };
    let gate = match listen::start(ear, child, stdout, told.clone()) {
        Ok(gate) => gate,
        Err(error) => {
            processes.abandon(&run, pid);
            return Err(format!("cannot start the threads that listen to the trainer: {error}"));
        }
    };
    processes.started(run, pid, stdin);
    logs.begin(note).await;
    // First Spawned, then what it says: the channel keeps the order.
    let _ = told.send(Told::news(Event::Spawned { run, pid, at, resumed_from_epoch })).await;
    gate.open();
    // Last, and off this task: a child that reads nothing must not hold up its own end.
    let written = tokio::task::spawn_blocking(move || processes.write(&run, &frame)).await;
    if let Ok(Err(error)) = written {
        tracing::warn!(%run, %error, "the start message was not taken");
    }
    Ok(())
}

fn command(program: &Path, start: &Start, card: Option<&Card>, scratch: &Path, stderr: File) -> Command {
    let mut command = Command::new(program);
    command.arg("run");
    if let Some(traceparent) = &start.traceparent {
        command.args(["--traceparent", traceparent]);
    }
    for (name, _) in std::env::vars_os() {
        if SECRETS.iter().any(|secret| name.to_string_lossy().starts_with(secret)) {
            command.env_remove(name);
        }
    }
    command.env("CUDA_VISIBLE_DEVICES", card.map_or("", |card| &card.id));
    if let Some(card) = card {
        // libtorch's allocator keeps to it from its first block on.
        command.env("PYTORCH_ALLOC_CONF", format!("per_process_memory_fraction:{:.4}", card.memory_share));
    }
    command.current_dir(scratch).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
    command
}

/// Appends: an attempt has one log, whatever it goes through. Returns where the new lines begin.
fn open_log(path: &Path) -> io::Result<(File, u64)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.flush()?;
    let from = file.metadata()?.len();
    Ok((file, from))
}
