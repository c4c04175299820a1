//! Drives `trainer run` as an agent does: one child, frames on its pipes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};

use common::config::semantic::PhaseSemantic;
use common::ids::{Attempt, DatasetId, Phase, PlanId};
use common::trainer_protocol::{
    Device, Done, FrameError, FromTrainer, PROTOCOL_VERSION, Precision, Start, ToTrainer, TrainerTuning,
    read_frame, write_frame,
};
use common::units::Mib;

/// What became of a child.
pub struct Ended {
    pub frames: Vec<FromTrainer>,
    pub code: Option<i32>,
}

impl Ended {
    pub fn done(&self) -> &Done {
        match self.frames.last() {
            Some(FromTrainer::Done(done)) => done,
            other => panic!("the last frame is {other:?}, exit code {:?}", self.code),
        }
    }
}

pub struct Order<'a> {
    pub phase: Phase,
    pub semantic: &'a PhaseSemantic,
    pub captures_dir: &'a Path,
    /// Folder of everything this attempt writes.
    pub scratch_dir: PathBuf,
    pub cache_dir: PathBuf,
    pub parents: BTreeMap<Phase, PathBuf>,
    pub resume_from: Option<PathBuf>,
    pub threads: u32,
}

impl Order<'_> {
    pub fn start(&self) -> Start {
        let dataset = self.captures_dir.file_name().unwrap().to_string_lossy().into_owned();
        Start {
            protocol: PROTOCOL_VERSION,
            plan: PlanId::new("p1").unwrap(),
            dataset: DatasetId::new(dataset).unwrap(),
            phase: self.phase,
            attempt: Attempt(1),
            captures_dir: self.captures_dir.to_owned(),
            semantic: serde_json::to_value(self.semantic).unwrap(),
            tuning: TrainerTuning {
                device: Device::Cpu,
                threads: self.threads,
                workers: 2,
                precision: Precision::Auto,
                micro_batch: 256,
                memory_budget_mib: Mib(4096),
                checkpoint_every_epochs: 1,
                checkpoint_every_minutes: 0,
                bad_lines_per_file_max: 20,
            },
            scratch_dir: self.scratch_dir.clone(),
            cache_dir: self.cache_dir.clone(),
            parents: self.parents.clone(),
            resume_from: self.resume_from.clone(),
            traceparent: None,
        }
    }
}

/// Runs a child to its end. `hear` gets every frame and the child's stdin; it may take the stdin to close it.
pub fn run(
    binary: &Path,
    start: Start,
    mut hear: impl FnMut(&FromTrainer, &mut Option<ChildStdin>),
) -> Ended {
    let mut child = Command::new(binary)
        .args(["run", "--log-level", "warn"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the trainer was built with this test");
    let mut stdin = child.stdin.take();
    let mut stdout = child.stdout.take().expect("stdout is a pipe");
    write_frame(stdin.as_mut().expect("stdin is a pipe"), &ToTrainer::Start(Box::new(start))).unwrap();
    let mut frames = Vec::new();
    loop {
        match read_frame::<FromTrainer>(&mut stdout) {
            Ok(frame) => {
                hear(&frame, &mut stdin);
                frames.push(frame);
            }
            Err(FrameError::Closed) => break,
            Err(error) => panic!("after {:?}: {error}", frames.last()),
        }
    }
    let code = child.wait().unwrap().code();
    Ended { frames, code }
}
