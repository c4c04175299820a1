//! Which layer wins, where values came from, and that the files say what the code says.

use super::*;
use crate::config::load::BUILT_IN_FILES;
use crate::config::origin::Origin;
use crate::config::semantic::*;
use crate::config::settings::TrainingSettings;
use crate::config::written;
use crate::config::{ClusterSpec, DeviceChoice, PipelineSpec};
use crate::ids::Phase;
use crate::trainer_protocol::Precision;

fn teacher(config: &Config, name: &str) -> TeacherSemantic {
    match config.semantic(&dataset(name), Phase::Teacher) {
        PhaseSemantic::Teacher { teacher, .. } => teacher,
        other => panic!("not a teacher: {other:?}"),
    }
}

#[test]
fn the_built_in_files_say_what_the_code_says() {
    let config = Config::built_in();
    assert_eq!(config.general.settings, TrainingSettings::default());
    assert_eq!(config.cluster, ClusterSpec::default());
    assert_eq!(config.pipeline.retries, PipelineSpec::default().retries);
    let any = dataset("any");
    let default_of = |phase| TrainingSettings::default().semantic(phase);
    assert_eq!(teacher(&config, "any"), TeacherSemantic::default());
    assert_eq!(
        default_of(Phase::Student),
        PhaseSemantic::Student { data: DataSemantic::default(), student: StudentSemantic::default() }
    );
    assert_eq!(
        config.semantic(&any, Phase::Fusion),
        PhaseSemantic::Fusion { data: DataSemantic::default(), fusion: FusionSemantic::default() }
    );
}

#[test]
fn base_yaml_names_every_training_key() {
    let mut problems = Vec::new();
    let (file, text) = BUILT_IN_FILES[0];
    let layer = written::from_yaml(text, |line| Origin::File { file: file.into(), line }, &mut problems);
    assert_eq!(problems, []);
    let named: Vec<_> = layer.iter().map(|leaf| leaf.key.trim_start_matches("training.")).collect();
    let mut known = Vec::new();
    leaves("", &serde_json::to_value(TrainingSettings::default()).unwrap(), &mut known);
    for key in known {
        assert!(named.contains(&key.as_str()), "conf/base.yaml does not show {key}");
    }
}

fn leaves(at: &str, tree: &serde_json::Value, found: &mut Vec<String>) {
    let Some(section) = tree.as_object() else {
        found.push(at.to_owned());
        return;
    };
    for (name, child) in section {
        leaves(&if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, child, found);
    }
}

#[test]
fn flags_win_over_variables_over_files_over_defaults_and_the_origin_says_who() {
    let mut sources = Sources::default();
    let any = dataset("hcrl_sa");
    let seen = |sources: &Sources<'_>| {
        let config = Config::resolve(sources).unwrap();
        let (key, origin) = config.origin(&any, "teacher.gat.lr");
        (teacher(&config, "hcrl_sa").gat.fit.lr, key, origin.to_string())
    };
    let by = |lr, origin: &str| (lr, "training.lr".to_owned(), origin.to_owned());
    assert_eq!(seen(&sources), by(0.001, "default"));
    sources.files = vec![("conf/base.yaml", "\nepochs: 4\nlr: 0.002\n")];
    assert_eq!(seen(&sources), by(0.002, "conf/base.yaml:3"));
    sources.files.push(("conf/mine.yaml", "lr: 3.0e-3"));
    assert_eq!(seen(&sources), by(0.003, "conf/mine.yaml:1"));
    sources.env = vec![("COORD_TRAINING__LR", "0.004")];
    assert_eq!(seen(&sources), by(0.004, "env COORD_TRAINING__LR"));
    sources.flags = vec!["lr=0.005"];
    assert_eq!(seen(&sources), by(0.005, "flag --set lr=0.005"));
    sources.flags.push("training.lr=1e-2");
    assert_eq!(seen(&sources), by(0.01, "flag --set training.lr=1e-2"));
}

