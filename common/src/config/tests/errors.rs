//! Mistakes are told with their place and the way out, all together.

use super::*;
use crate::config::load::is_tuning;
use crate::config::settings::{TrainingSettings, TuningSettings};

fn only(sources: &Sources<'_>) -> Problem {
    let mut all = problems(sources);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn only_in_base(text: &str) -> String {
    only(&Sources { files: vec![("conf/base.yaml", text)], ..Sources::default() }).to_string()
}

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_likely_one() {
    let text = "lr: 0.01\nteacher:\n  gat:\n    epoch: 3\n";
    let problem = only(&Sources { files: vec![("conf/base.yaml", text)], ..Sources::default() });
    assert_eq!((problem.file(), problem.line()), (Some("conf/base.yaml"), Some(4)));
    assert_eq!(
        problem.to_string(),
        "conf/base.yaml:4: training.teacher.gat.epoch: unknown key (did you mean epochs?)"
    );
}

#[test]
fn a_key_at_the_wrong_place_is_pointed_to_the_right_one() {
    assert_eq!(
        only_in_base("epsilon_start: 0.5\n"),
        "conf/base.yaml:1: training.epsilon_start: unknown key (did you mean training.fusion.epsilon_start?)"
    );
    assert!(only_in_base("student:\n  kd:\n    zzz: 1\n").contains("keys here: gat_alpha, "));
}

#[test]
fn a_value_of_the_wrong_type_is_told_in_plain_words() {
    assert_eq!(
        only_in_base("\nlr: fast\n"),
        "conf/base.yaml:2: training.lr: invalid type: string \"fast\", expected a number"
    );
    assert!(only_in_base("epochs: 2.5").contains("expected a whole number, 0 or more"));
    assert!(only_in_base("epochs: -1").contains("expected a whole number, 0 or more"));
    assert!(only_in_base("epochs:").contains("invalid type: nothing"));
    assert!(only_in_base("teacher: {gat: {imbalance: heavy}}").contains("`weighted_loss`"));
    assert!(only_in_base("mixed_precision: fp8").contains("`bf16`"));
    assert!(only_in_base("mixed_precision: 16").contains("expected true, false, auto, bf16"));
    assert!(only_in_base("lr: .nan").contains("finite"));
}

#[test]
fn sections_and_values_are_not_mixed_up() {
    assert!(only_in_base("teacher: 5").contains("has keys below it"));
    assert!(only_in_base("lr: {a: 1}").contains("training.lr takes one value"));
    assert!(only_in_base("- 1\n- 2\n").contains("expected keys with values"));
    assert!(only_in_base("teacher.gat.lr: 1.0").contains("dot"));
    assert!(base("teacher:\n").is_ok(), "an empty section says nothing");
    assert!(base("# only a comment\n").is_ok());
}

#[test]
fn text_that_is_no_yaml_is_one_problem_and_the_other_files_are_still_read() {
    let files = vec![("a.yaml", "lr: 0.1\nepochs: [1, 2\n"), ("b.yaml", "eppochs: 3\n")];
    let all = problems(&Sources { files, ..Sources::default() });
    assert_eq!(all.iter().map(|p| p.file().unwrap()).collect::<Vec<_>>(), ["a.yaml", "b.yaml"], "{all:?}");
    assert!(only_in_base("lr: 0.1\nlr: 0.2\n").starts_with("conf/base.yaml:2: "), "a key given twice");
}

#[test]
fn all_problems_of_all_layers_are_told_at_once() {
    let all = problems(&Sources {
        files: vec![
            ("base.yaml", "lrr: 1\nepochs: many\nbatch_size: 0\n"),
            ("pipeline.yaml", "cluster: {lease_s: 3}"),
        ],
        env: vec![("COORD_TRAINNG__LR", "1"), ("COORD_LOG", "debug"), ("HOME", "/root")],
        flags: vec!["fusion.gamma=1.5", "seed"],
    });
    let keys: Vec<_> = all.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "seed",
            "training.lrr",
            "training.trainng.lr",
            "training.epochs",
            "training.batch_size",
            "training.fusion.gamma",
            "cluster.lease_s",
            "cluster.beat_s",
        ],
        "{all:#?}"
    );
    let text = crate::config::Problems(all).to_string();
    assert!(
        text.starts_with("8 problems in the configuration:\n  flag --set seed: seed: no value given"),
        "{text}"
    );
    assert!(
        text.contains("base.yaml:3: training.batch_size: 0 can not be used, it must be at least 1"),
        "{text}"
    );
    assert!(
        text.contains("flag --set fusion.gamma=1.5: training.fusion.gamma: 1.5 can not be used"),
        "{text}"
    );
}

