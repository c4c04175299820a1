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

/// Runs a phase whole, then stopped at its first checkpoint and gone on with: files of equal bytes.
fn resumes_to_the_same_bytes(place: &Place, phase: Phase, semantic: &PhaseSemantic, pth: &str) {
    let order = |scratch: &str| {
        let mut order = place.order(phase, semantic, &format!("{phase}-{scratch}"));
        if phase == Phase::Student {
            order.parents.insert(Phase::Teacher, place.out("teacher-straight"));
        }
        order
    };
    let straight = run(binary(), order("straight").start(), |_, _| {});
    assert_eq!(straight.code, Some(exit_code::DONE));

    let stop = ToTrainer::Stop { reason: "test".to_owned(), checkpoint: true };
    let mut newest = None;
    let stopped = run(binary(), order("first").start(), |frame, stdin| {
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

    let mut again = order("second");
    again.resume_from = newest;
    let resumed = run(binary(), again.start(), |_, _| {});
    assert_eq!(resumed.code, Some(exit_code::DONE));
    let epochs =
        |ended: &Ended| ended.frames.iter().filter(|f| matches!(f, FromTrainer::Checkpoint { .. })).count();
    assert!(epochs(&resumed) < epochs(&straight), "nothing was taken over from the checkpoint");
    same_bytes(place, phase, ["straight", "second"], pth);
}

fn same_bytes(place: &Place, phase: Phase, scratches: [&str; 2], pth: &str) {
    for file in ["vgae.safetensors", "gat.safetensors", "model.json", "metrics.json", pth] {
        let [a, b] = scratches
            .map(|scratch| std::fs::read(place.out(&format!("{phase}-{scratch}")).join(file)).unwrap());
        assert!(a == b, "{file} of {phase} differs");
    }
}

#[test]
fn detectors_have_the_same_bytes_whether_stopped_and_resumed_or_simply_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { captures: captures(dir.path()), work: dir.path().join("work") };
    let (teacher, pth) = (teacher(3), "best_teacher_model_sample.pth");
    resumes_to_the_same_bytes(&place, Phase::Teacher, &teacher, pth);
    resumes_to_the_same_bytes(&place, Phase::Student, &student(2), "final_student_model_sample.pth");
    let again = run(binary(), place.order(Phase::Teacher, &teacher, "teacher-again").start(), |_, _| {});
    assert_eq!(again.code, Some(exit_code::DONE));
    same_bytes(&place, Phase::Teacher, ["straight", "again"], pth);
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
