//! The learning rate of a step.

use std::f64::consts::PI;

use common::config::semantic::{FitSemantic, LrSchedule};

/// Where a cosine ends, as a part of the full rate.
const COSINE_FLOOR: f64 = 0.01;

/// Rate of step `step` (from 0) of `steps` in epoch `epoch` (from 1): a function of the place alone, so a
/// resumed fit needs no state of a scheduler.
#[must_use]
pub fn learning_rate(fit: &FitSemantic, epoch: u32, step: u64, steps: u64) -> f64 {
    match fit.schedule {
        LrSchedule::Constant => fit.lr,
        LrSchedule::Cosine => {
            let epochs = f64::from(fit.epochs.max(1));
            let done = (f64::from(epoch.max(1) - 1) + step as f64 / steps.max(1) as f64) / epochs;
            let falling = 0.5 * (1.0 + (PI * done.clamp(0.0, 1.0)).cos());
            fit.lr * (COSINE_FLOOR + (1.0 - COSINE_FLOOR) * falling)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_falls_from_the_rate_to_a_hundredth_and_a_constant_stays() {
        let fit = |schedule| FitSemantic { lr: 0.2, epochs: 4, schedule, ..FitSemantic::default() };
        let cosine = fit(LrSchedule::Cosine);
        assert_eq!(learning_rate(&cosine, 1, 0, 10), 0.2);
        assert!((learning_rate(&cosine, 3, 0, 10) - 0.2 * 0.505).abs() < 1e-12, "half of the way");
        assert!((learning_rate(&cosine, 4, 10, 10) - 0.002).abs() < 1e-12);
        let places: Vec<f64> = (1..=4)
            .flat_map(|epoch| (0..5).map(move |step| (epoch, step)))
            .map(|(epoch, step)| learning_rate(&cosine, epoch, step, 5))
            .collect();
        assert!(places.windows(2).all(|pair| pair[1] < pair[0]), "{places:?}");
        assert_eq!(learning_rate(&fit(LrSchedule::Constant), 4, 3, 5), 0.2);
    }
}