#[test]
fn a_wrong_general_value_is_one_mistake_though_four_models_use_it() {
    assert_eq!(
        only_in_base("weight_decay: -1.0"),
        "conf/base.yaml:1: training.weight_decay: -1 can not be used, it must be 0 or more"
    );
}

#[test]
fn values_that_contradict_each_other_are_refused() {
    let at_fusion = "training.fusion.";
    for (flag, key) in [
        ("fusion.epsilon_end=0.95", at_fusion),
        ("fusion.replay_size=10", at_fusion),
        ("data.split.val_fraction=0.9", "training.data.split."),
        ("data.stride=50", "training.data.split.kind"),
        ("models.gat.large.heads=0", "training.models.gat.large.heads"),
        ("models.vgae.small.encoder=[]", "training.models.vgae.small.encoder"),
        ("fusion.states_from=teacher", "pipeline.phases.fusion.depends_on"),
        ("pipeline.phases.student.depends_on=[]", "pipeline.phases.student.depends_on"),
        ("pipeline.phases.teacher.depends_on=[fusion]", "pipeline.phases.teacher.depends_on"),
        ("pipeline.phases.teacher.memory_mib.large.rtx_9090=1", "pipeline.phases.teacher.memory_mib.large"),
        ("pipeline.phases.teacher.placement=alone", "pipeline.phases.teacher.placement"),
        ("pipeline.placement.margin_percent=2000", "pipeline.placement.margin_percent"),
        ("pipeline.placement.locality_wait_s=7200", "pipeline.placement.locality_wait_s"),
        ("gpu_profiles.t4.cap_fraction=1.2", "gpu_profiles.t4.cap_fraction"),
        ("teacher.tuning.threads=0", "training.teacher.tuning.threads"),
        ("cluster.beat_s=6", "cluster.beat_s"),
    ] {
        let problem = only(&Sources { flags: vec![flag], ..Sources::default() });
        assert!(problem.key.starts_with(key), "{flag}: {problem}");
    }
    assert!(
        flags(&["fusion.states_from=teacher", "pipeline.phases.fusion.depends_on=[teacher, student]"])
            .is_ok()
    );
}

#[test]
fn overlapping_windows_need_an_embargo_as_long_as_the_overlap() {
    let problem = |flags: Vec<&'static str>| only(&Sources { flags, ..Sources::default() });
    let random = problem(vec!["data.stride=30"]);
    assert!(random.message.contains("contiguous with embargo_windows 3"), "{random}");
    let short = problem(vec!["data.stride=30", "data.split.kind=contiguous", "data.split.embargo_windows=2"]);
    assert_eq!(short.key, "training.data.split.embargo_windows");
    assert!(short.message.contains("at least 3"), "{short}");
    let long = ["data.stride=30", "data.split.kind=contiguous", "data.split.embargo_windows=3"];
    assert!(flags(&long).is_ok());
}

#[test]
fn a_dataset_name_that_could_not_be_a_key_is_refused() {
    let text = "datasets: {'no name': {priority: 1}}";
    let problem = only(&Sources { files: vec![("datasets.yaml", text)], ..Sources::default() });
    assert!(problem.to_string().contains("\"no name\" is not usable"), "{problem}");
    assert_eq!(problem.line(), Some(1));
}

#[test]
fn a_dataset_may_override_results_only() {
    let file = |text| Sources { files: vec![("datasets.yaml", text)], ..Sources::default() };
    let tuning = only(&file("datasets: {set_01: {overrides: {workers: 3}}}"));
    assert!(tuning.message.contains("can not override"), "{tuning}");
    let unknown = only(&file("datasets: {set_01: {overrides: {eppochs: 3}}}"));
    assert_eq!(unknown.key, "datasets.set_01.overrides.eppochs");
    assert_eq!(unknown.hint.as_deref(), Some("did you mean epochs?"));
    let range = only(&file("datasets: {set_01: {overrides: {epochs: 0}}}"));
    assert_eq!((range.line(), range.key.as_str()), (Some(1), "training.epochs"));
}

#[test]
fn the_list_of_tuning_keys_is_that_of_the_tuning_settings() {
    let tuning = serde_json::to_value(TuningSettings::default()).unwrap();
    let training = serde_json::to_value(TrainingSettings::default()).unwrap();
    for key in training.as_object().unwrap().keys() {
        assert_eq!(is_tuning(key), tuning.get(key).is_some(), "{key}");
    }
}
