//! The classifier in training, alone or with a teacher.

use std::collections::BTreeMap;

use common::config::semantic::{GatSemantic, Imbalance, KdSemantic};
use dataset::GraphSet;
use tch::{Kind, Tensor};

use super::score::{gat_logits, host, margins};
use crate::batch::GraphBatch;
use crate::fit::{Evaluator, FitError, Share, Trainee, Validation, trainee};
use crate::metrics::{Confusion, Scored, auc};
use crate::nn::gat::Gat;
use crate::objective::classification::{cross_entropy, inverse_share};
use crate::objective::kd::{mix, soft_label_loss};

/// What a GAT student imitates.
#[derive(Debug)]
pub struct GatTeaching<'a> {
    pub kd: &'a KdSemantic,
    /// The teacher's logits of every training graph, f32 `[n, 2]` on the device. Its evaluation never
    /// changes, so it is done once.
    pub logits: Tensor,
}

/// A [`Gat`] with its loss.
#[derive(Debug)]
pub struct GatTrainee<'a> {
    gat: &'a Gat,
    imbalance: Imbalance,
    weight: Option<([f32; 2], Tensor)>,
    /// Weights of the classes in the loss that is watched: what training gives them, by weight or by draws.
    watched_weight: Tensor,
    teaching: Option<GatTeaching<'a>>,
    difficulty: Option<Vec<f32>>,
}

/// Weights of the loss where every attack comes with four benign windows.
const HARD_NEGATIVES_WEIGHT: [f32; 2] = [0.625, 2.5];

impl<'a> GatTrainee<'a> {
    /// `labels` are those of the training pool.
    #[must_use]
    pub fn new(
        gat: &'a Gat,
        semantic: &GatSemantic,
        labels: &[u8],
        teaching: Option<GatTeaching<'a>>,
    ) -> Self {
        let by_share = inverse_share(labels);
        let weight = match semantic.imbalance {
            Imbalance::None | Imbalance::BalancedSampling => None,
            Imbalance::WeightedLoss => Some(by_share),
            Imbalance::HardNegatives if by_share == [1.0; 2] => None,
            Imbalance::HardNegatives => Some(HARD_NEGATIVES_WEIGHT),
        };
        let weight = weight.map(|weight| (weight, Tensor::from_slice(&weight).to_device(gat.store.device())));
        let watched_weight = match semantic.imbalance {
            Imbalance::None => [1.0; 2],
            Imbalance::WeightedLoss | Imbalance::BalancedSampling | Imbalance::HardNegatives => by_share,
        };
        let watched_weight = Tensor::from_slice(&watched_weight).to_device(gat.store.device());
        let imbalance = semantic.imbalance;
        Self { gat, imbalance, weight, watched_weight, teaching, difficulty: None }
    }

    /// With a difficulty of each graph of the training set, for hard negatives.
    #[must_use]
    pub fn with_difficulty(mut self, difficulty: Option<Vec<f32>>) -> Self {
        self.difficulty = difficulty;
        self
    }
}

