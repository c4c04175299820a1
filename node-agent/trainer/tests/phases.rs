//! All three phases on a small made-up dataset, through the protocol, each in its own child process.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::config::semantic::{
    DataSemantic, FitSemantic, FusionSemantic, GatArch, Imbalance, LrSchedule, ModelSize, PhaseSemantic,
    StudentSemantic, TeacherSemantic, VgaeArch,
};
use common::ids::Phase;
use common::trainer_protocol::{FailureKind, FromTrainer, Stage, ToTrainer, exit_code, write_frame};
use dataset::sample::{self, SampleConfig};
use support::{Ended, Order, run};
use trainer::pth;

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_trainer"))
}

/// A dataset of some hundred windows.
fn captures(root: &Path) -> PathBuf {
    sample::write(&SampleConfig { seed: 5, minutes: 0.4 }, root).unwrap();
    root.join("sample")
}

fn quick(epochs: u32) -> FitSemantic {
    FitSemantic { epochs, batch_size: 32, schedule: LrSchedule::Cosine, ..FitSemantic::default() }
}

fn teacher(epochs: u32) -> PhaseSemantic {
    let mut teacher = TeacherSemantic::default();
    // The small shapes: what is tested here is the way of a phase, not its size.
    teacher.vgae.arch = VgaeArch::of_size(ModelSize::Small);
    teacher.gat.arch = GatArch::of_size(ModelSize::Small);
    teacher.gat.imbalance = Imbalance::BalancedSampling;
    teacher.vgae.fit = quick(epochs);
    teacher.gat.fit = quick(epochs);
    PhaseSemantic::Teacher { data: DataSemantic::default(), teacher }
}

fn student(epochs: u32) -> PhaseSemantic {
    let mut student = StudentSemantic::default();
    student.gat.imbalance = Imbalance::HardNegatives;
    student.vgae.fit = quick(epochs);
    student.gat.fit = quick(epochs);
    PhaseSemantic::Student { data: DataSemantic::default(), student }
}

fn fusion() -> PhaseSemantic {
    let fusion = FusionSemantic { episodes: 10, samples_per_episode: 500, ..FusionSemantic::default() };
    PhaseSemantic::Fusion { data: DataSemantic::default(), fusion }
}

struct Place {
    captures: PathBuf,
    work: PathBuf,
}

impl Place {
    fn order<'a>(&'a self, phase: Phase, semantic: &'a PhaseSemantic, scratch: &str) -> Order<'a> {
        Order {
            phase,
            semantic,
            captures_dir: &self.captures,
            scratch_dir: self.work.join(scratch),
            cache_dir: self.work.join("cache"),
            parents: BTreeMap::new(),
            resume_from: None,
            threads: 2,
        }
    }

    fn out(&self, scratch: &str) -> PathBuf {
        self.work.join(scratch).join("out")
    }
}

fn whole(ended: &Ended, out: &Path, pth_name: &str) {
    assert_eq!(ended.code, Some(exit_code::DONE));
    for file in &ended.done().files {
        assert!(out.join(file).metadata().unwrap().len() > 0, "{file}");
    }
    assert!(ended.done().files.iter().any(|file| file == pth_name));
}

fn has_test_figures(ended: &Ended, model: &str) {
    let metrics = &ended.done().metrics;
    for folder in ["test_01", "test_02", "test_03", "test_04"] {
        let mut keys = metrics.keys();
        let start = format!("{model}.{folder}");
        assert!(keys.any(|key| key.starts_with(&start) && key.ends_with(".f1")), "{start} in {metrics:?}");
    }
    let suppress = format!("{model}.test_05");
    assert!(metrics.keys().any(|key| key.starts_with(&suppress) && key.ends_with(".alarm_rate")));
    assert!(!metrics.keys().any(|key| key.starts_with(&suppress) && key.ends_with(".f1")));
}

