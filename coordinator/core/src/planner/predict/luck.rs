//! Possible futures: lengths that vary as the measured ones did. Numbered, not random: the same question
//! gives the same forecast.

use super::Quantiles;
use crate::placement::decide::LOOK_AHEAD_MAX;

/// Futures looked at.
pub const DRAWS: u64 = 100;
/// With so many jobs that nothing is played ahead a play is cheap, but there is more of it.
const DRAWS_OF_LARGE: u64 = 40;

pub fn draws(jobs: usize) -> u64 {
    if jobs > LOOK_AHEAD_MAX { DRAWS_OF_LARGE } else { DRAWS }
}

/// One future.
pub struct Luck<'a> {
    /// Measured lengths over their medians; not empty.
    spread: &'a [f64],
    draw: u64,
}

impl Luck<'_> {
    pub fn new(spread: &[f64], draw: u64) -> Luck<'_> {
        Luck { spread, draw }
    }

    /// The length of a job in this future: one of the measured ratios, picked by job and future.
    pub fn of(&self, job: usize, usual_ms: u64) -> u64 {
        let pick = mix(mix(self.draw) ^ job as u64) % self.spread.len().max(1) as u64;
        let ratio = self.spread.get(pick as usize).copied().unwrap_or(1.0);
        (usual_ms as f64 * ratio).round() as u64
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// `None` without futures.
pub fn quantiles(mut of: Vec<u64>, samples: usize) -> Option<Quantiles> {
    of.sort_unstable();
    let last = of.len().checked_sub(1)?;
    let at = |percent: usize| of[(last * percent).div_ceil(100)];
    Some(Quantiles { p50_ms: at(50), p90_ms: at(90), samples })
}
