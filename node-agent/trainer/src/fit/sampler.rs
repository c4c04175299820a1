//! Which graphs an epoch visits, and in which order.

use common::config::semantic::Imbalance;
use rand::seq::SliceRandom;

use super::seed;

/// Order of one epoch over `pool` (indices into the training set), a function of seed and epoch alone.
///
/// With [`Imbalance::BalancedSampling`] as many graphs of the larger class as the smaller one has are drawn
/// anew each epoch; a pool of one class is taken whole, since there is nothing to balance.
#[must_use]
pub fn epoch_order(
    pool: &[u32],
    labels: &[u8],
    imbalance: Imbalance,
    seed: u64,
    model: &str,
    epoch: u32,
) -> Vec<u32> {
    let mut rng = seed::rng(seed, "order", &[seed::derive(0, model, &[]), u64::from(epoch)]);
    let mut order = match imbalance {
        Imbalance::None | Imbalance::WeightedLoss => pool.to_vec(),
        Imbalance::BalancedSampling => {
            let (mut benign, mut attacks): (Vec<u32>, Vec<u32>) =
                pool.iter().partition(|&&graph| labels[graph as usize] == 0);
            let each = match benign.len().min(attacks.len()) {
                0 => benign.len().max(attacks.len()),
                smaller => smaller,
            };
            benign.shuffle(&mut rng);
            attacks.shuffle(&mut rng);
            benign.truncate(each);
            attacks.truncate(each);
            benign.extend(attacks);
            benign
        }
    };
    order.shuffle(&mut rng);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(mut order: Vec<u32>) -> Vec<u32> {
        order.sort_unstable();
        order
    }

    #[test]
    fn every_graph_once_in_an_order_of_its_own_each_epoch() {
        let pool: Vec<u32> = (0..100).collect();
        let labels = [0; 100];
        let first = epoch_order(&pool, &labels, Imbalance::None, 1, "gat", 1);
        assert_eq!(first, epoch_order(&pool, &labels, Imbalance::None, 1, "gat", 1));
        assert_ne!(first, epoch_order(&pool, &labels, Imbalance::None, 1, "gat", 2));
        assert_ne!(first, epoch_order(&pool, &labels, Imbalance::None, 2, "gat", 1));
        assert_eq!(sorted(first), pool);
    }

    #[test]
    fn balanced_sampling_draws_anew_each_epoch() {
        let pool: Vec<u32> = (0..100).collect();
        let labels: Vec<u8> = (0..100).map(|i| u8::from(i % 10 == 0)).collect();
        let draw = |epoch| epoch_order(&pool, &labels, Imbalance::BalancedSampling, 1, "gat", epoch);
        let first = draw(1);
        assert_eq!(first.iter().filter(|&&g| labels[g as usize] == 1).count(), 10);
        assert_eq!(first.len(), 20);
        assert_ne!(sorted(first), sorted(draw(2)), "the benign half must change");
    }

    #[test]
    fn a_pool_of_one_class_is_taken_whole() {
        let order = epoch_order(&[3, 4, 5], &[0; 6], Imbalance::BalancedSampling, 1, "gat", 1);
        assert_eq!(sorted(order), [3, 4, 5]);
    }
}
