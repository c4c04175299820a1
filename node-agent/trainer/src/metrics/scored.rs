//! Scores with their labels, checked once so that every metric after it can trust them.

use thiserror::Error;

/// Why scores cannot be judged.
#[derive(Debug, Error, PartialEq)]
pub enum MetricsError {
    #[error("{scores} scores but {labels} labels: they must be of the same windows")]
    LengthMismatch { scores: usize, labels: usize },
    #[error("score {index} is {value}: the model's output is not finite, so nothing can be ranked by it")]
    NotFinite { index: usize, value: f32 },
    #[error("label {index} is {value}: a window label is 0 (benign) or 1 (attack)")]
    BadLabel { index: usize, value: u8 },
    #[error("no scores: a threshold needs at least one validation window")]
    Empty,
    #[error("target false positive rate {0}: it must lie in [0, 1]")]
    BadTargetFpr(f64),
}

/// Truth of a window: 1 = attack, 0 = benign, `None` where its capture carries no labels.
pub type Truth = Option<u8>;

/// Scores of windows, those with a known truth apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ByTruth {
    /// Scores and labels of the windows that have one.
    pub scores: Vec<f32>,
    pub labels: Vec<u8>,
    /// Scores of the others.
    pub unlabelled: Vec<f32>,
}

impl ByTruth {
    /// # Errors
    /// `LengthMismatch`.
    pub fn of(scores: &[f32], truth: &[Truth]) -> Result<Self, MetricsError> {
        if scores.len() != truth.len() {
            return Err(MetricsError::LengthMismatch { scores: scores.len(), labels: truth.len() });
        }
        let mut parts = Self::default();
        for (&score, truth) in scores.iter().zip(truth) {
            match truth {
                Some(label) => {
                    parts.scores.push(score);
                    parts.labels.push(*label);
                }
                None => parts.unlabelled.push(score),
            }
        }
        Ok(parts)
    }

    /// The labelled windows.
    ///
    /// # Errors
    /// As [`Scored::new`].
    pub fn scored(&self) -> Result<Scored<'_>, MetricsError> {
        Scored::new(&self.scores, &self.labels)
    }
}

/// Scores of windows and their labels (1 = attack). Higher score = more suspicious.
#[derive(Debug, Clone, Copy)]
pub struct Scored<'a> {
    scores: &'a [f32],
    labels: &'a [u8],
}

impl<'a> Scored<'a> {
    /// # Errors
    /// `LengthMismatch`, `NotFinite`, `BadLabel`; an empty pair is accepted.
    pub fn new(scores: &'a [f32], labels: &'a [u8]) -> Result<Self, MetricsError> {
        if scores.len() != labels.len() {
            return Err(MetricsError::LengthMismatch { scores: scores.len(), labels: labels.len() });
        }
        check_finite(scores)?;
        if let Some(index) = labels.iter().position(|&l| l > 1) {
            return Err(MetricsError::BadLabel { index, value: labels[index] });
        }
        Ok(Self { scores, labels })
    }

    pub fn len(&self) -> usize {
        self.scores.len()
    }

    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// Number of attack windows.
    pub fn positives(&self) -> usize {
        self.labels.iter().filter(|&&l| l == 1).count()
    }

    /// (score, is attack) of each window, in the order given.
    pub fn pairs(&self) -> impl Iterator<Item = (f32, bool)> + 'a {
        self.scores.iter().copied().zip(self.labels.iter().map(|&l| l == 1))
    }

    /// Groups of equal scores from the highest down: (score, attacks, benign) of each group.
    pub(super) fn groups_descending(&self) -> Vec<(f32, u64, u64)> {
        let mut pairs: Vec<(f32, bool)> = self.pairs().collect();
        // total_cmp is a total order; scores are finite, so it is the numeric one but for -0 < +0,
        // which the grouping below undoes.
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut groups: Vec<(f32, u64, u64)> = Vec::new();
        for (score, attack) in pairs {
            match groups.last_mut() {
                Some(last) if last.0 == score => {
                    last.1 += u64::from(attack);
                    last.2 += u64::from(!attack);
                }
                _ => groups.push((score, u64::from(attack), u64::from(!attack))),
            }
        }
        groups
    }
}

pub(super) fn check_finite(scores: &[f32]) -> Result<(), MetricsError> {
    match scores.iter().position(|s| !s.is_finite()) {
        Some(index) => Err(MetricsError::NotFinite { index, value: scores[index] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_input_is_refused_by_name() {
        assert_eq!(
            Scored::new(&[0.1], &[]).unwrap_err(),
            MetricsError::LengthMismatch { scores: 1, labels: 0 }
        );
        assert!(matches!(
            Scored::new(&[0.1, f32::NAN], &[0, 1]).unwrap_err(),
            MetricsError::NotFinite { index: 1, .. }
        ));
        assert_eq!(Scored::new(&[0.1], &[2]).unwrap_err(), MetricsError::BadLabel { index: 0, value: 2 });
    }

    #[test]
    fn windows_without_a_label_are_put_aside_and_none_is_lost() {
        let parts = ByTruth::of(&[0.1, 0.2, 0.3], &[Some(1), None, Some(0)]).unwrap();
        let expected = ByTruth { scores: vec![0.1, 0.3], labels: vec![1, 0], unlabelled: vec![0.2] };
        assert_eq!(parts, expected);
        assert!(matches!(ByTruth::of(&[0.1], &[]), Err(MetricsError::LengthMismatch { .. })));
    }

    #[test]
    fn equal_scores_form_one_group_even_with_signed_zeros() {
        let scored = Scored::new(&[0.0, 1.0, -0.0, 1.0], &[0, 1, 1, 0]).unwrap();
        assert_eq!(scored.groups_descending(), vec![(1.0, 1, 1), (0.0, 1, 1)]);
    }
}
