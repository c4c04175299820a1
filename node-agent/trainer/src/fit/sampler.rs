//! Which graphs an epoch visits, and in which order.

use common::config::semantic::Imbalance;
use rand::seq::SliceRandom;
use rand_pcg::Pcg64Mcg;

use super::seed;

/// Benign graphs for each attack among hard negatives.
const NEGATIVES_PER_ATTACK: usize = 4;
/// The part of the benign graphs that counts as hard.
const HARD_PART: usize = 4;

/// What the orders of a fit's epochs are drawn from.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// Indices into the training set.
    pub pool: &'a [u32],
    /// Labels of the whole training set.
    pub labels: &'a [u8],
    pub imbalance: Imbalance,
    /// How hard each graph of the training set is; needed for hard negatives only, which are balanced draws
    /// without it.
    pub difficulty: Option<&'a [f32]>,
    pub seed: u64,
    /// Name of the model.
    pub model: &'a str,
}

impl Draw<'_> {
    /// Order of one epoch, a function of the seed and the epoch alone.
    ///
    /// Where classes are balanced the larger one is drawn from anew each epoch; a pool of one class is taken
    /// whole, since there is nothing to balance.
    #[must_use]
    pub fn epoch_order(&self, epoch: u32) -> Vec<u32> {
        let mut rng = seed::rng(self.seed, "order", &[seed::derive(0, self.model, &[]), u64::from(epoch)]);
        let (benign, attacks): (Vec<u32>, Vec<u32>) =
            self.pool.iter().partition(|&&graph| self.labels[graph as usize] == 0);
        let mut order = match (self.imbalance, self.difficulty) {
            (Imbalance::None | Imbalance::WeightedLoss, _) => self.pool.to_vec(),
            _ if benign.is_empty() || attacks.is_empty() => self.pool.to_vec(),
            (Imbalance::HardNegatives, Some(difficulty)) => {
                let wanted = NEGATIVES_PER_ATTACK * attacks.len();
                [hard_negatives(benign, difficulty, wanted, &mut rng), attacks].concat()
            }
            (Imbalance::BalancedSampling | Imbalance::HardNegatives, _) => {
                let each = benign.len().min(attacks.len());
                [some(benign, each, &mut rng), some(attacks, each, &mut rng)].concat()
            }
        };
        order.shuffle(&mut rng);
        order
    }
}

/// `count` of the graphs at random, or all.
fn some(mut graphs: Vec<u32>, count: usize, rng: &mut Pcg64Mcg) -> Vec<u32> {
    graphs.shuffle(rng);
    graphs.truncate(count);
    graphs
}

/// Half of `wanted` from the hardest part, the rest from the others.
fn hard_negatives(mut benign: Vec<u32>, difficulty: &[f32], wanted: usize, rng: &mut Pcg64Mcg) -> Vec<u32> {
    benign.sort_by(|&a, &b| difficulty[b as usize].total_cmp(&difficulty[a as usize]).then(a.cmp(&b)));
    let easy = benign.split_off(benign.len().div_ceil(HARD_PART));
    let hard = some(benign, wanted / 2, rng);
    let rest = wanted.saturating_sub(hard.len());
    [hard, some(easy, rest, rng)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw<'a>(pool: &'a [u32], labels: &'a [u8], imbalance: Imbalance) -> Draw<'a> {
        Draw { pool, labels, imbalance, difficulty: None, seed: 1, model: "gat" }
    }

    fn sorted(mut order: Vec<u32>) -> Vec<u32> {
        order.sort_unstable();
        order
    }

    #[test]
    fn every_graph_once_in_an_order_of_its_own_each_epoch() {
        let pool: Vec<u32> = (0..100).collect();
        let plain = draw(&pool, &[0; 100], Imbalance::None);
        let first = plain.epoch_order(1);
        assert_eq!(first, plain.epoch_order(1));
        assert_ne!(first, plain.epoch_order(2));
        assert_ne!(first, Draw { seed: 2, ..plain }.epoch_order(1));
        assert_eq!(sorted(first), pool);
    }

    #[test]
    fn balanced_sampling_draws_anew_each_epoch() {
        let pool: Vec<u32> = (0..100).collect();
        let labels: Vec<u8> = (0..100).map(|i| u8::from(i % 10 == 0)).collect();
        let balanced = draw(&pool, &labels, Imbalance::BalancedSampling);
        let first = balanced.epoch_order(1);
        assert_eq!(first.iter().filter(|&&g| labels[g as usize] == 1).count(), 10);
        assert_eq!(first.len(), 20);
        assert_ne!(sorted(first), sorted(balanced.epoch_order(2)), "the benign half must change");
    }

    #[test]
    fn a_pool_of_one_class_is_taken_whole() {
        for imbalance in [Imbalance::BalancedSampling, Imbalance::HardNegatives] {
            let one = Draw { difficulty: Some(&[0.5; 6]), ..draw(&[3, 4, 5], &[0; 6], imbalance) };
            assert_eq!(sorted(one.epoch_order(1)), [3, 4, 5]);
        }
    }

    #[test]
    fn half_of_the_negatives_are_hard_ones_and_all_are_drawn_anew() {
        let pool: Vec<u32> = (0..1_000).collect();
        let labels: Vec<u8> = (0..1_000).map(|i| u8::from(i >= 980)).collect();
        let difficulty: Vec<f32> = (0..1_000).map(|i| i as f32).collect();
        let hard = Draw { difficulty: Some(&difficulty), ..draw(&pool, &labels, Imbalance::HardNegatives) };
        let (first, second) = (hard.epoch_order(1), hard.epoch_order(2));
        assert_eq!(first.iter().filter(|&&g| g >= 980).count(), 20);
        // The hardest quarter of 980 benign graphs are 735 to 979.
        assert_eq!(first.iter().filter(|&&g| (735..980).contains(&g)).count(), 40);
        assert_eq!(first.iter().filter(|&&g| g < 735).count(), 40);
        assert_ne!(sorted(first), sorted(second));
        let without = Draw { difficulty: None, ..hard };
        assert_eq!(without.epoch_order(1).len(), 40, "balanced draws");
    }
}
