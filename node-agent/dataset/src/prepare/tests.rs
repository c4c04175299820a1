use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::*;
use crate::graph_set::NODE_FEATURES;
use crate::layout::find;
use crate::profile::{ProfileConfig, ROLES, STRANGER};
use crate::window::{ChunkRule, NodeEncoding};

const HEADER: &str = "timestamp,arbitration_id,data_field,attack\n";

/// A capture whose payloads depend on `salt`; every `attack_every`-th row is an injected message of id 7FF.
fn capture(rows: usize, salt: usize, attack_every: usize) -> String {
    let mut text = HEADER.to_string();
    for i in 0..rows {
        let attack = attack_every > 0 && i % attack_every == attack_every - 1;
        let id = if attack { 0x7FF } else { 0x100 + i % 7 };
        text.push_str(&format!("{}.0,{id:03X},{:08X},{}\n", i, i * (salt + 3), u8::from(attack)));
    }
    text
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join("car").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn small_dataset(root: &Path) -> Layout {
    write(root, "train_01_attack_free/attack-free-1.csv", &capture(2_000, 1, 0));
    write(root, "train_02_with_attacks/attack-free-1.csv", &capture(2_000, 1, 0));
    write(root, "train_02_with_attacks/DoS-1.csv", &capture(1_500, 2, 300));
    write(root, "test_01_known/DoS-2.csv", &capture(500, 3, 100));
    write(root, "test_05_suppress/suppress-1.csv", &capture(300, 4, 0));
    find(root, "car").unwrap()
}

fn run(layout: &Layout, config: &PrepareConfig, tuning: &PrepareTuning) -> Result<Prepared> {
    prepare(layout, config, tuning, &|_| {})
}

fn plain(layout: &Layout, config: &PrepareConfig) -> Prepared {
    run(layout, config, &PrepareTuning::default()).unwrap()
}

#[test]
fn copies_train_once_and_suppress_has_no_labels() {
    let root = tempfile::tempdir().unwrap();
    let layout = small_dataset(root.path());
    let prepared = plain(&layout, &PrepareConfig::default());
    assert_eq!(prepared.train.len() + prepared.val.len(), 19 + 14);
    // Five rows are injected; the fifth is the capture's last and has no successor.
    assert_eq!(prepared.report.train_attack_windows + prepared.report.val_attack_windows, 4);
    assert_eq!(prepared.tests.keys().collect::<Vec<_>>(), ["test_01_known", "test_05_suppress"]);
    assert!(prepared.tests["test_01_known"].has_labels() && !prepared.tests["test_05_suppress"].has_labels());
    assert_eq!(prepared.vocabulary.num_ids(), 9);
    let copy = prepared.report.captures.iter().find(|c| matches!(c.used_as, CaptureUse::CopyOf(_))).unwrap();
    assert_eq!((&copy.folder[..], &copy.read), ("train_02_with_attacks", &None));

    let as_found = PrepareConfig { copies: Copies::AsFound, ..PrepareConfig::default() };
    let prepared = plain(&layout, &as_found);
    assert_eq!(prepared.train.len() + prepared.val.len(), 19 + 19 + 14);
    let hashes = |set: &GraphSet| (0..set.len()).map(|g| set.input_hash(g)).collect::<HashSet<_>>();
    assert!(hashes(&prepared.train).is_disjoint(&hashes(&prepared.val)));
}

#[test]
fn copies_in_another_form_of_file_are_found_by_their_messages() {
    let root = tempfile::tempdir().unwrap();
    small_dataset(root.path());
    let other_bytes = capture(2_000, 1, 0).replace("\n", "\r\n");
    write(root.path(), "train_02_with_attacks/attack-free-1.csv", &other_bytes);
    let prepared = plain(&find(root.path(), "car").unwrap(), &PrepareConfig::default());
    assert_eq!(prepared.train.len() + prepared.val.len(), 19 + 14);
    let copy = prepared.report.captures.iter().find(|c| matches!(c.used_as, CaptureUse::CopyOf(_))).unwrap();
    assert!(copy.read.is_some());
}

#[test]
fn benign_vocabulary_merges_attack_only_ids() {
    let root = tempfile::tempdir().unwrap();
    let layout = small_dataset(root.path());
    let config = PrepareConfig { vocabulary: VocabularyScope::BenignTrain, ..PrepareConfig::default() };
    let prepared = plain(&layout, &config);
    assert_eq!(prepared.vocabulary.num_ids(), 8);
    assert!(prepared.vocabulary.ids().iter().all(|&id| id != 0x7FF));
    let attack = (0..prepared.train.len()).find(|&g| prepared.train.label[g] == 1).unwrap();
    assert_eq!(prepared.train.graph(attack).node_id.last(), Some(&prepared.vocabulary.oov_index()));
}

#[test]
fn vocabulary_indices_replace_ids_without_changing_graphs() {
    let root = tempfile::tempdir().unwrap();
    let layout = small_dataset(root.path());
    let prepared = plain(&layout, &PrepareConfig::default());
    // The training capture put into a test folder goes the other way, through the vocabulary, to the same graphs.
    write(root.path(), "test_02_same/DoS-1.csv", &capture(1_500, 2, 300));
    let again = plain(&find(root.path(), "car").unwrap(), &PrepareConfig::default());
    let hashes = |set: &GraphSet| (0..set.len()).map(|g| set.input_hash(g)).collect::<HashSet<_>>();
    let trained = &hashes(&prepared.train) | &hashes(&prepared.val);
    assert!(hashes(&again.tests["test_02_same"]).is_subset(&trained));
}

#[test]
fn threads_and_cache_do_not_change_the_result() {
    let root = tempfile::tempdir().unwrap();
    let layout = small_dataset(root.path());
    let config = PrepareConfig::default();
    let one =
        run(&layout, &config, &PrepareTuning { threads: 1, cache_dir: None, ..PrepareTuning::default() })
            .unwrap();
    let cache_dir = Some(root.path().join("cache"));
    let tuning = PrepareTuning { threads: 3, cache_dir: cache_dir.clone(), ..PrepareTuning::default() };
    let first = run(&layout, &config, &tuning).unwrap();
    assert_eq!(first, one);
    let mut cached = run(&layout, &config, &tuning).unwrap();
    assert!(cached.report.from_cache);
    cached.report.from_cache = false;
    assert_eq!(cached, first);

    // Another setting and another capture each make another entry.
    let original = WindowConfig { chunk_rule: ChunkRule::Original, ..config.window };
    let other = run(&layout, &PrepareConfig { window: original, ..config }, &tuning).unwrap();
    assert!(!other.report.from_cache && other.report.key != first.report.key);
    write(root.path(), "test_01_known/DoS-2.csv", &capture(501, 3, 100));
    let changed = run(&layout, &config, &tuning).unwrap();
    assert!(!changed.report.from_cache && changed.report.key != first.report.key);
}

#[test]
fn a_damaged_cache_is_made_again() {
    let root = tempfile::tempdir().unwrap();
    let layout = small_dataset(root.path());
    let tuning =
        PrepareTuning { threads: 2, cache_dir: Some(root.path().join("cache")), ..PrepareTuning::default() };
    let first = run(&layout, &PrepareConfig::default(), &tuning).unwrap();
    let graphs = root.path().join("cache").join(first.report.key.to_string()).join("val.graphs");
    let bytes = fs::read(&graphs).unwrap();
    fs::write(&graphs, &bytes[..bytes.len() - 9]).unwrap();
    let again = run(&layout, &PrepareConfig::default(), &tuning).unwrap();
    assert_eq!(again, first);
    assert_eq!(fs::read(&graphs).unwrap(), bytes);
}

#[test]
fn preparing_the_same_thing_at_once_does_no_harm() {
    let root = tempfile::tempdir().unwrap();
    let layout = small_dataset(root.path());
    let cache_dir = root.path().join("cache");
    let results: Vec<Prepared> = std::thread::scope(|scope| {
        let one = || {
            let tuning =
                PrepareTuning { threads: 1, cache_dir: Some(cache_dir.clone()), ..PrepareTuning::default() };
            let mut prepared = run(&layout, &PrepareConfig::default(), &tuning).unwrap();
            prepared.report.from_cache = false;
            prepared
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(|prepared| *prepared == results[0]));
    assert!(results[0].report.warnings.is_empty());
    let names: Vec<_> = fs::read_dir(&cache_dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

#[test]
fn a_cache_that_cannot_be_written_is_a_warning() {
    let root = tempfile::tempdir().unwrap();
    let layout = small_dataset(root.path());
    fs::write(root.path().join("blocked"), "a file, not a folder").unwrap();
    let tuning = PrepareTuning {
        threads: 1,
        cache_dir: Some(root.path().join("blocked/cache")),
        ..PrepareTuning::default()
    };
    let prepared = run(&layout, &PrepareConfig::default(), &tuning).unwrap();
    assert!(prepared.report.warnings[0].contains("no cache"), "{:?}", prepared.report.warnings);

    let cache_dir = root.path().join("cache");
    fs::create_dir_all(cache_dir.join("file_hashes.json/in the way")).unwrap();
    fs::write(cache_dir.join(prepared.report.key.to_string()), "a file in the way").unwrap();
    let tuning = PrepareTuning { threads: 1, cache_dir: Some(cache_dir), ..PrepareTuning::default() };
    let again = run(&layout, &PrepareConfig::default(), &tuning).unwrap();
    assert_eq!(again.report.warnings.len(), 2, "{:?}", again.report.warnings);
    assert_eq!(again.train, prepared.train);
}

#[test]
fn progress_counts_every_capture_once() {
    let root = tempfile::tempdir().unwrap();
    let layout = small_dataset(root.path());
    let seen = std::sync::Mutex::new(Vec::new());
    prepare(&layout, &PrepareConfig::default(), &PrepareTuning::default(), &|p| seen.lock().unwrap().push(p))
        .unwrap();
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), layout.len());
    assert!(seen.iter().any(|p| p.captures_done == p.captures_total && p.rows <= 4_300));
}

#[test]
fn one_capture_without_attacks_or_tests_is_enough() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "train_01_attack_free/a.csv", &capture(50, 1, 0));
    let prepared = plain(&find(root.path(), "car").unwrap(), &PrepareConfig::default());
    assert_eq!((prepared.train.len(), prepared.val.len(), prepared.tests.len()), (1, 0, 0));
    assert_eq!(prepared.train.x.len(), 7 * NODE_FEATURES);
    assert_eq!(prepared.report.warnings.len(), 2, "{:?}", prepared.report.warnings);
}

#[test]
fn training_without_labels_or_captures_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let log = "(1.0) can0 044#2A\n(1.1) can0 045#2B\n(1.2) can0 044#2A\n";
    write(root.path(), "train_01_attack_free/drive.log", log);
    let layout = find(root.path(), "car").unwrap();
    assert!(plain(&layout, &PrepareConfig::default()).train.has_labels());
    write(root.path(), "train_02_with_attacks/DoS-1.log", &format!("{log}(1.3) can0 000#00\n"));
    let error = run(&find(root.path(), "car").unwrap(), &PrepareConfig::default(), &PrepareTuning::default());
    assert!(matches!(error, Err(DataError::UnlabelledTraining { .. })));

    let bare = tempfile::tempdir().unwrap();
    write(bare.path(), "test_01/a.csv", &capture(300, 1, 0));
    let error = run(&find(bare.path(), "car").unwrap(), &PrepareConfig::default(), &PrepareTuning::default());
    assert!(matches!(error, Err(DataError::NoTraining { .. })));
}

