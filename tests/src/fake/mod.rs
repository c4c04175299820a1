//! The fake trainer: the real protocol, real files, time and faults by script.
//!
//! | module | holds |
//! |--|--|
//! | [`script`] | what it shall do: stages, epochs, outputs, and faults by attempt |
//! | [`work`] | its "training": a chain of digests, so a resumed run ends in the same bytes as a whole one |
//! | here | the way from `Start` to the exit code |

pub mod script;
pub mod work;

use common::trainer_protocol::{
    Done, EpochReport, FailureKind, FrameError, FromTrainer, PROTOCOL_VERSION, Stage, Start, ToTrainer,
    exit_code, read_frame, write_frame,
};
use common::units::Mib;
use script::{Fault, Script};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use work::Model;

/// Asked to stop, with or without a checkpoint.
struct Stop {
    checkpoint: bool,
}

/// Ends with this exit code.
struct Exit(i32);

/// Reads `Start` from stdin, works, answers on stdout; the exit code of the process is returned.
pub fn main() -> i32 {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut stdin = std::io::stdin();
    let start = match read_frame::<ToTrainer>(&mut stdin) {
        Ok(ToTrainer::Start(start)) => start,
        Ok(ToTrainer::Stop { .. }) => return exit_code::YIELDED,
        Err(FrameError::Closed) => return exit_code::ORPHANED,
        Err(error) => {
            eprintln!("fake-trainer: {error}");
            return exit_code::FAILED;
        }
    };
    let (tell, stops) = sync_channel(4);
    std::thread::spawn(move || {
        loop {
            match read_frame::<ToTrainer>(&mut stdin) {
                Ok(ToTrainer::Stop { checkpoint, .. }) => drop(tell.send(Stop { checkpoint })),
                Ok(ToTrainer::Start(_)) => {}
                Err(_) => std::process::exit(exit_code::ORPHANED),
            }
        }
    });
    let mut trainer = match Script::of(&start) {
        Ok(script) => Trainer { fault: script.fault_of(start.attempt), script, start, stops },
        Err(problem) => {
            say(&FromTrainer::Failed { kind: FailureKind::UserError, message: problem });
            return exit_code::FAILED;
        }
    };
    if let Err(error) = trainer.script.note_start(&trainer.start, started) {
        eprintln!("fake-trainer: its start is not noted: {error}");
    }
    match trainer.run() {
        Ok(()) => exit_code::DONE,
        Err(Exit(code)) => code,
    }
}

struct Trainer {
    script: Script,
    fault: Fault,
    start: Box<Start>,
    stops: Receiver<Stop>,
}

