//! Three reconstruction errors to one anomaly score.

use common::config::semantic::NodeEncoding;
use serde::{Deserialize, Serialize};

use super::score::Errors;

/// Weights of feature, neighbourhood and id error (the reference's).
const WEIGHTS: [f64; 3] = [0.4, 0.35, 0.25];
/// Errors that never move keep a finite scale.
const STD_MIN: f64 = 1e-6;

/// How far each error lies from its benign mean, in benign standard deviations: the three errors live on
/// scales that differ by orders of magnitude, so a plain weighted sum would be the id error alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnomalyScale {
    /// Of feature MSE, neighbourhood BCE and id CE over benign training windows.
    pub mean: [f64; 3],
    pub std: [f64; 3],
    /// Of the three standardised errors in the score.
    pub weights: [f64; 3],
}

impl AnomalyScale {
    /// Fitted on errors of benign windows; an empty set gives the identity.
    #[must_use]
    pub fn fit(errors: &Errors) -> Self {
        let columns = [&errors.feature_mse, &errors.neighbourhood_bce, &errors.id_ce];
        let mean = columns.map(|column| mean(column.iter().map(|&v| f64::from(v))));
        let mut std = [1.0; 3];
        for (place, (column, mean)) in std.iter_mut().zip(columns.iter().zip(mean)) {
            if !column.is_empty() {
                let variance = self::mean(column.iter().map(|&v| (f64::from(v) - mean).powi(2)));
                *place = variance.sqrt().max(STD_MIN);
            }
        }
        Self { mean, std, weights: WEIGHTS }
    }

    /// With the weights of graphs encoded so. Roles and who follows whom differ from vehicle to vehicle: where
    /// features are relative to a profile, only their own error means the same in a vehicle never seen.
    #[must_use]
    pub fn for_encoding(mut self, encoding: NodeEncoding) -> Self {
        self.weights = match encoding {
            NodeEncoding::Ids => WEIGHTS,
            NodeEncoding::Profile => [1.0, 0.0, 0.0],
        };
        self
    }

    /// Weighted sum of the standardised errors of each window; higher = more suspicious.
    #[must_use]
    pub fn scores(&self, errors: &Errors) -> Vec<f32> {
        let rows = errors.feature_mse.iter().zip(&errors.neighbourhood_bce).zip(&errors.id_ce);
        rows.map(|((&feature, &neighbourhood), &id)| {
            let row = [feature, neighbourhood, id];
            let sum: f64 =
                (0..3).map(|k| self.weights[k] * (f64::from(row[k]) - self.mean[k]) / self.std[k]).sum();
            sum as f32
        })
        .collect()
    }
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    match values.len() {
        0 => 0.0,
        n => values.sum::<f64>() / n as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_by_hand() {
        let benign = Errors {
            feature_mse: vec![1.0, 3.0],
            neighbourhood_bce: vec![0.0, 0.0],
            id_ce: vec![10.0, 30.0],
        };
        let scale = AnomalyScale::fit(&benign);
        assert_eq!((scale.mean, scale.std), ([2.0, 0.0, 20.0], [1.0, STD_MIN, 10.0]));
        let window = Errors { feature_mse: vec![4.0], neighbourhood_bce: vec![0.0], id_ce: vec![40.0] };
        let expected = 0.4 * 2.0 + 0.25 * 2.0;
        assert!((f64::from(scale.scores(&window)[0]) - expected).abs() < 1e-6);
        assert_eq!(scale.clone().for_encoding(NodeEncoding::Profile).scores(&window), [2.0]);
        assert_eq!(scale.clone().for_encoding(NodeEncoding::Ids), scale);
        assert_eq!(AnomalyScale::fit(&Errors::default()).std, [1.0; 3]);
    }
}