#[test]
fn suppress_captures_of_a_training_folder_become_a_test() {
    let root = tempfile::tempdir().unwrap();
    small_dataset(root.path());
    write(root.path(), "train_02_with_attacks/suppress-1.csv", &capture(700, 9, 0));
    let prepared = plain(&find(root.path(), "car").unwrap(), &PrepareConfig::default());
    assert_eq!(prepared.train.len() + prepared.val.len(), 19 + 14);
    let moved = &prepared.tests["train_02_with_attacks__suppress"];
    assert_eq!((moved.len(), moved.has_labels()), (6, false));
}

#[test]
fn config_is_strict_and_round_trips() {
    let text = r#"{"window":{"window":50},"split":{"method":{"kind":"contiguous","embargo_windows":3}}}"#;
    let config: PrepareConfig = serde_json::from_str(text).unwrap();
    assert_eq!((config.window.window, config.window.stride), (50, 100));
    assert_eq!(
        serde_json::from_str::<PrepareConfig>(&serde_json::to_string(&config).unwrap()).unwrap(),
        config
    );
    for wrong in [r#"{"windows":{}}"#, r#"{"split":{"sede":1}}"#, r#"{"read":{"max":1}}"#] {
        assert!(serde_json::from_str::<PrepareConfig>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_wider_budget_of_bad_lines_is_no_other_result_and_a_narrower_one_refuses_what_was_kept() {
    let root = tempfile::tempdir().unwrap();
    small_dataset(root.path());
    let damaged = capture(2_500, 6, 0) + "garbage\nmore garbage\n";
    write(root.path(), "train_01_attack_free/attack-free-2.csv", &damaged);
    let layout = find(root.path(), "car").unwrap();
    let cache_dir = Some(root.path().join("cache"));
    let with = |max_bad_lines| PrepareTuning {
        threads: 2,
        cache_dir: cache_dir.clone(),
        read: ReadOptions { max_bad_lines, ..ReadOptions::default() },
    };
    let config = PrepareConfig::default();
    let first = run(&layout, &config, &with(2)).unwrap();
    assert!(run(&layout, &config, &with(7)).unwrap().report.from_cache);
    let refused = run(&layout, &config, &with(1)).unwrap_err();
    assert!(matches!(refused, DataError::TooManyBadLines { bad: 2, max_bad_lines: 1, .. }), "{refused}");
    assert_eq!(run(&layout, &config, &with(2)).unwrap().report.key, first.report.key);
}

#[test]
fn with_a_profile_roles_are_the_vocabulary_and_varied_windows_are_added_to_both_sides() {
    let root = tempfile::tempdir().unwrap();
    let layout = small_dataset(root.path());
    let nodes = NodeEncoding::Profile(ProfileConfig { messages: 90 });
    let window = WindowConfig { nodes, window: 20, stride: 20, ..WindowConfig::default() };
    let config = |varied_copies| PrepareConfig { window, varied_copies, ..PrepareConfig::default() };
    let [without, with] = [0, 8].map(|copies| plain(&layout, &config(copies)));
    assert_eq!((without.vocabulary.num_ids(), with.vocabulary.num_ids()), (ROLES, ROLES));
    assert!(with.train.node_id.iter().chain(&with.val.node_id).all(|&role| role < ROLES));
    // Injected messages have an id no one else sends.
    let strangers = |set: &GraphSet| set.node_id.iter().filter(|&&role| role == STRANGER).count();
    assert!(strangers(&with.tests["test_01_known"]) > 0);
    assert_eq!(with.tests, without.tests);
    let added = |side: fn(&Prepared) -> &GraphSet| {
        let (before, after) = (side(&without), side(&with));
        assert_eq!(&after.label[..before.len()], &before.label[..]);
        (before.len()..after.len()).map(|g| after.label[g]).collect::<Vec<u8>>()
    };
    let (train, val) = (added(|p| &p.train), added(|p| &p.val));
    assert_eq!((with.val_real(), without.val_real()), (without.val.len(), without.val.len()));
    assert_eq!(with.report.train_varied_windows, train.len() as u64);
    assert!(train.len() > val.len() && !val.is_empty(), "{} and {}", train.len(), val.len());
    assert!(train.iter().chain(&val).any(|&label| label == 1));
    let one_thread = PrepareTuning { threads: 1, ..PrepareTuning::default() };
    assert_eq!(run(&layout, &config(8), &one_thread).unwrap(), with);
}
