//! `trainer score` with models of its own training: the figures of the report, whatever the form of the model, of
//! the capture and of the output; and windows of a live pipe while it is open.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::config::semantic::{
    DataSemantic, FitSemantic, FusionSemantic, GatArch, ModelSize, PhaseSemantic, StatesFrom,
    TeacherSemantic, VgaeArch,
};
use common::ids::Phase;
use dataset::sample::{self, SampleConfig};
use dataset::{CaptureFile, ReadOptions, read_capture};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use serde_json::Value;
use support::{Order, run};

fn trainer() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_trainer"))
}

/// A teacher and a fusion of it, with their metrics.
struct Trained {
    dir: tempfile::TempDir,
    teacher: BTreeMap<String, f64>,
    fusion: BTreeMap<String, f64>,
}

impl Trained {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        sample::write(&SampleConfig { seed: 5, minutes: 0.4 }, dir.path()).unwrap();
        let mut teacher = TeacherSemantic::default();
        teacher.vgae.arch = VgaeArch::of_size(ModelSize::Small);
        teacher.gat.arch = GatArch::of_size(ModelSize::Small);
        let fit = FitSemantic { epochs: 2, batch_size: 32, ..FitSemantic::default() };
        (teacher.vgae.fit, teacher.gat.fit) = (fit.clone(), fit);
        // A profile that is known before half of a short capture has been heard.
        let data = DataSemantic { profile_messages: 300, ..DataSemantic::default() };
        let teacher = PhaseSemantic::Teacher { data: data.clone(), teacher };
        let fusion = FusionSemantic {
            episodes: 5,
            samples_per_episode: 500,
            states_from: StatesFrom::Teacher,
            ..FusionSemantic::default()
        };
        let fusion = PhaseSemantic::Fusion { data, fusion };
        let train = |phase, semantic, scratch: &str, parents| {
            let order = Order {
                phase,
                semantic,
                captures_dir: &dir.path().join(sample::DATASET),
                scratch_dir: dir.path().join(scratch),
                cache_dir: dir.path().join("cache"),
                parents,
                resume_from: None,
                threads: 2,
            };
            run(trainer(), order.start(), |_, _| {}).done().metrics.clone()
        };
        let metrics = train(Phase::Teacher, &teacher, "teacher", BTreeMap::new());
        let parents = BTreeMap::from([(Phase::Teacher, dir.path().join("teacher/out"))]);
        let fused = train(Phase::Fusion, &fusion, "fusion", parents);
        // As a user has them: all models in one folder.
        for (phase, name) in
            [("teacher", "best_teacher_model_sample.pth"), ("fusion", "fusion_agent_sample.pth")]
        {
            let models = dir.path().join("models");
            fs::create_dir_all(&models).unwrap();
            fs::copy(dir.path().join(phase).join("out").join(name), models.join(name)).unwrap();
        }
        Self { dir, teacher: metrics, fusion: fused }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The captures of the first test folder, and its name.
    fn tests(&self) -> (String, Vec<CaptureFile>) {
        let layout = dataset::layout::find(self.dir.path(), sample::DATASET).unwrap();
        layout.tests.into_iter().next().unwrap()
    }

    fn score(&self, arguments: &[&str]) -> Output {
        let (_, captures) = self.tests();
        let mut command = Command::new(trainer());
        command.arg("score").args(arguments).arg("--data").args(captures.iter().map(|capture| &capture.path));
        command.current_dir(self.dir.path()).output().unwrap()
    }

