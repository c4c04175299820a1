//! Area under the ROC curve.

use super::Scored;

/// Probability that a random attack scores above a random benign window, a tie counting half
/// (Mann-Whitney U / (P·N)). None when one of the classes is missing.
pub fn auc(scored: &Scored<'_>) -> Option<f64> {
    let positives = scored.positives() as f64;
    let negatives = scored.len() as f64 - positives;
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let mut benign_above = 0.0;
    let mut wins = 0.0;
    for (_, attacks, benign) in scored.groups_descending() {
        let benign_below = negatives - benign_above - benign as f64;
        wins += attacks as f64 * (benign_below + 0.5 * benign as f64);
        benign_above += benign as f64;
    }
    Some(wins / (positives * negatives))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(scores: &[f32], labels: &[u8]) -> Option<f64> {
        auc(&Scored::new(scores, labels).unwrap())
    }

    #[test]
    fn ties_count_half() {
        assert_eq!(of(&[0.3, 0.3, 0.3, 0.3], &[0, 1, 0, 1]), Some(0.5));
        // pairs (attack, benign): (.8,.1) win, (.8,.4) win, (.4,.1) win, (.4,.4) half
        assert_eq!(of(&[0.1, 0.4, 0.4, 0.8], &[0, 0, 1, 1]), Some(3.5 / 4.0));
    }

    #[test]
    fn perfect_reversed_and_one_class() {
        assert_eq!(of(&[0.1, 0.2, 0.8], &[0, 0, 1]), Some(1.0));
        assert_eq!(of(&[0.9, 0.2], &[0, 1]), Some(0.0));
        assert_eq!(of(&[0.9, 0.2], &[1, 1]), None);
        assert_eq!(of(&[], &[]), None);
    }

    #[test]
    fn equals_the_count_over_all_pairs() {
        // A fixed mixed case: 40 scores on a grid of 7 values, so that ties abound.
        let scores: Vec<f32> = (0..40).map(|i| ((i * i + 3 * i) % 7) as f32 / 7.0).collect();
        let labels: Vec<u8> = (0..40).map(|i| u8::from((i * 5) % 3 == 0)).collect();
        let mut sum = 0.0;
        let mut pairs = 0.0;
        for (i, &a) in scores.iter().enumerate().filter(|(i, _)| labels[*i] == 1) {
            for (j, &b) in scores.iter().enumerate().filter(|(j, _)| labels[*j] == 0) {
                assert_ne!(i, j);
                pairs += 1.0;
                sum += if a > b {
                    1.0
                } else if a == b {
                    0.5
                } else {
                    0.0
                };
            }
        }
        assert!((of(&scores, &labels).unwrap() - sum / pairs).abs() < 1e-12);
    }
}
