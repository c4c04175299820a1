//! Validation split that puts no window and its copy on two sides.

use std::collections::{HashMap, HashSet};

use oorandom::Rand64;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::graph_set::GraphSet;
use crate::window::WindowConfig;

/// How validation windows are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SplitKind {
    /// At random by seed, equal windows together, attack and benign windows each in the wanted share.
    #[default]
    RandomDedup,
    /// The last part of each capture, with a gap of unused windows before it. A validation window equal to a
    /// training window is left out.
    Contiguous { embargo_windows: u32 },
}

/// Validation split. Semantic: a change trains on other windows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitConfig {
    pub method: SplitKind,
    /// Share of windows for validation, above 0 and below 1.
    pub val_fraction: f64,
    pub seed: u64,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self { method: SplitKind::RandomDedup, val_fraction: 0.2, seed: 42 }
    }
}

/// Which windows go where; ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    pub train: Vec<u32>,
    pub val: Vec<u32>,
    /// In neither part: embargo, or validation windows equal to training windows.
    pub unused: Vec<u32>,
}

impl SplitConfig {
    /// Refuses shares that leave a side empty, and splits that let both sides have messages of one window.
    pub fn validate(&self, window: &WindowConfig) -> Result<()> {
        let bad = |key, value: String, expected| Err(DataError::BadSetting { key, value, expected });
        if self.val_fraction.is_nan() || self.val_fraction <= 0.0 || self.val_fraction >= 1.0 {
            return bad("val_fraction", self.val_fraction.to_string(), "a share above 0 and below 1");
        }
        let shared = window.windows_sharing_messages();
        match self.method {
            SplitKind::RandomDedup if shared > 0 => bad(
                "split.kind",
                "random_dedup".to_owned(),
                "contiguous, for windows overlap (stride below window) and both sides would share messages",
            ),
            SplitKind::Contiguous { embargo_windows } if embargo_windows < shared => bad(
                "embargo_windows",
                embargo_windows.to_string(),
                "at least window / stride, rounded up, minus 1: so many windows share messages",
            ),
            _ => Ok(()),
        }
    }
}

/// Splits the windows of the training captures. `config` was validated against the windows' configuration. Equal means equal to the model: same nodes, features and edges.
///
/// A set whose windows are all equal has an empty validation part.
pub fn split(set: &GraphSet, config: &SplitConfig) -> Result<Split> {
    let hashes: Vec<u128> = (0..set.len()).into_par_iter().map(|g| set.input_hash(g)).collect();
    let mut split = match config.method {
        SplitKind::RandomDedup => random(set, config, &hashes),
        SplitKind::Contiguous { embargo_windows } => contiguous(set, config, &hashes, embargo_windows),
    };
    split.train.sort_unstable();
    split.val.sort_unstable();
    split.unused.sort_unstable();
    Ok(split)
}

fn random(set: &GraphSet, config: &SplitConfig, hashes: &[u128]) -> Split {
    // Groups of equal windows in order of first appearance, apart for attack (any of them labelled) and benign.
    let mut group_of: HashMap<u128, usize> = HashMap::new();
    let mut groups: Vec<Vec<u32>> = Vec::new();
    for (g, &hash) in (0u32..).zip(hashes) {
        let group = *group_of.entry(hash).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        groups[group].push(g);
    }
    let is_attack = |group: &Vec<u32>| group.iter().any(|&g| set.label[g as usize] != 0);
    let (attack, benign): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_attack);
    let mut rng = Rand64::new(u128::from(config.seed));
    let mut split = Split::default();
    for mut stratum in [attack, benign] {
        shuffle(&mut stratum, &mut rng);
        let total: usize = stratum.iter().map(Vec::len).sum();
        let wanted = (total as f64 * config.val_fraction).round() as usize;
        let mut taken = 0;
        for (position, group) in stratum.iter().enumerate() {
            // A group goes to validation only if it fits, and the stratum's last group never does: a large group
            // of copies (an idle car) must not empty the training side.
            let fits = taken + group.len() <= wanted && position + 1 < stratum.len();
            let side = if fits { &mut split.val } else { &mut split.train };
            taken += if fits { group.len() } else { 0 };
            side.extend_from_slice(group);
        }
    }
    split
}