#[test]
fn a_special_setting_wins_over_the_general_one_and_null_takes_it_back() {
    let config = base("lr: 0.01\nseed: 7\nteacher: {gat: {lr: 0.02}, seed: 8}\n").unwrap();
    let t = teacher(&config, "any");
    assert_eq!((t.vgae.fit.lr, t.gat.fit.lr, t.seed), (0.01, 0.02, 8));
    let any = dataset("any");
    assert_eq!(config.origin(&any, "teacher.gat.lr").0, "training.teacher.gat.lr");
    assert_eq!(config.origin(&any, "data.split.seed").0, "training.seed");
    assert_eq!(config.semantic(&any, Phase::Fusion).data().split.seed, 7);
    let files =
        vec![("a.yaml", "teacher: {gat: {lr: 0.02}}"), ("b.yaml", "lr: 0.03\nteacher: {gat: {lr: null}}")];
    let config = Config::resolve(&Sources { files, ..Sources::default() }).unwrap();
    assert_eq!(teacher(&config, "any").gat.fit.lr, 0.03);
}

#[test]
fn the_size_of_a_phase_picks_its_networks() {
    let config = flags(&["teacher.size=small", "models.gat.small.hidden=32"]).unwrap();
    let t = teacher(&config, "any");
    assert_eq!((t.gat.arch.layers, t.gat.arch.hidden, t.vgae.arch.latent), (2, 32, 16));
    let (key, origin) = config.origin(&dataset("any"), "teacher.gat.arch.hidden");
    assert_eq!(
        (key.as_str(), origin.to_string().as_str()),
        ("training.models.gat.small.hidden", "flag --set models.gat.small.hidden=32")
    );
    let (key, _) = config.origin(&dataset("any"), "student.vgae.arch.encoder.1.heads");
    assert_eq!(key, "training.models.vgae.small.encoder");
}

#[test]
fn a_dataset_override_holds_for_it_alone_and_yields_to_a_later_layer() {
    let text = "datasets:\n  set_01:\n    overrides:\n      lr: 0.5\n      data: {window: 50}\n";
    let mut sources = Sources { files: vec![("datasets.yaml", text)], ..Sources::default() };
    let config = Config::resolve(&sources).unwrap();
    assert_eq!((teacher(&config, "set_01").gat.fit.lr, teacher(&config, "set_02").gat.fit.lr), (0.5, 0.001));
    assert_eq!(config.semantic(&dataset("set_01"), Phase::Fusion).data().window, 50);
    assert_eq!(config.origin(&dataset("set_01"), "teacher.gat.lr").1.to_string(), "datasets.yaml:4");
    assert_eq!(config.datasets["set_01"].overrides["data.window"], 50);
    sources.files.insert(0, ("base.yaml", "lr: 0.2"));
    assert_eq!(teacher(&Config::resolve(&sources).unwrap(), "set_01").gat.fit.lr, 0.5);
    sources.flags = vec!["lr=0.1"];
    assert_eq!(teacher(&Config::resolve(&sources).unwrap(), "set_01").gat.fit.lr, 0.1);
    sources.flags = vec!["lr=0.1", "datasets.set_02.overrides.lr=0.4"];
    let config = Config::resolve(&sources).unwrap();
    assert_eq!((teacher(&config, "set_01").gat.fit.lr, teacher(&config, "set_02").gat.fit.lr), (0.1, 0.4));
}

#[test]
fn tuning_of_a_phase_falls_back_to_the_general_one() {
    let config = base("device: cuda\nmixed_precision: false\nworkers: 3\nfusion: {tuning: {device: cpu, mixed_precision: bf16}}").unwrap();
    let (t, f) = (config.tuning(Phase::Teacher), config.tuning(Phase::Fusion));
    assert_eq!((t.device, t.mixed_precision, t.workers), (DeviceChoice::Cuda, Precision::Fp32, Some(3)));
    assert_eq!((f.device, f.mixed_precision, f.workers), (DeviceChoice::Cpu, Precision::Bf16, Some(3)));
    assert_eq!(
        base("mixed_precision: true").unwrap().tuning(Phase::Teacher).mixed_precision,
        Precision::Auto
    );
}

#[test]
fn unlisted_datasets_are_allowed_and_listed_ones_keep_what_is_not_written() {
    let config = base("datasets: {hcrl_sa: {priority: 99}}").unwrap();
    assert_eq!(config.dataset(&dataset("my_fleet")), Default::default());
    let sa = config.dataset(&dataset("hcrl_sa"));
    assert_eq!((sa.priority, sa.test_folders.len()), (99, 4));
    let set = config.dataset(&dataset("set_03"));
    assert_eq!(set.test_folders.last().map(String::as_str), Some("test_06_masquerade"));
}
