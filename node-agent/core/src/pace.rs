//! The measure of the hang watchdog: how fast a model's training goes on, compared with its own median.
//!
//! Time spent in training steps is cut into slots of a quarter of the patience, each of which gives one rate
//! (epochs a second). The last four slots are judged against the median of those before, so a machine that was
//! asleep, or one slow slot, ends nothing. What comes between the steps (validation, scoring, another model,
//! another stage) is not measured: it has limits of its own. A model that only tells whole epochs is measured
//! throughout.

use common::trainer_protocol::EpochReport;
use common::units::Millis;
use std::collections::VecDeque;

/// Slots that make a verdict.
const JUDGED: usize = 4;
/// Slots before them that make a median.
const BASE_MIN: usize = 4;
/// From this part of an epoch on the steps may be over and validation under way: the last reports are held back.
const STEPS_UNTIL: f64 = 0.99;
/// Older ones are forgotten.
const SLOTS_MAX: usize = 64;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pace {
    model: String,
    /// The model tells of parts of epochs, so that its steps can be told from its validation.
    partial: bool,
    /// Finished epochs, the part of the one in work included.
    position: f64,
    /// In steps, measured until then.
    until: Option<Millis>,
    /// Of the slot in work.
    slot_ms: u64,
    slot_epochs: f64,
    /// Epochs a second of whole slots, oldest first.
    rates: VecDeque<f64>,
}

impl Pace {
    /// Takes in what the trainer said at `now`.
    pub fn hear(&mut self, now: Millis, report: &EpochReport) {
        if report.model != self.model {
            *self = Pace { model: report.model.clone(), ..Pace::default() };
        }
        let position = f64::from(report.epoch.saturating_sub(1)) + report.fraction.clamp(0.0, 1.0);
        let gained = (position - self.position).max(0.0);
        self.position = position;
        let trains = report.loss.is_some();
        let in_steps = trains && report.fraction < STEPS_UNTIL;
        self.partial |= in_steps;
        if self.until.is_some() {
            self.pass(now);
            self.slot_epochs += gained;
        }
        self.until = (in_steps || trains && !self.partial).then_some(now);
    }

    /// Something else than training began.
    pub fn pause(&mut self) {
        self.until = None;
    }

    /// Lets time pass; closes the slot in work when it has lasted a quarter of `patience`.
    pub fn tick(&mut self, now: Millis, patience: Millis) {
        self.pass(now);
        if self.slot_ms == 0 || self.slot_ms < patience.0 / JUDGED as u64 {
            return;
        }
        self.rates.push_back(self.slot_epochs * 1_000.0 / self.slot_ms as f64);
        let beyond = self.rates.len().saturating_sub(SLOTS_MAX);
        self.rates.drain(..beyond);
        (self.slot_ms, self.slot_epochs) = (0, 0.0);
    }

    fn pass(&mut self, now: Millis) {
        if let Some(until) = &mut self.until {
            self.slot_ms += now.since(*until).0;
            *until = now;
        }
    }

