//! Messages that stay away: how long periodic ids have been silent, window by window.
//!
//! A suppression attack injects nothing: a message that used to come every few milliseconds stops coming. No
//! graph of the messages that are there shows that well, and a vehicle's clock shows it at once. A window's score
//! is the longest silence of any periodic id, as a multiple of the longest gap that the id usually has. 1 is usual,
//! 20 means "an id is overdue by twenty of its longest gaps". Causal: a message is judged by what lies before it.
//!
//! Which ids are periodic, and their longest gaps, is known of the vehicles of training ([`Vehicle`]); the ids heard
//! in a capture's first messages tell whether it is one of them. Any other vehicle is taken as its own first
//! messages show it, which are presumed benign then.
//!
//! Pauses of the whole bus and steps back in time say nothing about single ids: the clocks start anew there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::frames::Frames;
use crate::layout::CaptureFile;
use crate::read::{ReadOptions, ReadReport, read_capture};
use crate::window::WindowConfig;

/// Fewer messages of an id at first tell nothing about its period.
const MESSAGES_MIN: u32 = 8;
/// An id must be there for this part of the warm-up: one that came with an attack and went is not the car's.
const PRESENT: f64 = 0.75;
/// An id whose longest gap is longer than this many mean gaps is sent on events, not by a clock.
const REGULAR: f64 = 2.0;
/// Nothing on the bus for so long is a pause of the bus or of the recording.
const PAUSE_S: f64 = 0.1;
/// A capture is of a known vehicle if this part of the ids it has at first are that vehicle's.
const SAME_VEHICLE: f64 = 0.9;
/// Scores are cut here.
const SCORE_MAX: f64 = 1e6;

/// How the periods of a capture are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SilenceConfig {
    /// First messages of a capture; windows within them score 0.
    pub warm_up_messages: u32,
}

impl Default for SilenceConfig {
    /// Two to three seconds of a usual bus.
    fn default() -> Self {
        Self { warm_up_messages: 4_000 }
    }
}

/// Silence of each window of a capture, in the order of its graphs.
#[derive(Debug, Clone, PartialEq)]
pub struct Silence {
    pub scores: Vec<f32>,
    /// 1 if any message of the window was injected.
    pub labels: Vec<u8>,
    pub report: ReadReport,
    /// Periodic ids that were watched.
    pub watched: usize,
}

/// What a benign capture tells of its vehicle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Vehicle {
    pub ids: BTreeSet<u32>,
    /// Longest gap of each periodic id, seconds.
    pub longest_gap_s: BTreeMap<u32, f64>,
}

/// Learns a vehicle from a whole benign capture.
///
/// # Errors
/// Whatever is wrong with the capture.
pub fn learn_vehicle(file: &CaptureFile, read: &ReadOptions) -> Result<(Vehicle, ReadReport)> {
    let mut watch = Watch::new(u32::MAX, &[]);
    let report = read_capture(file, read, &mut |frames: &Frames| {
        frames.timestamp_s.iter().zip(&frames.id).for_each(|(&time_s, &id)| {
            watch.next(time_s, id);
        });
        Ok(())
    })?;
    let clocks = own_clocks(&watch.seen, watch.learned_s);
    let ids = watch.seen.into_keys().collect();
    Ok((Vehicle { ids, longest_gap_s: clocks.iter().map(|c| (c.id, c.longest_s)).collect() }, report))
}

/// Scores a capture; `known` are the vehicles of training.
///
/// # Errors
/// Whatever is wrong with the capture or the windows.
pub fn score_silence(
    file: &CaptureFile,
    window: &WindowConfig,
    read: &ReadOptions,
    config: &SilenceConfig,
    known: &[Vehicle],
) -> Result<Silence> {
    window.validate()?;
    let mut watch = Watch::new(config.warm_up_messages, known);
    let (mut overdue, mut injected) = (Vec::new(), Vec::new());
    let mut row = 0;
    let report = read_capture(file, read, &mut |frames: &Frames| {
        for i in 0..frames.len() {
            let score = watch.next(frames.timestamp_s[i], frames.id[i]);
            if !window.loses(row) {
                overdue.push(score);
                injected.push(frames.label[i]);
            }
            row += 1;
        }
        Ok(())
    })?;
    // A capture shorter than a window still gives one, without its last message.
    let transitions = window.transitions(row) as usize;
    overdue.truncate(transitions);
    injected.truncate(transitions);
    let (mut scores, mut labels) = (Vec::new(), Vec::new());
    for start in (0..window.windows(row)).map(|w| (w * u64::from(window.stride)) as usize) {
        let end = overdue.len().min(start + window.window as usize);
        scores.push(overdue[start..end].iter().copied().fold(0.0, f32::max));
        labels.push(injected[start..end].iter().copied().max().unwrap_or(0));
    }
    Ok(Silence { scores, labels, report, watched: watch.clocks.len() })
}

