//! One optimiser step: micro-batches, gradient accumulation, and what happens when memory runs out.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dataset::GraphSet;
use tch::Tensor;

use super::error::panic_text;
use super::loader::Loader;
use super::trainee::{copy_into, deep_copy};
use super::{FitError, Listener, Share, Trainee};
use crate::objective::classification::mass;
use crate::optim::Adam;

/// What a step is made over.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    pub set: &'a GraphSet,
    /// Graphs of the step, as indices into the set.
    pub chosen: &'a [u32],
    /// Puts the random stream to the step's beginning.
    pub reseed: &'a dyn Fn(),
}

/// Runs steps with as many graphs at once as the device has shown to hold.
#[derive(Debug)]
pub struct Stepper {
    micro_batch: u32,
    batch_size: u32,
    grad_clip: f64,
    /// What a forward pass changes on its own: running statistics of batch normalisation.
    buffers: BTreeMap<String, Tensor>,
}

impl Stepper {
    /// `micro_batch_max` is the most graphs on the device at once; `variables` are those of the model.
    #[must_use]
    pub fn new(
        batch_size: u32,
        micro_batch_max: u32,
        grad_clip: f64,
        variables: BTreeMap<String, Tensor>,
    ) -> Self {
        let batch_size = batch_size.max(1);
        let buffers = variables.into_iter().filter(|(_, tensor)| !tensor.requires_grad()).collect();
        Self { micro_batch: micro_batch_max.clamp(1, batch_size), batch_size, grad_clip, buffers }
    }

    /// Graphs on the device at once, as it stands.
    #[must_use]
    pub fn micro_batch(&self) -> u32 {
        self.micro_batch
    }

    /// One step; gives the loss (detached, on the device). On out-of-memory the micro-batch is
    /// halved and the whole step repeated as if it had never been tried: `reseed` puts the random stream to
    /// the step's beginning before each try, and running statistics are put back.
    ///
    /// # Errors
    /// `OutOfMemory` when a single graph does not fit, else what libtorch reports.
    pub fn step(
        &mut self,
        trainee: &dyn Trainee,
        adam: &mut Adam,
        loader: &mut Loader,
        task: Task<'_>,
        listener: &mut dyn Listener,
    ) -> Result<Tensor, FitError> {
        let before = deep_copy(&self.buffers);
        loop {
            adam.zero_grad();
            (task.reseed)();
            let micro_batch = self.micro_batch;
            match gradients(trainee, loader, task.set, task.chosen, micro_batch as usize) {
                Ok(loss) => {
                    adam.clip_grad_norm(self.grad_clip)?;
                    adam.step()?;
                    return Ok(loss);
                }
                Err(FitError::OutOfMemory { message, .. }) => {
                    copy_into(&self.buffers, &before)?;
                    self.shrink(&message, listener)?;
                }
                Err(other) => return Err(other),
            }
        }
    }

    fn shrink(&mut self, message: &str, listener: &mut dyn Listener) -> Result<(), FitError> {
        let from = self.micro_batch;
        let recovered = from > 1;
        listener.out_of_memory(from, recovered, message);
        if !recovered {
            return Err(FitError::OutOfMemory { micro_batch: from, message: message.to_owned() });
        }
        self.micro_batch = from / 2;
        let accumulation = self.batch_size.div_ceil(self.micro_batch);
        tracing::warn!(from, to = self.micro_batch, accumulation, "out of memory, smaller micro-batch");
        listener.batch_adjusted(from, self.micro_batch, accumulation, "out of memory");
        Ok(())
    }
}

/// Accumulates the gradients of `chosen`, `micro_batch` graphs at a time. tch's infallible operations panic
/// with libtorch's text, so this is where panics become errors.
fn gradients(
    trainee: &dyn Trainee,
    loader: &mut Loader,
    set: &GraphSet,
    chosen: &[u32],
    micro_batch: usize,
) -> Result<Tensor, FitError> {
    let weight = trainee.class_weight();
    let class_mass = |graphs: &[u32]| {
        let labels: Vec<i64> = graphs.iter().map(|&graph| i64::from(set.label[graph as usize])).collect();
        mass(&labels, weight)
    };
    let nodes =
        |graphs: &[u32]| -> f64 { graphs.iter().map(|&g| set.node_range(g as usize).len() as f64).sum() };
    let (all_mass, all_nodes) = (class_mass(chosen), nodes(chosen));
    let run = || {
        let mut total: Option<Tensor> = None;
        for part in chosen.chunks(micro_batch) {
            let share = Share {
                graphs: part.len() as f64 / chosen.len() as f64,
                nodes: nodes(part) / all_nodes,
                class_mass: class_mass(part) / all_mass,
            };
            let batch = loader.load(set, part);
            let loss = trainee.loss(part, &batch, &share);
            loss.f_backward()?;
            let loss = loss.detach();
            total = Some(match total {
                None => loss,
                Some(sum) => sum + loss,
            });
        }
        Ok(total)
    };
    // What a panic can leave half done is gradients only, and those are zeroed before they are used again.
    let outcome: Result<Option<Tensor>, tch::TchError> = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(outcome) => outcome,
        Err(panic) => return Err(FitError::from_torch_text(&panic_text(&*panic), micro_batch as u32)),
    };
    match outcome {
        Ok(Some(loss)) => Ok(loss),
        Ok(None) => Err(FitError::NothingToLearn { model: trainee.name(), why: "an empty step" }),
        Err(error) => Err(FitError::from_torch_text(&error.to_string(), micro_batch as u32)),
    }
}

#[cfg(test)]
mod tests;
