//! Captures at the edge of what makes sense: each has a defined outcome, through the protocol, in a child.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use common::config::semantic::{
    DataSemantic, DqnArch, FitSemantic, FusionSemantic, GatArch, GatLayer, NodeEncoding, PhaseSemantic,
    StudentSemantic, TeacherSemantic, VgaeArch,
};
use common::ids::Phase;
use common::trainer_protocol::exit_code;
use support::{Ended, Order, run};

/// One message.
struct Row {
    id: u32,
    attack: bool,
}

/// A car of `ids` ids in turn.
fn benign(rows: usize, ids: u32) -> Vec<Row> {
    (0..rows as u32).map(|i| Row { id: 0x100 + i % ids, attack: false }).collect()
}

/// The same with an injected message every `every`.
fn attacked(rows: usize, ids: u32, every: usize) -> Vec<Row> {
    let mut all = benign(rows, ids);
    for row in all.iter_mut().skip(every / 2).step_by(every) {
        *row = Row { id: 0x001, attack: true };
    }
    all
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Writes a capture; payloads depend on `salt`, so that no two windows are equal.
    fn capture(&self, path: &str, salt: usize, rows: &[Row]) {
        let path = self.dir.path().join("car").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut text = "timestamp,arbitration_id,data_field,attack\n".to_owned();
        for (i, Row { id, attack }) in rows.iter().enumerate() {
            let (time, data) = (i as f64 * 1e-3, (i + 1) * (salt + 3) * 7919 % 0xFFFF_FFFF);
            writeln!(text, "{time:.4},{id:X},{data:08X},{}", u8::from(*attack)).unwrap();
        }
        std::fs::write(path, text).unwrap();
    }

    fn out(&self, phase: Phase) -> PathBuf {
        self.dir.path().join(phase.as_str()).join("out")
    }

    fn run(&self, phase: Phase, semantic: &PhaseSemantic) -> Ended {
        let parents: BTreeMap<Phase, PathBuf> =
            Phase::ALL.into_iter().map(|phase| (phase, self.out(phase))).collect();
        let order = Order {
            phase,
            semantic,
            captures_dir: &self.dir.path().join("car"),
            scratch_dir: self.dir.path().join(phase.as_str()),
            cache_dir: self.dir.path().join("cache"),
            parents,
            resume_from: None,
            threads: 1,
        };
        run(Path::new(env!("CARGO_BIN_EXE_trainer")), order.start(), |_, _| {})
    }

    /// All three phases, small and short; every one must succeed with figures that are numbers.
    fn run_all(&self, data: &DataSemantic) -> BTreeMap<Phase, Ended> {
        let mut all = BTreeMap::new();
        for phase in Phase::ALL {
            let ended = self.run(phase, &semantic(phase, data));
            assert_eq!(ended.code, Some(exit_code::DONE), "{phase}: {:?}", ended.frames.last());
            assert!(ended.done().metrics.values().all(|value| value.is_finite()), "{phase}");
            all.insert(phase, ended);
        }
        all
    }

    fn json(&self, phase: Phase, file: &str) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.out(phase).join(file)).unwrap()).unwrap()
    }
}

/// Tiny networks, two epochs.
fn semantic(phase: Phase, data: &DataSemantic) -> PhaseSemantic {
    let data = data.clone();
    let vgae = VgaeArch {
        id_embedding: 2,
        encoder: vec![GatLayer::new(2, 4), GatLayer::new(1, 4)],
        latent: 3,
        decoder: vec![GatLayer::new(1, 4)],
        neighbourhood_hidden: 3,
        dropout: 0.1,
    };
    let gat = GatArch { id_embedding: 2, layers: 2, heads: 2, hidden: 4, fc_layers: 1, dropout: 0.1 };
    let fit = FitSemantic { epochs: 2, batch_size: 8, ..FitSemantic::default() };
    match phase {
        Phase::Teacher => {
            let mut teacher = TeacherSemantic::default();
            (teacher.vgae.arch, teacher.gat.arch) = (vgae, gat);
            (teacher.vgae.fit, teacher.gat.fit) = (fit.clone(), fit);
            PhaseSemantic::Teacher { data, teacher }
        }
        Phase::Student => {
            let mut student = StudentSemantic::default();
            (student.vgae.arch, student.gat.arch) = (vgae, gat);
            (student.vgae.fit, student.gat.fit) = (fit.clone(), fit);
            PhaseSemantic::Student { data, student }
        }
        Phase::Fusion => {
            let fusion = FusionSemantic {
                arch: DqnArch { layers: 1, hidden: 8, actions: 5, dropout: 0.0 },
                episodes: 4,
                samples_per_episode: 40,
                gradient_steps_per_episode: 2,
                batch_size: 8,
                validate_every_episodes: 2,
                ..FusionSemantic::default()
            };
            PhaseSemantic::Fusion { data, fusion }
        }
    }
}

fn has(ended: &Ended, key: &str) -> bool {
    ended.done().metrics.contains_key(key)
}