    fn rows(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.score(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        lines(&output.stdout)
    }
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    bytes
        .split(|&b| b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect()
}

fn f1(rows: &[Value], decision: &str) -> f64 {
    let count = |attack: bool, label: u64| {
        rows.iter().filter(|row| row[decision] == attack && row["label"] == label).count() as f64
    };
    let (hits, misses, alarms) = (count(true, 1), count(false, 1), count(true, 0));
    2.0 * hits / (2.0 * hits + misses + alarms)
}

#[test]
fn scores_are_those_of_the_report_whatever_the_form() {
    let trained = Trained::new();
    let (folder, captures) = trained.tests();
    let rows = trained.rows(&["--model", "teacher/out"]);
    for (model, decision) in [("gat", "gat_attack"), ("vgae", "vgae_attack"), ("gat", "attack")] {
        let reported = trained.teacher[&format!("{model}.{folder}.f1")];
        assert!((f1(&rows, decision) - reported).abs() < 1e-12, "{model}: {reported}");
    }
    assert_eq!(rows.len() as f64, trained.teacher[&format!("gat.{folder}.n")]);
    assert!(rows.iter().all(|row| row["end_s"].as_f64() > row["start_s"].as_f64()));
    assert!(rows[0].get("fusion_score").is_none() && rows[0]["silence_alarm"] == false);

    assert_eq!(rows, trained.rows(&["--model", "models/best_teacher_model_sample.pth", "-q"]));
    let like = ["--model", "models/best_teacher_model_sample.pth", "--like", "teacher/out"];
    assert_eq!(rows, trained.rows(&like));

    let fused = trained.rows(&["--model", "models/fusion_agent_sample.pth"]);
    let reported = trained.fusion[&format!("dqn.{folder}.f1")];
    assert!((f1(&fused, "fusion_attack") - reported).abs() < 1e-12, "{reported}");
    assert_eq!(fused, trained.rows(&["--model", "fusion/out", "--detectors", "teacher/out"]));

    let written = trained.score(&[
        "--model",
        "fusion/out",
        "--detectors",
        "teacher/out",
        "-o",
        "parquet",
        "--out",
        "s.parquet",
    ]);
    assert!(written.status.success() && written.stdout.is_empty());
    let told = String::from_utf8_lossy(&written.stderr).into_owned();
    assert!(told.contains("fusion") && told.contains("F1"), "{told}");
    let reader = SerializedFileReader::new(File::open(trained.path("s.parquet")).unwrap()).unwrap();
    let mut count = 0;
    for (row, expected) in reader.get_row_iter(None).unwrap().zip(&fused) {
        let row = row.unwrap();
        assert_eq!(row.get_string(0).unwrap().as_str(), expected["capture"]);
        assert_eq!(row.get_long(1).unwrap(), expected["window"]);
        assert_eq!(row.get_bool(4).unwrap(), expected["attack"]);
        assert_eq!(
            row.get_float(9).unwrap() as f64 as f32,
            expected["fusion_score"].as_f64().unwrap() as f32
        );
        assert_eq!(row.get_int(13).unwrap(), expected["label"]);
        count += 1;
    }
    assert_eq!(count, fused.len());
    live(&trained, &captures[0], &rows);
    refusals(&trained);
}

/// The same capture as a bus gives it: the first windows are there while the pipe is open, all are the file's.
fn live(trained: &Trained, capture: &CaptureFile, expected: &[Value]) {
    let mut text = String::new();
    read_capture(capture, &ReadOptions::default(), &mut |frames| {
        for row in 0..frames.len() {
            let frame = frames.frame(row);
            let data: String =
                frame.payload[..frame.len as usize].iter().map(|byte| format!("{byte:02X}")).collect();
            text += &format!("({:.6}) can0 {:03X}#{data}\n", frame.timestamp_s, frame.id);
        }
        Ok(())
    })
    .unwrap();
    let mut child = Command::new(trainer())
        .args(["score", "--model", "teacher/out", "--data", "-"])
        .current_dir(trained.dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut out) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    let half = text.len() / 2 + text[text.len() / 2..].find('\n').unwrap() + 1;
    stdin.write_all(&text.as_bytes()[..half]).unwrap();
    // Blocks for ever if scores wait for the end of the pipe.
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    stdin.write_all(&text.as_bytes()[half..]).unwrap();
    drop(stdin);
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut out, &mut rest).unwrap();
    assert!(child.wait().unwrap().success());
    let mut rows = lines(first.as_bytes());
    rows.extend(lines(&rest));
    let same: Vec<&Value> = expected.iter().filter(|row| row["capture"] == expected[0]["capture"]).collect();
    assert_eq!(rows.len(), same.len());
    for (live, file) in rows.iter().zip(same) {
        assert_eq!((&live["capture"], live.get("label")), (&Value::from("-"), None));
        assert_eq!(live["attack"], file["attack"]);
        // Batches of other sizes round otherwise; times have microseconds.
        for score in ["gat_score", "vgae_score", "start_s", "end_s"] {
            let (live, file) = (live[score].as_f64().unwrap(), file[score].as_f64().unwrap());
            assert!((live - file).abs() < 1e-3 + 1e-4 * file.abs(), "{score}: {live} {file}");
        }
    }
}

fn refusals(trained: &Trained) {
    let refused = |arguments: &[&str], words: &str| {
        let output = trained.score(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && told.contains(words), "{arguments:?}: {told}");
    };
    refused(&["--model", "nowhere.pth"], "no such file");
    refused(&["--model", "teacher/out/gat.safetensors"], "--like");
    refused(&["--model", "fusion/out/fusion_agent_sample.pth"], "--detectors");
    refused(&["--model", "teacher/out", "--device", "cuda:9"], "CUDA device 9");
    refused(&["--model", "teacher/out/metrics.json"], "metrics.json cannot be scored with");
}
