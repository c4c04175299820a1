//! The four counts of a two-class decision and the figures that follow from them.

use serde::{Deserialize, Serialize};

use super::Scored;

/// Counts of windows by truth and decision; attack is the positive class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    pub true_positives: u64,
    pub false_positives: u64,
    pub true_negatives: u64,
    pub false_negatives: u64,
}

/// `part / whole`, or None where the whole is empty and the figure has no meaning.
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

impl Confusion {
    /// Counts with the decision `score > threshold`.
    pub fn at(scored: &Scored<'_>, threshold: f64) -> Self {
        let mut counts = Self::default();
        for (score, attack) in scored.pairs() {
            counts.add(attack, f64::from(score) > threshold);
        }
        counts
    }

    pub fn add(&mut self, attack: bool, flagged: bool) {
        match (attack, flagged) {
            (true, true) => self.true_positives += 1,
            (false, true) => self.false_positives += 1,
            (false, false) => self.true_negatives += 1,
            (true, false) => self.false_negatives += 1,
        }
    }

    pub fn total(&self) -> u64 {
        self.true_positives + self.false_positives + self.true_negatives + self.false_negatives
    }

    pub fn accuracy(&self) -> Option<f64> {
        ratio(self.true_positives + self.true_negatives, self.total())
    }

    /// None when nothing was flagged.
    pub fn precision(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_positives)
    }

    /// None when there is no attack to find.
    pub fn recall(&self) -> Option<f64> {
        ratio(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// False alarms among benign windows; None when there is no benign window.
    pub fn fpr(&self) -> Option<f64> {
        ratio(self.false_positives, self.false_positives + self.true_negatives)
    }

    /// 2·TP / (2·TP + FP + FN); None when there is no attack to find.
    pub fn f1(&self) -> Option<f64> {
        if self.true_positives + self.false_negatives == 0 {
            return None;
        }
        let twice_tp = 2 * self.true_positives;
        ratio(twice_tp, twice_tp + self.false_positives + self.false_negatives)
    }

    /// Matthews correlation; 0 when a row or a column of the table is empty (the usual convention).
    pub fn mcc(&self) -> f64 {
        let tp = self.true_positives as f64;
        let fp = self.false_positives as f64;
        let tn = self.true_negatives as f64;
        let fn_ = self.false_negatives as f64;
        let norm = ((tp + fp) * (tp + fn_) * (tn + fp) * (tn + fn_)).sqrt();
        if norm == 0.0 { 0.0 } else { (tp * tn - fp * fn_) / norm }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} != {b}");
    }

    #[test]
    fn figures_equal_a_table_worked_by_hand() {
        let c = Confusion { true_positives: 6, false_positives: 2, true_negatives: 10, false_negatives: 4 };
        close(c.accuracy().unwrap(), 16.0 / 22.0);
        close(c.precision().unwrap(), 0.75);
        close(c.recall().unwrap(), 0.6);
        close(c.f1().unwrap(), 2.0 * 0.75 * 0.6 / 1.35);
        close(c.fpr().unwrap(), 2.0 / 12.0);
        // (6*10 - 2*4) / sqrt(8 * 10 * 12 * 14)
        close(c.mcc(), 52.0 / 13_440f64.sqrt());
    }

    #[test]
    fn the_threshold_itself_is_not_an_alarm() {
        let scored = Scored::new(&[0.5, 0.5000001, 0.2, 0.9], &[0, 1, 1, 0]).unwrap();
        let c = Confusion::at(&scored, 0.5);
        assert_eq!(
            c,
            Confusion { true_positives: 1, false_positives: 1, true_negatives: 1, false_negatives: 1 }
        );
    }

    #[test]
    fn figures_without_meaning_are_none_not_zero() {
        let benign_only = Confusion { true_negatives: 3, ..Default::default() };
        assert_eq!(benign_only.f1(), None);
        assert_eq!(benign_only.recall(), None);
        assert_eq!(benign_only.precision(), None);
        assert_eq!(benign_only.fpr(), Some(0.0));
        assert_eq!(benign_only.mcc(), 0.0);
        assert_eq!(Confusion::default().accuracy(), None);
        let missed_all = Confusion { false_negatives: 2, true_negatives: 1, ..Default::default() };
        assert_eq!(missed_all.f1(), Some(0.0));
    }
}