#[test]
fn a_training_set_without_attacks_gives_detectors_of_the_unusual() {
    let place = Place::new();
    place.capture("train_01_attack_free/attack-free-1.csv", 1, &benign(4_000, 7));
    place.capture("test_01_known/DoS-1.csv", 2, &attacked(1_500, 7, 300));
    let all = place.run_all(&DataSemantic::default());
    for (phase, model) in [(Phase::Teacher, "gat"), (Phase::Student, "vgae"), (Phase::Fusion, "dqn")] {
        let metrics = place.json(phase, "metrics.json");
        let report = if phase == Phase::Fusion { &metrics["combiners"][model] } else { &metrics[model] };
        assert_eq!(report["threshold"]["basis"], "benign_quantile", "{phase}");
        assert!(report["folders"]["val"]["f1"].is_null() && report["folders"]["val"]["auc"].is_null());
        assert!(has(&all[&phase], &format!("{model}.test_01_known.f1")));
        assert!(has(&all[&phase], &format!("{model}.val.fpr")));
        assert!(!has(&all[&phase], &format!("{model}.val.f1")));
    }
}

#[test]
fn one_training_capture_and_a_single_attack_are_enough() {
    let place = Place::new();
    let mut rows = benign(3_000, 5);
    rows[1_234] = Row { id: 0x001, attack: true };
    place.capture("train_01/only.csv", 1, &rows);
    let all = place.run_all(&DataSemantic::default());
    // The one attack window goes to training, so validation knows benign windows only.
    let metrics = place.json(Phase::Teacher, "metrics.json");
    assert_eq!(metrics["gat"]["folders"]["val"]["positives"], 0);
    assert_eq!(metrics["gat"]["threshold"]["basis"], "benign_quantile");
    assert!(all.values().all(|ended| ended.done().metrics.keys().all(|key| !key.contains("test"))));
}

#[test]
fn a_capture_of_one_window_trains_and_its_figures_are_not_called_validation() {
    let place = Place::new();
    place.capture("train_01_attack_free/short.csv", 1, &benign(60, 4));
    let all = place.run_all(&DataSemantic::default());
    assert!(has(&all[&Phase::Teacher], "gat.train.n") && has(&all[&Phase::Fusion], "dqn.train.n"));
    assert!(all.values().all(|ended| ended.done().metrics.keys().all(|key| !key.contains(".val."))));
}

#[test]
fn windows_of_a_single_node_are_graphs_as_well() {
    let place = Place::new();
    place.capture("train_01_attack_free/one-id.csv", 1, &benign(2_500, 1));
    place.capture("train_02_with_attacks/DoS-1.csv", 2, &attacked(1_500, 1, 250));
    place.capture("test_01_known/DoS-2.csv", 3, &attacked(1_000, 1, 250));
    // A batch of one graph of one node has no variance to normalise by.
    let mut one = semantic(Phase::Teacher, &DataSemantic::default());
    if let PhaseSemantic::Teacher { teacher, .. } = &mut one {
        teacher.vgae.fit.batch_size = 1;
        teacher.gat.fit.batch_size = 1;
    }
    let ended = place.run(Phase::Teacher, &one);
    assert_eq!(ended.code, Some(exit_code::DONE), "{:?}", ended.frames.last());
    place.run_all(&DataSemantic::default());
}

#[test]
fn a_hundred_thousand_ids_train_in_bounded_memory() {
    let place = Place::new();
    place.capture("train_01_attack_free/attack-free-1.csv", 1, &benign(20_000, 9));
    let fuzzed: Vec<Row> = (0..100_000).map(|i| Row { id: 0x1000 + i * 31, attack: i % 3 == 0 }).collect();
    place.capture("train_02_with_attacks/fuzzing-1.csv", 2, &fuzzed);
    // Few windows, so that the test is short; the vocabulary is that of all rows.
    let data = DataSemantic { stride: 4_000, encoding: NodeEncoding::Ids, ..DataSemantic::default() };
    let ended = place.run(Phase::Teacher, &semantic(Phase::Teacher, &data));
    assert_eq!(ended.code, Some(exit_code::DONE), "{:?}", ended.frames.last());
    assert!(place.json(Phase::Teacher, "model.json")["num_ids"].as_u64().unwrap() > 100_000);
    let peak = ended.done().peak_memory_mib.unwrap();
    assert!(peak.0 < 2_048, "{peak:?}");
}

#[test]
fn a_capture_nobody_labelled_costs_its_folder_no_figure() {
    let place = Place::new();
    place.capture("train_01_attack_free/attack-free-1.csv", 1, &benign(3_000, 7));
    place.capture("train_02_with_attacks/DoS-1.csv", 2, &attacked(2_000, 7, 200));
    place.capture("test_01_known/DoS-2.csv", 3, &attacked(1_000, 7, 200));
    let mut log = String::new();
    for i in 0..1_000 {
        writeln!(log, "({:.6}) can0 {:03X}#{:08X}", i as f64 * 1e-3, 0x100 + i % 7, i * 77).unwrap();
    }
    std::fs::write(place.dir.path().join("car/test_01_known/drive.log"), log).unwrap();
    let all = place.run_all(&DataSemantic::default());
    for (phase, model) in [(Phase::Teacher, "gat"), (Phase::Student, "vgae"), (Phase::Fusion, "dqn")] {
        let metrics = &all[&phase].done().metrics;
        let figure = |name: &str| metrics[&format!("{model}.test_01_known.{name}")];
        assert_eq!((figure("n"), figure("unlabelled_n")), (9.0, 9.0), "{phase}");
        assert!(figure("f1").is_finite() && (0.0..=1.0).contains(&figure("unlabelled_alarm_rate")));
    }
}