/// An id in warm-up.
#[derive(Debug, Clone, Copy)]
struct Seen {
    first_s: f64,
    last_s: f64,
    messages: u32,
    longest_s: f64,
}

/// A periodic id.
#[derive(Debug, Clone, Copy)]
struct Clock {
    id: u32,
    last_s: f64,
    longest_s: f64,
}

#[derive(Debug)]
pub(crate) struct Watch<'a> {
    known: &'a [Vehicle],
    warm_up_left: u32,
    /// Seconds of the warm-up so far, pauses left out.
    learned_s: f64,
    seen: BTreeMap<u32, Seen>,
    clocks: Vec<Clock>,
    now_s: f64,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(warm_up: u32, known: &'a [Vehicle]) -> Self {
        let (seen, clocks) = (BTreeMap::new(), Vec::new());
        Self { known, warm_up_left: warm_up.max(1), learned_s: 0.0, seen, clocks, now_s: f64::NAN }
    }

    /// Takes a message; the longest silence of any id at its time.
    pub(crate) fn next(&mut self, time_s: f64, id: u32) -> f32 {
        let step = time_s - self.now_s;
        self.now_s = time_s;
        if !(0.0..=PAUSE_S).contains(&step) {
            self.start_anew(time_s);
        } else if self.warm_up_left > 0 {
            self.learned_s += step;
        }
        if self.warm_up_left > 0 {
            self.learn(time_s, id);
            self.warm_up_left -= 1;
            if self.warm_up_left == 0 {
                let known = known_clocks(&self.seen, self.known, time_s - self.learned_s);
                self.clocks = known.unwrap_or_else(|| own_clocks(&self.seen, self.learned_s));
            }
            return 0.0;
        }
        let mut longest: f64 = 0.0;
        for clock in &mut self.clocks {
            longest = longest.max((time_s - clock.last_s) / clock.longest_s);
            if clock.id == id {
                clock.last_s = time_s;
            }
        }
        longest.min(SCORE_MAX) as f32
    }

    fn learn(&mut self, time_s: f64, id: u32) {
        let fresh = Seen { first_s: time_s, last_s: time_s, messages: 0, longest_s: 0.0 };
        let seen = self.seen.entry(id).or_insert(fresh);
        seen.longest_s = seen.longest_s.max(time_s - seen.last_s);
        seen.last_s = time_s;
        seen.messages += 1;
    }

    fn start_anew(&mut self, time_s: f64) {
        self.clocks.iter_mut().for_each(|clock| clock.last_s = time_s);
        for seen in self.seen.values_mut() {
            // The gap over the pause is no gap of the id: its span is moved along.
            seen.first_s += time_s - seen.last_s;
            seen.last_s = time_s;
        }
    }
}

/// The clocks of the vehicle whose ids were heard, if it is known; an id that was not heard at all is silent since
/// `began_s`. An id that is periodic in one capture of the vehicle and not in another is not watched.
fn known_clocks(seen: &BTreeMap<u32, Seen>, known: &[Vehicle], began_s: f64) -> Option<Vec<Clock>> {
    let is_same = |vehicle: &&Vehicle| {
        let ours = seen.keys().filter(|id| vehicle.ids.contains(id)).count() as f64;
        ours >= SAME_VEHICLE * seen.len() as f64 && 2.0 * ours >= vehicle.ids.len() as f64
    };
    let same: Vec<&Vehicle> = known.iter().filter(is_same).collect();
    if same.is_empty() {
        return None;
    }
    let mut longest = BTreeMap::<u32, f64>::new();
    for (&id, &gap_s) in same.iter().flat_map(|vehicle| &vehicle.longest_gap_s) {
        let at = longest.entry(id).or_insert(gap_s);
        *at = at.max(gap_s);
    }
    longest.retain(|id, _| same.iter().all(|v| !v.ids.contains(id) || v.longest_gap_s.contains_key(id)));
    let clock =
        |(id, longest_s)| Clock { id, last_s: seen.get(&id).map_or(began_s, |s| s.last_s), longest_s };
    Some(longest.into_iter().map(clock).collect())
}

