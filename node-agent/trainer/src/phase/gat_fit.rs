//! The classifier in training, alone or with a teacher.

use std::collections::BTreeMap;

use common::config::semantic::{GatSemantic, Imbalance, KdSemantic};
use dataset::GraphSet;
use tch::Tensor;

use super::score::{gat_probabilities, host};
use crate::batch::GraphBatch;
use crate::fit::loader::Loader;
use crate::fit::{FitError, Share, Trainee, Validation, trainee};
use crate::metrics::{Confusion, Scored, auc};
use crate::nn::gat::Gat;
use crate::objective::classification::{cross_entropy, inverse_share, log_loss};
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
    teaching: Option<GatTeaching<'a>>,
}

impl<'a> GatTrainee<'a> {
    /// `labels` are those of the training pool.
    #[must_use]
    pub fn new(
        gat: &'a Gat,
        semantic: &GatSemantic,
        labels: &[u8],
        teaching: Option<GatTeaching<'a>>,
    ) -> Self {
        let weight = (semantic.imbalance == Imbalance::WeightedLoss).then(|| {
            let weight = inverse_share(labels);
            (weight, Tensor::from_slice(&weight).to_device(gat.store.device()))
        });
        Self { gat, imbalance: semantic.imbalance, weight, teaching }
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

    fn validate(
        &self,
        loader: &mut Loader,
        set: &GraphSet,
        pool: &[u32],
        batch_size: usize,
    ) -> Result<Validation, FitError> {
        let probabilities = gat_probabilities(self.gat, loader, set, pool, batch_size);
        let labels: Vec<u8> = pool.iter().map(|&graph| set.label[graph as usize]).collect();
        let wide: Vec<i64> = labels.iter().map(|&label| i64::from(label)).collect();
        let targets = Tensor::from_slice(&wide).to_device(probabilities.device());
        let loss = log_loss(&probabilities, &targets);
        let mut metrics = BTreeMap::new();
        if loss.is_finite() {
            let scores = host(&probabilities.select(1, 1))?;
            let scored = Scored::new(&scores, &labels)?;
            metrics.extend(auc(&scored).map(|auc| ("val_auc".to_owned(), auc)));
            metrics.extend(Confusion::at(&scored, 0.5).f1().map(|f1| ("val_f1".to_owned(), f1)));
        }
        Ok(Validation { loss, metrics })
    }
}