fn contiguous(set: &GraphSet, config: &SplitConfig, hashes: &[u128], embargo: u32) -> Split {
    let mut per_capture: Vec<Vec<u32>> = vec![Vec::new(); set.captures.len()];
    (0u32..).zip(&set.capture).for_each(|(g, &capture)| per_capture[capture as usize].push(g));
    let mut split = Split::default();
    let mut candidates = Vec::new();
    for windows in per_capture {
        let val = (windows.len() as f64 * config.val_fraction).round() as usize;
        let val_start = windows.len() - val;
        let train_end = if val == 0 { val_start } else { val_start.saturating_sub(embargo as usize) };
        split.train.extend_from_slice(&windows[..train_end]);
        split.unused.extend_from_slice(&windows[train_end..val_start]);
        candidates.extend_from_slice(&windows[val_start..]);
    }
    let trained: HashSet<u128> = split.train.iter().map(|&g| hashes[g as usize]).collect();
    for g in candidates {
        let side = if trained.contains(&hashes[g as usize]) { &mut split.unused } else { &mut split.val };
        side.push(g);
    }
    split
}

/// Fisher-Yates.
fn shuffle<T>(items: &mut [T], rng: &mut Rand64) {
    for last in (1..items.len()).rev() {
        items.swap(last, rng.rand_range(0..last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph_set::tests::chain_graphs;

    /// 60 different windows, then copies of every third of them, from another capture.
    fn set_with_copies() -> GraphSet {
        let first = chain_graphs(60, 0);
        let copies = first.select(&(0..20).map(|i| i * 3).collect::<Vec<_>>()).unwrap();
        GraphSet::concat(&[first, copies], false).unwrap()
    }

    fn assert_no_leak(set: &GraphSet, split: &Split) {
        let hashes = |side: &[u32]| side.iter().map(|&g| set.input_hash(g as usize)).collect::<HashSet<_>>();
        assert!(hashes(&split.train).is_disjoint(&hashes(&split.val)));
        let mut all = [&split.train[..], &split.val, &split.unused].concat();
        all.sort_unstable();
        assert_eq!(all, (0..set.len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn random_split_leaks_no_copy_and_keeps_the_share() {
        let set = set_with_copies();
        for seed in 0..20 {
            let config = SplitConfig { seed, ..SplitConfig::default() };
            let parts = split(&set, &config).unwrap();
            assert_no_leak(&set, &parts);
            assert!((14..=16).contains(&parts.val.len()), "{}", parts.val.len());
            let attacks = parts.val.iter().filter(|&&g| set.label[g as usize] == 1).count();
            assert!((6..=9).contains(&attacks), "{attacks}");
            assert_eq!(split(&set, &config).unwrap(), parts);
        }
        let other = SplitConfig { seed: 1, ..SplitConfig::default() };
        assert_ne!(split(&set, &other).unwrap(), split(&set, &SplitConfig::default()).unwrap());
    }

    #[test]
    fn contiguous_split_keeps_the_gap_and_leaks_no_copy() {
        let set = set_with_copies();
        let method = SplitKind::Contiguous { embargo_windows: 2 };
        let parts = split(&set, &SplitConfig { method, ..SplitConfig::default() }).unwrap();
        assert_no_leak(&set, &parts);
        assert!(parts.val.iter().all(|&g| (48..60).contains(&g) || g >= 76));
        assert!(parts.train.iter().all(|&g| g < 46 || (60..74).contains(&g)));
    }

    #[test]
    fn equal_windows_all_go_to_training() {
        let one = chain_graphs(3, 0).select(&[2; 10]).unwrap();
        let parts = split(&one, &SplitConfig::default()).unwrap();
        assert_eq!((parts.train.len(), parts.val.len()), (10, 0));
        let empty = split(&GraphSet::empty(false), &SplitConfig::default()).unwrap();
        assert_eq!(empty, Split::default());
    }

    #[test]
    fn shares_without_sense_are_refused() {
        for val_fraction in [0.0, 1.0, -0.1, f64::NAN] {
            let config = SplitConfig { val_fraction, ..SplitConfig::default() };
            assert!(config.validate(&WindowConfig::default()).is_err());
        }
    }

    #[test]
    fn overlapping_windows_are_never_split_so_that_both_sides_share_messages() {
        let valid = |method, window, stride| {
            let window = WindowConfig { window, stride, ..WindowConfig::default() };
            SplitConfig { method, ..SplitConfig::default() }.validate(&window).is_ok()
        };
        let behind = |embargo_windows| SplitKind::Contiguous { embargo_windows };
        assert!(valid(SplitKind::RandomDedup, 100, 100) && valid(behind(0), 100, 100));
        assert!(!valid(SplitKind::RandomDedup, 100, 99));
        // Window i has the messages 30 i .. 30 i + 100, so it shares some with the three after it.
        assert!(!valid(behind(2), 100, 30) && valid(behind(3), 100, 30));
        assert!(!valid(behind(0), 100, 50) && valid(behind(1), 100, 50));
    }
}