/// The ids that come by a clock, and did so over most of `learned_s`.
fn own_clocks(seen: &BTreeMap<u32, Seen>, learned_s: f64) -> Vec<Clock> {
    let periodic = |(&id, seen): (&u32, &Seen)| {
        if seen.messages < MESSAGES_MIN {
            return None;
        }
        let span_s = seen.last_s - seen.first_s;
        let mean_s = span_s / f64::from(seen.messages - 1);
        let regular = mean_s > 0.0 && seen.longest_s <= REGULAR * mean_s && span_s >= PRESENT * learned_s;
        regular.then_some(Clock { id, last_s: seen.last_s, longest_s: seen.longest_s })
    };
    seen.iter().filter_map(periodic).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::path::Path;

    use super::*;
    use crate::sample::{self, SampleConfig};
    use crate::window::ChunkRule;

    /// Six ids, each every 6 ms; the first stays away between `from` and `to`; `pause` of the whole bus at 4 s.
    fn capture(dir: &Path, from: f64, to: f64, pause: f64) -> CaptureFile {
        let mut text = "timestamp,arbitration_id,data_field,attack\n".to_owned();
        for i in 0..8_000 {
            let mut time = f64::from(i) * 1e-3;
            let id = i % 6;
            if id == 0 && (from..to).contains(&time) {
                continue;
            }
            if time > 4.0 {
                time += pause;
            }
            writeln!(text, "{time:.4},{:03X},00,{}", 0x100 + id, u8::from(i == 5_555)).unwrap();
        }
        let path = dir.join("car/test_05_suppress/suppress-1.csv");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let layout = crate::layout::find(dir, "car").unwrap();
        layout.tests["test_05_suppress"][0].clone()
    }

    fn score(file: &CaptureFile, window: &WindowConfig) -> Silence {
        score_silence(file, window, &ReadOptions::default(), &SilenceConfig::default(), &[]).unwrap()
    }

    #[test]
    fn a_message_that_stays_away_is_seen_while_it_does_and_not_before_or_after() {
        let dir = tempfile::tempdir().unwrap();
        let file = capture(dir.path(), 5.0, 6.0, 0.0);
        let silence = score(&file, &WindowConfig::default());
        assert_eq!((silence.watched, silence.scores.len()), (6, 78));
        for (w, &score) in silence.scores.iter().enumerate() {
            // Windows 50 to 58 lie in the suppressed second, which has five messages for six.
            match w {
                0..=39 => assert_eq!(score, 0.0, "warm-up"),
                52..=57 => assert!(score > 20.0, "{w}: {score}"),
                40..=49 | 60.. => assert!(score < 1.5, "{w}: {score}"),
                _ => {}
            }
        }
        assert_eq!(silence.labels.iter().filter(|&&label| label == 1).count(), 1);
    }

    #[test]
    fn an_id_of_a_known_vehicle_is_missed_even_if_it_was_never_heard() {
        let dir = tempfile::tempdir().unwrap();
        let read = ReadOptions::default();
        let (vehicle, _) = learn_vehicle(&capture(dir.path(), 9.0, 9.0, 0.0), &read).unwrap();
        assert_eq!((vehicle.ids.len(), vehicle.longest_gap_s.len()), (6, 6));
        let (window, config) = (WindowConfig::default(), SilenceConfig::default());
        let file = capture(dir.path(), 0.0, 9.0, 0.0);
        let known = score_silence(&file, &window, &read, &config, &[vehicle]).unwrap();
        assert!(known.scores.iter().skip(41).all(|&score| score > 100.0), "{:?}", known.scores);
        assert_eq!(score(&file, &window).watched, 5, "as a stranger it has five ids");
        let stranger =
            Vehicle { ids: (0..6).collect(), longest_gap_s: (0..6).map(|id| (id, 0.01)).collect() };
        let other = score_silence(&file, &window, &read, &config, &[stranger]).unwrap();
        assert_eq!(other, score(&file, &window));
    }

    #[test]
    fn a_pause_of_the_whole_bus_is_no_silence_of_an_id() {
        let dir = tempfile::tempdir().unwrap();
        let silence = score(&capture(dir.path(), 9.0, 9.0, 30.0), &WindowConfig::default());
        assert!(silence.scores.iter().all(|&score| score < 1.5), "{:?}", silence.scores);
    }

    #[test]
    fn windows_are_those_of_the_graphs() {
        let dir = tempfile::tempdir().unwrap();
        sample::write(&SampleConfig { seed: 2, minutes: 0.4 }, dir.path()).unwrap();
        let layout = crate::layout::find(dir.path(), sample::DATASET).unwrap();
        for (stride, chunk_rule) in [(100, ChunkRule::Whole), (250, ChunkRule::Original)] {
            let window = WindowConfig { stride, chunk_rule, ..WindowConfig::default() };
            for scan in crate::examine::scan(&layout, &window, &ReadOptions::default()).unwrap() {
                let files = layout.train.iter().chain(layout.tests.values().flatten());
                let mut files = files.filter(|f| (&f.folder, &f.name) == (&scan.folder, &scan.name));
                let silence = score(files.next().unwrap(), &window);
                let attacks = silence.labels.iter().filter(|&&label| label == 1).count();
                assert_eq!(
                    (silence.scores.len() as u64, attacks as u64),
                    (scan.windows, scan.attack_windows)
                );
            }
        }
    }
}
