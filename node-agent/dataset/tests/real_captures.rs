//! Against the published captures, where they are at hand: `COORD_TEST_CANDATA`, or `../shared/candata` beside the
//! workspace. They are research data and no part of this project.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dataset::{
    ChunkRule, Copies, PrepareConfig, PrepareTuning, VocabularyScope, WindowConfig, dataset_digest, layout,
    prepare,
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
    // Mean graph sizes and the largest one, as measured from the original's graphs.
    let sizes = |folder: &str, capture: &str| {
        let (_, set) = prepared.tests.iter().find(|(name, _)| name.starts_with(folder)).unwrap();
        let index = set.captures.iter().position(|c| c.name == capture).unwrap() as u32;
        let graphs: Vec<usize> = (0..set.len()).filter(|&g| set.capture[g] == index).collect();
        let mean = |count: &dyn Fn(usize) -> usize| {
            graphs.iter().map(|&g| count(g)).sum::<usize>() as f64 / graphs.len() as f64
        };
        (mean(&|g| set.node_range(g).len()), mean(&|g| set.edge_range(g).len()))
    };
    println!("spark: {:?}", sizes("test_04", "malfunction-spark"));
    println!("kia: {:?}", sizes("test_03", "malfunction-kia"));
    println!("sonata: {:?}", sizes("test_03", "malfunction-sonata"));
    let largest =
        prepared.tests.values().flat_map(|set| (0..set.len()).map(|g| set.node_range(g).len())).max();
    assert!(largest.unwrap() <= 101);
}

#[test]
fn real_hcrl_sa_trains_on_copies_once() {
    let Some(root) = captures() else { return };
    let layout = layout::find(&root, "hcrl_sa").unwrap();
    let cache = tempfile::tempdir().unwrap();
    let tuning = PrepareTuning { cache_dir: Some(cache.path().into()), threads: 0 };
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