#[test]
fn three_phases_build_on_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { captures: captures(dir.path()), work: dir.path().join("work") };

    let semantic = teacher(3);
    let ended = run(binary(), place.order(Phase::Teacher, &semantic, "t").start(), |_, _| {});
    whole(&ended, &place.out("t"), "best_teacher_model_sample.pth");
    has_test_figures(&ended, "gat");
    has_test_figures(&ended, "vgae");
    assert!(matches!(ended.frames[0], FromTrainer::Ready { .. }));
    let stages: Vec<Stage> = ended
        .frames
        .iter()
        .filter_map(|frame| if let FromTrainer::Stage(stage) = frame { Some(*stage) } else { None })
        .collect();
    assert_eq!(stages, [Stage::Preparing, Stage::Training, Stage::Evaluating]);
    assert!(ended.frames.iter().any(|frame| matches!(frame, FromTrainer::Checkpoint { .. })));
    for key in ["silence.threshold", "silence.train.fpr", "silence.test_05_suppress.alarm_rate"] {
        assert!(ended.done().metrics.contains_key(key), "{key}");
    }
    let sections = pth::read(&place.out("t").join("best_teacher_model_sample.pth")).unwrap();
    assert!(sections["gat"].contains_key("convs.0.lin.weight"));
    assert!(sections["vgae"].contains_key("encoder_bns.0.num_batches_tracked"));

    let semantic = student(3);
    let mut order = place.order(Phase::Student, &semantic, "s");
    order.parents.insert(Phase::Teacher, place.out("t"));
    let ended = run(binary(), order.start(), |_, _| {});
    whole(&ended, &place.out("s"), "final_student_model_sample.pth");
    whole(&ended, &place.out("s"), "final_student_model_sample.pt");
    has_test_figures(&ended, "gat");

    let semantic = fusion();
    let mut order = place.order(Phase::Fusion, &semantic, "f");
    order.parents.insert(Phase::Student, place.out("s"));
    let ended = run(binary(), order.start(), |_, _| {});
    whole(&ended, &place.out("f"), "fusion_agent_sample.pth");
    whole(&ended, &place.out("f"), "fusion_agent_sample.pt");
    has_test_figures(&ended, "dqn");
    has_test_figures(&ended, "weighted_average");
    has_test_figures(&ended, "logistic");
    has_test_figures(&ended, "mlp");
    assert!(ended.done().tuning_used.contains_key("best_on_validation"));
}

/// Stops a run at its first checkpoint, goes on from there, and holds the bytes against an uninterrupted run.
#[test]
fn a_stopped_and_resumed_teacher_has_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { captures: captures(dir.path()), work: dir.path().join("work") };
    let semantic = teacher(3);
    let straight = run(binary(), place.order(Phase::Teacher, &semantic, "straight").start(), |_, _| {});
    assert_eq!(straight.code, Some(exit_code::DONE));

    let stop = ToTrainer::Stop { reason: "test".to_owned(), checkpoint: true };
    let mut newest = None;
    let stopped = run(binary(), place.order(Phase::Teacher, &semantic, "first").start(), |frame, stdin| {
        if let FromTrainer::Checkpoint { dir, .. } = frame {
            newest = Some(dir.clone());
            if let Some(stdin) = stdin {
                // A second one finds the child gone.
                let _ = write_frame(stdin, &stop);
            }
        }
    });
    assert_eq!(stopped.code, Some(exit_code::YIELDED));
    assert_eq!(stopped.frames.last(), Some(&FromTrainer::Yielded));

    let mut order = place.order(Phase::Teacher, &semantic, "second");
    order.resume_from = newest;
    let resumed = run(binary(), order.start(), |_, _| {});
    assert_eq!(resumed.code, Some(exit_code::DONE));
    let epochs =
        |ended: &Ended| ended.frames.iter().filter(|f| matches!(f, FromTrainer::Checkpoint { .. })).count();
    assert!(epochs(&resumed) < epochs(&straight), "nothing was taken over from the checkpoint");
    let files = [
        "vgae.safetensors",
        "gat.safetensors",
        "model.json",
        "metrics.json",
        "best_teacher_model_sample.pth",
    ];
    for file in files {
        let read = |scratch: &str| std::fs::read(place.out(scratch).join(file)).unwrap();
        assert!(read("straight") == read("second"), "{file} differs");
    }
}

#[test]
fn the_end_of_the_agent_is_the_end_of_the_child() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { captures: captures(dir.path()), work: dir.path().join("work") };
    let semantic = teacher(1000);
    let ended = run(binary(), place.order(Phase::Teacher, &semantic, "t").start(), |frame, stdin| {
        if matches!(frame, FromTrainer::Stage(Stage::Training)) {
            drop(stdin.take());
        }
    });
    assert_eq!(ended.code, Some(exit_code::ORPHANED));
}

#[test]
fn what_cannot_be_done_is_told_with_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { captures: dir.path().join("nowhere"), work: dir.path().join("work") };
    let (teacher, student) = (teacher(1), student(1));
    let mut unreadable = place.order(Phase::Teacher, &teacher, "a").start();
    unreadable.semantic = serde_json::json!({ "teacher": { "lr": 1 } });
    let starts = [
        (place.order(Phase::Teacher, &teacher, "b").start(), "nowhere"),
        (place.order(Phase::Student, &student, "c").start(), "teacher"),
        (place.order(Phase::Student, &teacher, "d").start(), "another phase"),
        (unreadable, "configuration"),
    ];
    for (start, expected) in starts {
        let ended = run(binary(), start, |_, _| {});
        assert_eq!(ended.code, Some(exit_code::FAILED));
        match ended.frames.last() {
            Some(FromTrainer::Failed { kind: FailureKind::UserError, message }) => {
                assert!(message.contains(expected), "{message}");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
}
