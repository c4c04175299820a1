use std::collections::BTreeMap;
use std::ops::Range;

use super::vehicle::checksum;
use super::*;
use crate::layout;
use crate::prepare::{PrepareConfig, PrepareTuning, prepare};
use crate::read::{ReadOptions, read_capture};

const WINDOW: usize = 100;

fn traffic(attack: Attack, vehicle: usize, seconds: f64, seed: u64) -> (Vehicle, Frames) {
    let vehicle = Vehicle::new(VEHICLES[vehicle], seed, vehicle as u64);
    let frames = bus::simulate(&vehicle, attack, seconds, 0.0, &mut Rng::new(seed, attack as u64));
    (vehicle, frames)
}

fn windows(frames: &Frames) -> impl Iterator<Item = Range<usize>> {
    (0..frames.len() / WINDOW).map(|w| w * WINDOW..(w + 1) * WINDOW)
}

/// Best F1 that a threshold on a score reaches, on either side.
fn best_f1(mut scored: Vec<(f64, bool)>) -> f64 {
    let positives = scored.iter().filter(|(_, attack)| *attack).count() as f64;
    let mut best: f64 = 0.0;
    for _ in 0..2 {
        scored.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut hits = 0.0;
        for (alarms, (_, attack)) in scored.iter().enumerate() {
            hits += f64::from(u8::from(*attack));
            best = best.max(2.0 * hits / (alarms as f64 + 1.0 + positives));
        }
        scored.iter_mut().for_each(|(score, _)| *score = -*score);
    }
    best
}

/// Scores of each window by time span and by the most frequent id's count, with the window's label.
fn rate_scores(frames: &Frames) -> [Vec<(f64, bool)>; 2] {
    let mut scores = [Vec::new(), Vec::new()];
    for window in windows(frames) {
        let attack = frames.label[window.clone()].contains(&1);
        scores[0].push((frames.timestamp_s[window.end - 1] - frames.timestamp_s[window.start], attack));
        let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
        frames.id[window].iter().for_each(|&id| *counts.entry(id).or_default() += 1);
        scores[1].push((f64::from(counts.into_values().max().unwrap()), attack));
    }
    scores
}

