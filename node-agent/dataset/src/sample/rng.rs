//! Seeded numbers. Only sums and products of them are used, so that every machine makes the same captures.

use oorandom::Rand64;

pub(super) struct Rng(Rand64);

impl Rng {
    /// Stream number `stream` of a seed.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self(Rand64::new((u128::from(stream) << 64) | u128::from(seed)))
    }

    /// From `low` up to, but not including, `high`.
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.rand_float()
    }

    /// Bell-shaped around 0 within -1 to 1: the mean of four even draws.
    pub(super) fn bell(&mut self) -> f64 {
        (0..4).map(|_| self.between(-1.0, 1.0)).sum::<f64>() / 4.0
    }

    /// A whole number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0.rand_range(0..end)
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.0.rand_float() < probability
    }
}
