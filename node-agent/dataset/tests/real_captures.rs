//! Against the published captures, where they are at hand: `COORD_TEST_CANDATA`, or `../shared/candata` beside the
//! workspace. They are research data and no part of this project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dataset::{
    CaptureScan, ChunkRule, Copies, GraphSet, PrepareConfig, PrepareTuning, ReadOptions, VocabularyScope,
    WindowConfig, dataset_digest, layout, prepare, scan,
};

fn captures() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/candata");
    let root = std::env::var_os("COORD_TEST_CANDATA").map_or_else(beside, PathBuf::from);
    let there = root.join("hcrl_sa").is_dir();
    if !there {
        println!("skipped: no captures");
    }
    there.then_some(root)
}

#[test]
fn real_hcrl_sa_gives_the_published_windows() {
    let Some(root) = captures() else { return };
    let layout = layout::find(&root, "hcrl_sa").unwrap();
    let config = PrepareConfig {
        window: WindowConfig { chunk_rule: ChunkRule::Original, ..WindowConfig::default() },
        copies: Copies::AsFound,
        ..PrepareConfig::default()
    };
    let prepared = prepare(&layout, &config, &PrepareTuning::default(), &|_| {}).unwrap();
    assert_eq!(prepared.vocabulary.num_ids(), 2049);
    assert_eq!(prepared.train.len() + prepared.val.len(), 9_364);
    assert_eq!(prepared.train.attack_count() + prepared.val.attack_count(), 1_295);
    let tests: BTreeMap<&str, (usize, f64)> = prepared
        .tests
        .iter()
        .map(|(folder, set)| {
            (&folder[..7], (set.len(), 100.0 * set.attack_count() as f64 / set.len() as f64))
        })
        .collect();
    for (folder, windows, attack_percent) in
        [("test_01", 3_994, 48.3), ("test_02", 1_861, 40.5), ("test_03", 3_060, 37.9), ("test_04", 797, 39.2)]
    {
        assert_eq!(tests[folder].0, windows);
        assert!((tests[folder].1 - attack_percent).abs() < 0.06, "{folder}: {} % attacks", tests[folder].1);
    }
    let mut all = prepared.train.clone();
    all.append(&prepared.val).unwrap();
    prepared.tests.values().for_each(|set| all.append(set).unwrap());
    assert_sizes(&all, "attack-free-kia", 29.6, 52.0);
    assert_sizes(&all, "attack-free-sonata", 23.7, 36.0);
    assert_sizes(&all, "malfunction-spark", 47.3, 80.0);
    let largest = (0..all.len()).map(|g| (all.node_range(g).len(), all.edge_range(g).len())).max();
    assert!(largest.is_some_and(|(nodes, edges)| nodes <= 101 && edges <= 100));
}

/// Mean nodes and edges of a capture's windows, against those of the original's graphs.
fn assert_sizes(set: &GraphSet, capture: &str, nodes: f64, edges: f64) {
    let graphs: Vec<usize> =
        (0..set.len()).filter(|&g| set.captures[set.capture[g] as usize].name == capture).collect();
    let mean = |count: &dyn Fn(usize) -> usize| {
        graphs.iter().map(|&g| count(g)).sum::<usize>() as f64 / graphs.len() as f64
    };
    let found = (mean(&|g| set.node_range(g).len()), mean(&|g| set.edge_range(g).len()));
    assert!((found.0 - nodes).abs() < 0.1 && (found.1 - edges).abs() < 0.6, "{capture}: {found:?}");
}

#[test]
fn real_captures_scan_as_catalogued() {
    let Some(root) = captures() else { return };
    let window = WindowConfig { chunk_rule: ChunkRule::Original, ..WindowConfig::default() };
    let catalogue =
        [("hcrl_sa", [1_908_595, 183_314, 19_076, 5_448]), ("set_01", [2_054_759, 56_174, 20_539, 2_042])];
    for (dataset, expected) in catalogue {
        let Ok(layout) = layout::find(&root, dataset) else { continue };
        let scans = scan(&layout, &window, &ReadOptions::default()).unwrap();
        let sum = |value: &dyn Fn(&CaptureScan) -> u64| scans.iter().map(value).sum::<u64>();
        let found = [
            sum(&|scan| scan.read.rows),
            sum(&|scan| scan.read.attack_rows),
            sum(&|scan| scan.windows),
            sum(&|scan| scan.attack_windows),
        ];
        assert_eq!(found, expected, "{dataset}");
    }
}

#[test]
fn real_hcrl_sa_trains_on_copies_once() {
    let Some(root) = captures() else { return };
    let layout = layout::find(&root, "hcrl_sa").unwrap();
    let cache = tempfile::tempdir().unwrap();
    let tuning = PrepareTuning { cache_dir: Some(cache.path().into()), ..PrepareTuning::default() };
    let start = std::time::Instant::now();
    let prepared = prepare(&layout, &PrepareConfig::default(), &tuning, &|_| {}).unwrap();
    println!("prepared in {:?}; {} bytes of training graphs", start.elapsed(), prepared.train.bytes());
    // The parquet copies differ as files: each row names its own folder.
    let digest = dataset_digest(&layout, None).unwrap();
    let sha256 = |folder| digest.capture(folder, "attack-free-kia").unwrap().sha256;
    assert_ne!(sha256("train_01_attack_free"), sha256("train_02_with_attacks"));
    assert_eq!(prepared.train.len() + prepared.val.len(), 1_925 + 1_171 + 1_819 + 1_356);
    let start = std::time::Instant::now();
    let again = prepare(&layout, &PrepareConfig::default(), &tuning, &|_| {}).unwrap();
    println!("from the cache in {:?}", start.elapsed());
    assert!(again.report.from_cache && again.train == prepared.train);

    let benign = PrepareConfig { vocabulary: VocabularyScope::BenignTrain, ..PrepareConfig::default() };
    let benign = prepare(&layout, &benign, &tuning, &|_| {}).unwrap();
    assert_eq!(benign.vocabulary.num_ids(), 51);
}