    /// Percent of its own median that the last slots reached at best, when all of them stayed below `floor_percent`.
    pub fn stalled(&self, floor_percent: u32) -> Option<f64> {
        let before = self.rates.len().checked_sub(JUDGED).filter(|n| *n >= BASE_MIN)?;
        let mut base: Vec<f64> = self.rates.iter().take(before).copied().collect();
        base.sort_by(f64::total_cmp);
        let median = base[base.len() / 2];
        let best = self.rates.iter().skip(before).copied().fold(0.0, f64::max);
        (best < median * f64::from(floor_percent) / 100.0).then(|| 100.0 * best / median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const PATIENCE: Millis = Millis::from_secs(40);

    fn report(model: &str, position: f64) -> EpochReport {
        EpochReport {
            model: model.into(),
            epoch: position as u32 + 1,
            epochs: 100,
            fraction: position.fract(),
            loss: Some(1.0),
            metrics: BTreeMap::new(),
            graphs_per_s: 0.0,
            eta_ms: None,
        }
    }

    /// `rate` epochs a second for `secs`, told each second.
    fn go(pace: &mut Pace, at: &mut (u64, f64), secs: u64, rate: f64) {
        for _ in 0..secs {
            *at = (at.0 + 1, at.1 + rate);
            pace.hear(Millis::from_secs(at.0), &report("gat", at.1));
            pace.tick(Millis::from_secs(at.0), PATIENCE);
        }
    }

    #[test]
    fn a_training_far_below_its_own_median_for_the_whole_patience_is_stalled() {
        let (mut pace, mut at) = (Pace::default(), (0, 0.003));
        go(&mut pace, &mut at, 100, 0.03);
        assert_eq!(pace.stalled(20), None);
        go(&mut pace, &mut at, 35, 0.003);
        assert_eq!(pace.stalled(20), None, "not yet for the whole patience");
        go(&mut pace, &mut at, 16, 0.003);
        let percent = pace.stalled(20).unwrap();
        assert!((5.0..20.0).contains(&percent), "{percent}");
        assert_eq!(pace.stalled(5), None);
    }

    #[test]
    fn one_slow_slot_or_a_new_machine_is_no_stall() {
        let (mut pace, mut at) = (Pace::default(), (0, 0.003));
        go(&mut pace, &mut at, 100, 0.03);
        at.0 += 500; // asleep: one long slot
        go(&mut pace, &mut at, 30, 0.03);
        assert_eq!(pace.stalled(20), None);
        let (mut slow_from_the_start, mut at) = (Pace::default(), (0, 0.0001));
        go(&mut slow_from_the_start, &mut at, 300, 0.0001);
        assert_eq!(slow_from_the_start.stalled(20), None, "its own median is all it is judged by");
    }

    #[test]
    fn what_comes_between_the_steps_is_not_measured() {
        let (mut pace, mut at) = (Pace::default(), (0, 0.003));
        go(&mut pace, &mut at, 100, 0.03);
        let validating = EpochReport { fraction: 1.0, ..report("gat", at.1) };
        pace.hear(Millis::from_secs(at.0), &validating);
        for second in 0..1_000 {
            pace.tick(Millis::from_secs(at.0 + second), PATIENCE);
        }
        assert_eq!(pace.stalled(20), None);
        pace.hear(Millis::from_secs(1_100), &report("gat", at.1));
        pace.pause();
        for second in 1_100..2_000 {
            pace.tick(Millis::from_secs(second), PATIENCE);
        }
        assert_eq!(pace.stalled(20), None, "another stage");
        let mut other = pace.clone();
        other.hear(Millis::from_secs(2_000), &report("dqn", 0.1));
        assert!(other.rates.is_empty(), "another model has another median");
    }

    /// Epochs shorter than a slot, with a validation after each; and a model that tells whole epochs only.
    #[test]
    fn short_epochs_are_measured_as_well() {
        for parts in [&[0.3, 0.6, 1.0][..], &[1.0][..]] {
            let mut pace = Pace::default();
            for second in 0..100u64 {
                let epoch = second as u32 / 3 + 1;
                let fraction = parts.get(second as usize % 3).copied();
                if let Some(fraction) = fraction {
                    let told = EpochReport { epoch, fraction, ..report("gat", 0.0) };
                    pace.hear(Millis::from_secs(second), &told);
                }
                pace.tick(Millis::from_secs(second), PATIENCE);
            }
            assert_eq!(pace.stalled(20), None, "{parts:?}");
            let hung = EpochReport { epoch: 40, fraction: parts[0], ..report("gat", 0.0) };
            pace.hear(Millis::from_secs(100), &hung);
            for second in 101..160 {
                pace.tick(Millis::from_secs(second), PATIENCE);
            }
            assert_eq!(pace.stalled(20), Some(0.0), "{parts:?}: {pace:?}");
        }
    }
}
