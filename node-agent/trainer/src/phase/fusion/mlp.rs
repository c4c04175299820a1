//! A small perceptron on the fusion states: the strongest of the plain combiners where detectors disagree in
//! more than one way.

use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::FusionError;
use super::scaling::States;
use crate::fit::seed::seed_torch;
use crate::nn::init::Linear;
use crate::nn::qnet::STATE_WIDTH;
use crate::objective::reward::ClassWeights;
use crate::optim::{Adam, AdamConfig, WeightDecay};

/// Hidden widths, as the reference's.
const WIDTHS: [i64; 2] = [64, 32];
/// Passes over the training states.
const EPOCHS: u32 = 20;
const BATCH: i64 = 512;
const LR: f64 = 3e-3;
const L2: f64 = 1e-4;

/// 15 → 64 → 32 → 1 with ReLU; the output is the logit of an attack.
#[derive(Debug)]
pub struct Mlp {
    pub store: VarStore,
    layers: Vec<Linear>,
}

impl Mlp {
    /// Fits class-balanced log loss on training states, the same for the same seed. Untrained, a constant,
    /// where there are no labels or a single class.
    ///
    /// # Errors
    /// `Diverged` when the loss is no number, else what libtorch reports.
    pub fn fit(train: &States, seed: u64) -> Result<Self, FusionError> {
        let device = train.x.device();
        seed_torch(seed, "mlp", &[]);
        let store = VarStore::new(device);
        let mut inputs = STATE_WIDTH;
        let mut layers = Vec::new();
        for (place, width) in (0u32..).zip(WIDTHS.into_iter().chain([1])) {
            // Linear and ReLU are entries of one sequence.
            layers.push(Linear::new(&(&store.root() / "net" / (2 * place)), inputs, width));
            inputs = width;
        }
        let mlp = Self { store, layers };
        let share = train.attack_share();
        if share <= 0.0 || share >= 1.0 {
            mlp.silence();
            return Ok(mlp);
        }
        mlp.train(train, &ClassWeights::balanced(share))?;
        Ok(mlp)
    }

    fn train(&self, train: &States, balance: &ClassWeights) -> Result<(), FusionError> {
        let labels = train.label_tensor();
        let mut adam = Adam::for_store(&self.store, AdamConfig::new(LR, WeightDecay::L2(L2)))?;
        let mut last = Tensor::from(0.0);
        for _ in 0..EPOCHS {
            let order = Tensor::f_randperm(train.len(), (Kind::Int64, train.x.device()))?;
            for rows in order.f_split(BATCH, 0)? {
                let (x, y) = (train.x.f_index_select(0, &rows)?, labels.f_index_select(0, &rows)?);
                // -log sigmoid(±logit) = softplus(∓logit)
                let away: Tensor = 1.0 - &y * 2.0;
                let loss = balance.mean(&(away * self.logits(&x)).f_softplus()?, &y);
                adam.zero_grad();
                loss.f_backward()?;
                adam.step()?;
                last = loss.detach();
            }
        }
        let loss = last.f_double_value(&[])?;
        if loss.is_finite() { Ok(()) } else { Err(FusionError::Diverged { episode: EPOCHS, loss }) }
    }

    /// Makes the output 0 whatever the state.
    fn silence(&self) {
        if let Some(last) = self.layers.last() {
            tch::no_grad(|| {
                let _ = last.weight.shallow_clone().zero_();
                let _ = last.bias.shallow_clone().zero_();
            });
        }
    }

    fn logits(&self, x: &Tensor) -> Tensor {
        let (last, hidden) = self.layers.split_last().expect("a perceptron always has its last layer");
        let x = hidden.iter().fold(x.shallow_clone(), |x, layer| layer.forward(&x).relu());
        last.forward(&x).squeeze_dim(1)
    }

    /// Logit of the attack probability, f32 `[n]`.
    pub fn scores(&self, states: &States) -> Tensor {
        tch::no_grad(|| self.logits(&states.x))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scaling::Scaling;
    use super::super::states::testing::synthetic;
    use super::*;
    use crate::metrics::{ByTruth, auc};
    use crate::phase::score::host;
    use tch::Device;

    fn states(share: f64, seed: i64) -> States {
        let train = synthetic(1_500, share, 8);
        Scaling::fit(&train).unwrap().apply(&synthetic(1_500, share, seed), Device::Cpu)
    }

    #[test]
    fn it_ranks_states_it_has_not_seen() {
        let mlp = Mlp::fit(&states(0.1, 8), 1).unwrap();
        let unseen = states(0.1, 9);
        let scores = host(&mlp.scores(&unseen)).unwrap();
        let auc = auc(&ByTruth::of(&scores, &unseen.truth).unwrap().scored().unwrap()).unwrap();
        assert!(auc > 0.95, "{auc}");
    }

    #[test]
    fn one_class_gives_a_constant() {
        let benign = states(0.0, 8);
        let scores = host(&Mlp::fit(&benign, 1).unwrap().scores(&benign)).unwrap();
        assert!(scores.iter().all(|&score| score == 0.0));
    }
}