impl Trainer {
    fn run(&mut self) -> Result<(), Exit> {
        eprintln!("fake-trainer: {}/{} {}", self.start.dataset, self.start.phase, self.start.attempt);
        sleep(self.fault.slow_start_ms);
        if self.fault.garbage_frame {
            print_raw(b"Segmentation fault (core dumped)\n");
        }
        let versions = BTreeMap::from([("fake-trainer".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
        say(&FromTrainer::Ready { protocol: PROTOCOL_VERSION, pid: std::process::id(), versions });
        if self.fault.user_error {
            return fail(FailureKind::UserError, "the script says: wrong captures");
        }
        if self.fault.device_broken {
            return fail(FailureKind::Device, "the script says: CUDA error 999");
        }
        say(&FromTrainer::Stage(Stage::Preparing));
        let mut model = Model::begin(&self.start).map_err(|e| broken(&e.to_string()))?;
        self.wait(self.script.preparing_ms, &model)?;
        say(&FromTrainer::Stage(Stage::Training));
        while model.epoch < self.script.epochs {
            model.advance();
            self.epoch(&model)?;
        }
        say(&FromTrainer::Stage(Stage::Evaluating));
        self.wait(self.script.evaluating_ms, &model)?;
        self.finish(&model)
    }

    fn epoch(&self, model: &Model) -> Result<(), Exit> {
        let here = |epoch: Option<u32>| epoch == Some(model.epoch);
        if here(self.fault.oom_at_epoch) {
            let message = "CUDA out of memory. Tried to allocate 2.00 GiB".to_owned();
            let recovered = self.fault.oom_recovers;
            say(&FromTrainer::OutOfMemory { micro_batch: 64, recovered, message });
            if !recovered {
                return Err(Exit(exit_code::OUT_OF_MEMORY));
            }
        }
        if here(self.fault.nan_at_epoch) {
            return fail(FailureKind::Diverged, &format!("loss is NaN in epoch {}", model.epoch));
        }
        if here(self.fault.hang_at_epoch) {
            eprintln!("fake-trainer: hanging in epoch {}", model.epoch);
            sleep(u64::MAX);
        }
        if let Some(signal) = self.fault.crash_signal.filter(|_| here(Some(self.fault.crash_at_epoch.max(1))))
        {
            eprintln!("fake-trainer: raising signal {signal}");
            work::raise(signal);
        }
        if here(self.fault.exit_at_epoch) {
            return Err(Exit(self.fault.exit_code));
        }
        self.wait(self.script.epoch_ms, model)?;
        eprintln!("fake-trainer: epoch {} of {}", model.epoch, self.script.epochs);
        say(&FromTrainer::Epoch(EpochReport {
            model: "fake".to_owned(),
            epoch: model.epoch,
            epochs: self.script.epochs,
            fraction: 1.0,
            loss: Some(model.loss()),
            metrics: BTreeMap::new(),
            graphs_per_s: 1_000.0,
            eta_ms: Some(u64::from(self.script.epochs - model.epoch) * self.script.epoch_ms),
        }));
        say(&FromTrainer::Memory {
            allocated_mib: Mib(64),
            reserved_mib: Mib(100),
            free_mib: None,
            micro_batch: 64,
            graphs_per_s: 1_000.0,
        });
        if self.script.checkpoint && model.epoch < self.script.epochs {
            self.save(model)?;
        }
        Ok(())
    }

    fn save(&self, model: &Model) -> Result<(), Exit> {
        let dir = model.save(&self.start.scratch_dir).map_err(|e| broken(&e.to_string()))?;
        say(&FromTrainer::Checkpoint { dir, model: "fake".to_owned(), epoch: model.epoch });
        Ok(())
    }

    fn finish(&self, model: &Model) -> Result<(), Exit> {
        if self.fault.exit0_without_output {
            return Err(Exit(exit_code::DONE));
        }
        let files = self.script.outputs_of(&self.start);
        let out = self.start.scratch_dir.join("out");
        if !self.fault.done_without_output {
            model
                .write_outputs(&out, &files, self.script.output_bytes)
                .map_err(|e| broken(&e.to_string()))?;
        }
        say(&FromTrainer::Done(Done {
            files,
            metrics: BTreeMap::from([("fake.test.f1".to_owned(), model.score())]),
            tuning_used: BTreeMap::from([
                ("threads".to_owned(), self.start.tuning.threads.to_string()),
                ("micro_batch".to_owned(), self.start.tuning.micro_batch.to_string()),
            ]),
            peak_memory_mib: Some(Mib(100)),
        }));
        Ok(())
    }

    /// Works for `ms`, unless asked to stop.
    fn wait(&self, ms: u64, model: &Model) -> Result<(), Exit> {
        if self.fault.ignore_stop {
            sleep(ms);
            return Ok(());
        }
        match self.stops.recv_timeout(Duration::from_millis(ms)) {
            Ok(Stop { checkpoint }) => {
                if checkpoint && model.epoch > 0 {
                    // The epoch under way is not part of it.
                    self.save(&model.before())?;
                }
                say(&FromTrainer::Yielded);
                Err(Exit(exit_code::YIELDED))
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Ok(()),
        }
    }
}

fn fail(kind: FailureKind, message: &str) -> Result<(), Exit> {
    say(&FromTrainer::Failed { kind, message: message.to_owned() });
    Err(Exit(exit_code::FAILED))
}

fn broken(message: &str) -> Exit {
    say(&FromTrainer::Failed { kind: FailureKind::Internal, message: message.to_owned() });
    Exit(exit_code::FAILED)
}

fn say(frame: &FromTrainer) {
    // A closed pipe means that the agent is gone.
    if write_frame(&mut std::io::stdout().lock(), frame).is_err() {
        std::process::exit(exit_code::ORPHANED);
    }
}

fn print_raw(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(exit_code::ORPHANED);
    }
}

fn sleep(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
