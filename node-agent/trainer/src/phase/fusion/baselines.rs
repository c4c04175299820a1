//! Plain combiners on the same states: if the agent does not beat these, they should be used.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor, no_grad_guard};

use super::FusionError;
use super::scaling::States;
use crate::nn::qnet::STATE_WIDTH;
use crate::objective::reward::{ClassWeights, fused_logit, fused_score};
use crate::optim::{Adam, AdamConfig, WeightDecay};

/// Steps of the grid for the one weight: the agent's 21 actions have the same values.
const WEIGHT_STEPS: u32 = 20;
/// Full-batch Adam steps of the logistic regression; a convex problem of 16 numbers on standardised columns
/// has settled long before.
const LOGISTIC_STEPS: u32 = 300;
const LOGISTIC_LR: f64 = 0.05;
/// Keeps the weights finite where the classes are separable.
const LOGISTIC_L2: f64 = 1e-3;
/// Probabilities are kept this far from 0 and 1 in a log loss.
const LOG_MARGIN: f64 = 1e-6;

/// `w·g + (1-w)·a` with one weight for all windows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WeightedAverage {
    pub gat_weight: f64,
}

impl WeightedAverage {
    /// The weight of the least class-balanced log loss on training states; a half without labels.
    pub fn fit(train: &States) -> Result<Self, FusionError> {
        if !train.has_labels() {
            return Ok(Self { gat_weight: 0.5 });
        }
        let labels = train.label_tensor();
        let weights = ClassWeights::balanced(train.attack_share());
        let mut best = (f64::INFINITY, 0.5);
        for step in 0..=WEIGHT_STEPS {
            let candidate = Self { gat_weight: f64::from(step) / f64::from(WEIGHT_STEPS) };
            let p = candidate.fused(train).clamp(LOG_MARGIN, 1.0 - LOG_MARGIN);
            let benign: Tensor = 1.0 - &labels;
            let miss: Tensor = 1.0 - &p;
            let loss = -(&labels * p.log() + benign * miss.log());
            let loss = weights.mean(&loss, &labels).f_double_value(&[])?;
            if loss < best.0 {
                best = (loss, candidate.gat_weight);
            }
        }
        Ok(Self { gat_weight: best.1 })
    }

    fn weight(&self, states: &States) -> Tensor {
        Tensor::from(self.gat_weight as f32).to_device(states.x.device())
    }

    /// The average, f32 `[n]` in [0, 1].
    fn fused(&self, states: &States) -> Tensor {
        fused_score(&states.gat(), &states.anomaly(), &self.weight(states))
    }

    /// Its logit, f64 `[n]`.
    pub fn scores(&self, states: &States) -> Tensor {
        fused_logit(&states.gat_margin, &states.anomaly_margin, &self.weight(states))
    }
}

/// Logistic regression on the 15 standardised columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logistic {
    pub weights: Vec<f32>,
    pub bias: f32,
}

impl Logistic {
    /// Class-balanced log loss with a small L2 penalty, from zero: no randomness. All zero without labels or
    /// with a single class, where there is nothing to tell apart.
    pub fn fit(train: &States) -> Result<Self, FusionError> {
        let share = train.attack_share();
        let zero = Self { weights: vec![0.0; STATE_WIDTH as usize], bias: 0.0 };
        if share <= 0.0 || share >= 1.0 {
            return Ok(zero);
        }
        let device = train.x.device();
        let labels = train.label_tensor();
        let away: Tensor = 1.0 - &labels * 2.0;
        let balance = ClassWeights::balanced(share);
        let new = |size: i64| Tensor::zeros([size], (Kind::Float, device)).set_requires_grad(true);
        let (weights, bias) = (new(STATE_WIDTH), new(1));
        let named = [("weights".to_string(), weights.shallow_clone()), ("bias".into(), bias.shallow_clone())];
        let mut adam = Adam::new(named, AdamConfig::new(LOGISTIC_LR, WeightDecay::L2(LOGISTIC_L2)))?;
        for _ in 0..LOGISTIC_STEPS {
            let logits = train.x.f_matmul(&weights)?.f_add(&bias)?;
            // -log sigmoid(±logit) = softplus(∓logit)
            let loss = (&away * logits).f_softplus()?;
            adam.zero_grad();
            balance.mean(&loss, &labels).f_backward()?;
            adam.step()?;
        }
        let _guard = no_grad_guard();
        let list = |t: &Tensor| Vec::<f32>::try_from(&t.detach().to_device(Device::Cpu));
        Ok(Self { weights: list(&weights)?, bias: list(&bias)?.first().copied().unwrap_or(0.0) })
    }

    /// Logit of the attack probability, f32 `[n]`.
    pub fn scores(&self, states: &States) -> Tensor {
        let weights = Tensor::from_slice(&self.weights).to_device(states.x.device());
        states.x.matmul(&weights) + f64::from(self.bias)
    }
}

#[cfg(test)]
mod tests {
    use super::super::scaling::Scaling;
    use super::super::states::testing::synthetic;
    use super::*;
    use crate::metrics::{ByTruth, auc};

    fn states(share: f64) -> States {
        let raw = synthetic(1_500, share, 8);
        Scaling::fit(&raw).unwrap().apply(&raw, Device::Cpu)
    }

    fn auc_of(scores: &Tensor, states: &States) -> f64 {
        let scores = crate::phase::score::host(scores).unwrap();
        auc(&ByTruth::of(&scores, &states.truth).unwrap().scored().unwrap()).unwrap()
    }

    #[test]
    fn the_average_of_two_half_blind_detectors_beats_each() {
        let states = states(0.2);
        let fitted = WeightedAverage::fit(&states).unwrap();
        assert!(fitted.gat_weight > 0.0 && fitted.gat_weight < 1.0, "{fitted:?}");
        let both = auc_of(&fitted.scores(&states), &states);
        for alone in [0.0, 1.0] {
            let one = auc_of(&WeightedAverage { gat_weight: alone }.scores(&states), &states);
            assert!(both > one + 0.05, "{both} against {one}");
        }
    }

    #[test]
    fn a_useless_detector_gets_no_weight() {
        let mut states = states(0.3);
        states.anomaly_margin = Tensor::randn([states.len()], (Kind::Float, Device::Cpu));
        states.gat_margin = states.label_tensor() * 9.0 - 4.5;
        assert_eq!(WeightedAverage::fit(&states).unwrap().gat_weight, 1.0);
    }

    #[test]
    fn the_regression_separates_and_is_reproducible() {
        let states = states(0.05);
        let fitted = Logistic::fit(&states).unwrap();
        assert!(auc_of(&fitted.scores(&states), &states) > 0.95);
        assert_eq!(Logistic::fit(&states).unwrap(), fitted);
    }

    #[test]
    fn one_class_gives_a_constant() {
        let fitted = Logistic::fit(&states(0.0)).unwrap();
        assert_eq!((fitted.bias, fitted.weights), (0.0, vec![0.0; 15]));
    }
}