impl Trainee for GatTrainee<'_> {
    fn name(&self) -> &'static str {
        "gat"
    }

    fn variables(&self) -> BTreeMap<String, Tensor> {
        trainee::named(&self.gat.store)
    }

    fn imbalance(&self) -> Imbalance {
        self.imbalance
    }

    fn difficulty(&self) -> Option<&[f32]> {
        self.difficulty.as_deref()
    }

    fn class_weight(&self) -> Option<[f32; 2]> {
        self.weight.as_ref().map(|(weight, _)| *weight)
    }

    fn loss(&self, chosen: &[u32], batch: &GraphBatch, share: &Share) -> Tensor {
        let logits = self.gat.forward(batch, true);
        let weight = self.weight.as_ref().map(|(_, tensor)| tensor);
        let hard = cross_entropy(&logits, &batch.labels, weight) * share.class_mass;
        let Some(teaching) = &self.teaching else { return hard };
        let rows: Vec<i64> = chosen.iter().map(|&graph| i64::from(graph)).collect();
        let rows = Tensor::from_slice(&rows).to_device(logits.device());
        let soft = soft_label_loss(&logits, &teaching.logits.index_select(0, &rows), teaching.kd.temperature);
        mix(teaching.kd.gat_alpha, &(soft * share.graphs), &hard)
    }

    /// Watches the loss that is minimised, with the weights of the training set: an unweighted one would
    /// prefer epochs that miss rare attacks. Not F1 or AUC, which reach 1 within a few epochs on small
    /// validation sets and then cannot tell epochs apart.
    fn validate(
        &self,
        evaluator: &mut Evaluator<'_>,
        set: &GraphSet,
        pool: &[u32],
    ) -> Result<Validation, FitError> {
        let logits = gat_logits(self.gat, evaluator, set, pool)?;
        let labels: Vec<u8> = pool.iter().map(|&graph| set.label[graph as usize]).collect();
        let wide: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
        let targets = Tensor::from_slice(&wide).to_device(logits.device());
        let weight = self.watched_weight.to_kind(Kind::Double);
        let loss = cross_entropy(&logits.to_kind(Kind::Double), &targets, Some(&weight));
        let loss = loss.f_double_value(&[])?;
        let mut metrics = BTreeMap::new();
        if loss.is_finite() {
            let scores = host(&margins(&logits))?;
            let scored = Scored::new(&scores, &labels)?;
            metrics.extend(auc(&scored).map(|auc| ("val_auc".to_owned(), auc)));
            // A margin above 0 is a probability above one half.
            metrics.extend(Confusion::at(&scored, 0.0).f1().map(|f1| ("val_f1".to_owned(), f1)));
        }
        Ok(Validation { loss, metrics })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::listener::Silent;
    use crate::fit::loader::Loader;
    use crate::fit::testing::{gat, set};
    use common::config::semantic::ModelSize;
    use tch::Device;

    /// On a set of which every third graph is an attack, with labels of a training set where every tenth is.
    fn watched(imbalance: Imbalance) -> f64 {
        let (gat, set) = (gat(), set(30));
        // The same logits for every graph: benign 0, attack 1.
        tch::no_grad(|| {
            for (name, mut tensor) in trainee::named(&gat.store) {
                if name.starts_with("fc_layers.3") {
                    let _ = tensor.zero_();
                }
                if name == "fc_layers.3.bias" {
                    let _ = tensor.get(1).fill_(1.0);
                }
            }
        });
        let labels: Vec<u8> = (0..100).map(|i| u8::from(i % 10 == 0)).collect();
        let semantic = GatSemantic { imbalance, ..GatSemantic::of_size(ModelSize::Small) };
        let trainee = GatTrainee::new(&gat, &semantic, &labels, None);
        let pool: Vec<u32> = (0..30).collect();
        let (mut loader, mut silent) = (Loader::new(Device::Cpu), Silent);
        let mut evaluator = Evaluator::of_passes(&mut loader, &mut silent, 7, "gat", 1);
        trainee.validate(&mut evaluator, &set, &pool).unwrap().loss
    }

    #[test]
    fn validation_watches_the_loss_that_training_minimises() {
        let (attack, benign) = ((1.0 + (-1.0_f64).exp()).ln(), (1.0 + 1.0_f64.exp()).ln());
        assert!((watched(Imbalance::None) - (10.0 * attack + 20.0 * benign) / 30.0).abs() < 1e-6);
        // Weights 5 and 5/9.
        let weighted = (10.0 * 5.0 * attack + 20.0 / 1.8 * benign) / (50.0 + 20.0 / 1.8);
        for imbalance in [Imbalance::WeightedLoss, Imbalance::BalancedSampling, Imbalance::HardNegatives] {
            assert!((watched(imbalance) - weighted).abs() < 1e-6, "{imbalance:?}");
        }
    }
}