#[test]
fn rate_of_messages_does_not_give_spoofing_away() {
    for seed in [1, 42, 7] {
        for attack in [Attack::Gear, Attack::Rpm, Attack::Replay] {
            for vehicle in 0..3 {
                let (_, frames) = traffic(attack, vehicle, 20.0, seed);
                for (kind, scores) in ["time span", "largest count"].iter().zip(rate_scores(&frames)) {
                    let attacks = scores.iter().filter(|(_, attack)| *attack).count();
                    let share = attacks as f64 / scores.len() as f64;
                    assert!((0.25..0.75).contains(&share), "{attack:?}: {share} of the windows are attacks");
                    let f1 = best_f1(scores);
                    assert!(
                        f1 < 0.9,
                        "{attack:?}, vehicle {vehicle}, seed {seed}: {kind} alone reaches F1 {f1}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_injected_is_there_to_be_learned() {
    // Real frames of the targets always carry the right checksum, spoofed ones hardly ever.
    for (attack, rpm) in [(Attack::Gear, false), (Attack::Rpm, true), (Attack::Masquerade, true)] {
        let (vehicle, frames) = traffic(attack, 0, 20.0, 3);
        let target = if rpm { vehicle.rpm_id } else { vehicle.gear_id };
        let (mut right, mut wrong) = ([0u32; 2], [0u32; 2]);
        for row in (0..frames.len()).filter(|&row| frames.id[row] == target) {
            let payload = frames.payload[row];
            let counts = if checksum(target, &payload[..7]) == payload[7] { &mut right } else { &mut wrong };
            counts[frames.label[row] as usize] += 1;
        }
        assert_eq!(wrong[0], 0);
        assert!(wrong[1] > 200 && right[1] * 20 < wrong[1], "{attack:?}: {right:?} {wrong:?}");
    }
}

#[test]
fn traffic_looks_like_a_bus() {
    let (vehicle, frames) = traffic(Attack::None, 1, 20.0, 9);
    let rate = frames.len() as f64 / 20.0;
    assert!((1_400.0..2_100.0).contains(&rate), "{rate}");
    assert!(frames.timestamp_s.windows(2).all(|pair| pair[1] - pair[0] > 0.0001));
    assert!(frames.label.iter().all(|&label| label == 0));
    // Counters of a real message go up by one each time.
    let counters: Vec<u8> =
        (0..frames.len()).filter(|&r| frames.id[r] == vehicle.rpm_id).map(|r| frames.payload[r][6]).collect();
    assert!(counters.len() > 900 && counters.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 16));
}

#[test]
fn attacks_do_what_they_are_called() {
    let attack_ids = |frames: &Frames| -> BTreeMap<u32, usize> {
        let mut ids = BTreeMap::new();
        (0..frames.len())
            .filter(|&r| frames.label[r] == 1)
            .for_each(|r| *ids.entry(frames.id[r]).or_default() += 1);
        ids
    };
    let (_, dos) = traffic(Attack::Dos, 0, 20.0, 5);
    assert_eq!(attack_ids(&dos).into_keys().collect::<Vec<_>>(), [0]);
    let (_, fuzzing) = traffic(Attack::Fuzzing, 0, 20.0, 5);
    assert!(attack_ids(&fuzzing).len() > 500);
    let (vehicle, replay) = traffic(Attack::Replay, 0, 20.0, 5);
    let ids = attack_ids(&replay);
    assert!(ids.len() == 4 && ids[&vehicle.rpm_id] > 100, "{ids:?}");
    let (vehicle, suppress) = traffic(Attack::Suppress, 0, 20.0, 5);
    let sent = suppress.id.iter().filter(|&&id| id == vehicle.rpm_id).count();
    assert!(attack_ids(&suppress).is_empty() && (100..800).contains(&sent), "{sent}");
    let (vehicle, masquerade) = traffic(Attack::Masquerade, 0, 20.0, 5);
    let sent = masquerade.id.iter().filter(|&&id| id == vehicle.rpm_id).count();
    assert!(sent > 900 && attack_ids(&masquerade).into_keys().eq([vehicle.rpm_id]));
}

#[test]
fn same_seed_same_bytes_and_a_whole_sample_stays() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = SampleConfig { seed: 11, minutes: 0.3 };
    let first = write(&config, here.path()).unwrap();
    assert_eq!(write(&config, there.path()).unwrap().captures, first.captures);
    for capture in &first.captures {
        let bytes = |root: &Path| {
            fs::read(capture_path(&root.join(DATASET), &capture.folder, &capture.name)).unwrap()
        };
        assert!(bytes(here.path()) == bytes(there.path()), "{}/{}", capture.folder, capture.name);
    }
    let again = write(&config, here.path()).unwrap();
    assert!(again.up_to_date && !first.up_to_date && again.captures == first.captures);
    let other = write(&SampleConfig { seed: 12, ..config }, here.path()).unwrap();
    assert!(!other.up_to_date && other.captures != first.captures);
    fs::remove_file(here.path().join("sample/test_05_suppress/suppress-orion.csv")).unwrap();
    let mended = write(&SampleConfig { seed: 12, ..config }, here.path()).unwrap();
    assert!(!mended.up_to_date && mended.captures == other.captures);
}

#[test]
fn other_peoples_folders_and_odd_lengths_are_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("sample")).unwrap();
    fs::write(root.path().join("sample/thesis.txt"), "three years of work").unwrap();
    assert!(matches!(write(&SampleConfig::default(), root.path()), Err(DataError::NotOurs { .. })));
    for minutes in [0.0, 0.1, 601.0, f64::NAN] {
        let config = SampleConfig { minutes, ..SampleConfig::default() };
        assert!(matches!(write(&config, root.path()), Err(DataError::BadSetting { .. })));
    }
}

#[test]
fn the_sample_can_be_prepared() {
    let root = tempfile::tempdir().unwrap();
    let report = write(&SampleConfig { seed: 1, minutes: 0.5 }, root.path()).unwrap();
    let layout = layout::find(root.path(), DATASET).unwrap();
    assert_eq!(layout.len(), report.captures.len());
    for (file, written) in
        layout.train.iter().zip(report.captures.iter().filter(|c| c.folder.starts_with("train")))
    {
        assert_eq!((&file.folder, &file.name), (&written.folder, &written.name));
        let read = read_capture(file, &ReadOptions::default(), &mut |_| Ok(())).unwrap();
        assert_eq!((read.rows, read.attack_rows, read.bad_lines), (written.rows, written.attack_rows, 0));
    }
    let prepared = prepare(&layout, &PrepareConfig::default(), &PrepareTuning::default(), &|_| {}).unwrap();
    assert_eq!(prepared.tests.len(), 6);
    assert!(prepared.report.warnings.is_empty(), "{:?}", prepared.report.warnings);
    assert!(prepared.tests.iter().all(|(folder, set)| set.has_labels() == (folder != "test_05_suppress")));
    assert!(prepared.report.train_attack_windows > 20 && prepared.report.val_attack_windows > 3);
}
