//! What the epoch loop needs of a model.

use std::collections::BTreeMap;

use common::config::semantic::Imbalance;
use dataset::GraphSet;
use tch::Tensor;
use tch::nn::VarStore;

use super::{Evaluator, FitError};
use crate::batch::GraphBatch;

/// Parts of the current optimiser step that a micro-batch is, each in (0, 1]: a mean over the micro-batch
/// times its part, summed over the micro-batches, is the mean over the step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    pub graphs: f64,
    pub nodes: f64,
    /// Part of the sum of class weights; equal to `graphs` for an unweighted loss.
    pub class_mass: f64,
}

/// Outcome of a validation pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// What early stopping watches; lower is better.
    pub loss: f64,
    /// Further figures for the report, e.g. `val_auc`.
    pub metrics: BTreeMap<String, f64>,
}

/// A model in training with its loss.
pub trait Trainee {
    /// `vgae` or `gat`; names the random streams and the reports.
    fn name(&self) -> &'static str;
    /// Every tensor that makes up the state, running statistics included, by unique name.
    fn variables(&self) -> BTreeMap<String, Tensor>;
    /// How the sampler treats unequal classes.
    fn imbalance(&self) -> Imbalance;
    /// How hard each graph of the training set is, where the sampler asks for it.
    fn difficulty(&self) -> Option<&[f32]> {
        None
    }
    /// Weights of the classes in the loss, if any.
    fn class_weight(&self) -> Option<[f32; 2]>;
    /// Loss of a micro-batch (training mode), weighted by its share of the step; `chosen` are the graphs'
    /// indices in the training set. A scalar ready for `backward`.
    fn loss(&self, chosen: &[u32], batch: &GraphBatch, share: &Share) -> Tensor;
    /// Evaluation of the graphs `pool` of `set`, without gradient.
    ///
    /// # Errors
    /// Scores that are not numbers, or what libtorch reports.
    fn validate(
        &self,
        evaluator: &mut Evaluator<'_>,
        set: &GraphSet,
        pool: &[u32],
    ) -> Result<Validation, FitError>;
}

/// All tensors of a store by name, in order.
#[must_use]
pub fn named(store: &VarStore) -> BTreeMap<String, Tensor> {
    store.variables().into_iter().collect()
}

/// Deep copies, detached from autograd.
#[must_use]
pub fn deep_copy(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    tch::no_grad(|| tensors.iter().map(|(name, tensor)| (name.clone(), tensor.detach().copy())).collect())
}

/// Copies `from` into the tensors of `into`; every name must be there with its shape.
///
/// # Errors
/// Names the first tensor that is missing or of another shape; nothing is changed then.
pub fn copy_into(into: &BTreeMap<String, Tensor>, from: &BTreeMap<String, Tensor>) -> Result<(), FitError> {
    for (name, tensor) in into {
        match from.get(name) {
            None => return Err(FitError::Torch(format!("the saved weights lack {name}"))),
            Some(saved) if saved.size() != tensor.size() => {
                let (found, expected) = (saved.size(), tensor.size());
                return Err(FitError::Torch(format!(
                    "{name} is saved as {found:?}, the model has {expected:?}"
                )));
            }
            Some(_) => {}
        }
    }
    tch::no_grad(|| {
        for (name, tensor) in into {
            tensor.shallow_clone().copy_(&from[name]);
        }
    });
    Ok(())
}
