//! The best epoch so far, and when waiting for a better one ends.

use serde::{Deserialize, Serialize};

/// Watches a value that should fall.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyStop {
    /// Epochs without a better value before stopping; 0 = never.
    patience: u32,
    best: Option<Best>,
    since_best: u32,
}

/// The best epoch and its value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub epoch: u32,
    pub value: f64,
}

impl EarlyStop {
    #[must_use]
    pub fn new(patience: u32) -> Self {
        Self { patience, best: None, since_best: 0 }
    }

    /// Notes the value of an epoch; true if it is the best so far (the first always is).
    pub fn note(&mut self, epoch: u32, value: f64) -> bool {
        let better = self.best.is_none_or(|best| value < best.value);
        if better {
            self.best = Some(Best { epoch, value });
            self.since_best = 0;
        } else {
            self.since_best += 1;
        }
        better
    }

    #[must_use]
    pub fn exhausted(&self) -> bool {
        self.patience > 0 && self.since_best >= self.patience
    }

    #[must_use]
    pub fn best(&self) -> Option<Best> {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_after_patience_epochs_without_a_better_one() {
        let mut stop = EarlyStop::new(2);
        assert!(stop.note(1, 1.0));
        assert!(!stop.note(2, 1.0), "equal is not better");
        assert!(stop.note(3, 0.5));
        assert!(!stop.note(4, 0.9));
        assert!(!stop.exhausted());
        assert!(!stop.note(5, f64::NAN));
        assert!(stop.exhausted());
        assert_eq!(stop.best(), Some(Best { epoch: 3, value: 0.5 }));
    }

    #[test]
    fn patience_zero_never_stops() {
        let mut stop = EarlyStop::new(0);
        for epoch in 1..100 {
            stop.note(epoch, 1.0);
        }
        assert!(!stop.exhausted());
    }
}
