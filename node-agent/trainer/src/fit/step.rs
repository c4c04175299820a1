//! One optimiser step: micro-batches, gradient accumulation, and what happens when memory runs out.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use dataset::GraphSet;
use tch::Tensor;

use super::error::panic_text;
use super::loader::Loader;
use super::trainee::{copy_into, deep_copy};
use super::{FitError, Listener, Share, Trainee};
use crate::memory::{Memory, Search, TARGET_SHARE, Tried};
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
    memory: Memory,
    /// What a forward pass changes on its own: running statistics of batch normalisation.
    buffers: BTreeMap<String, Tensor>,
}

impl Stepper {
    /// `micro_batch` graphs are on the device at once to begin with; `variables` are those of the model.
    #[must_use]
    pub fn new(
        batch_size: u32,
        micro_batch: u32,
        grad_clip: f64,
        variables: BTreeMap<String, Tensor>,
        memory: Memory,
    ) -> Self {
        let batch_size = batch_size.max(1);
        let buffers = variables.into_iter().filter(|(_, tensor)| !tensor.requires_grad()).collect();
        Self { micro_batch: micro_batch.clamp(1, batch_size), batch_size, grad_clip, memory, buffers }
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
                    adam.zero_grad();
                    copy_into(&self.buffers, &before)?;
                    self.memory.release();
                    self.shrink(&message, listener)?;
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Looks at the device, and goes on with half as many graphs at once where giving cached blocks back does not
    /// end the trouble.
    pub fn ease(&mut self, listener: &mut dyn Listener) {
        if self.memory.trouble().is_none() {
            return;
        }
        self.memory.release();
        if let Some(reason) = self.memory.trouble().filter(|_| self.micro_batch > 1) {
            self.halve(reason, listener);
        }
    }

    /// Measures how many graphs fit, beginning with the number it was made with: forward and backward of the largest
    /// of `pool`. Leaves no trace in the model. Does nothing where no memory is reserved.
    ///
    /// # Errors
    /// What libtorch reports, if it is not that memory ran out.
    pub fn measure(
        &mut self,
        trainee: &dyn Trainee,
        adam: &mut Adam,
        loader: &mut Loader,
        (set, pool): (&GraphSet, &[u32]),
        listener: &mut dyn Listener,
    ) -> Result<(), FitError> {
        let Some(budget) = self.memory.budget() else { return Ok(()) };
        let mut largest = pool.to_vec();
        largest.sort_by_key(|&graph| std::cmp::Reverse((set.node_range(graph as usize).len(), graph)));
        let (start, most) = (self.micro_batch, self.batch_size.min(largest.len() as u32));
        let mut search = Search::new(start, most, (budget as f64 * TARGET_SHARE) as u64);
        let untouched = deep_copy(&self.buffers);
        loop {
            self.memory.forget_peak();
            let before = self.memory.pressure().map_or(0, |now| now.allocated);
            let chosen = &largest[..search.at() as usize];
            let outcome = gradients(trainee, loader, set, chosen, chosen.len()).map(|_loss| ());
            let Some(peak) = self.memory.peak() else { return Ok(()) };
            let tried = match outcome {
                Ok(()) => Tried::Fits { before, peak },
                Err(FitError::OutOfMemory { .. }) => Tried::Refused,
                Err(other) => return Err(other),
            };
            adam.zero_grad();
            copy_into(&self.buffers, &untouched)?;
            tracing::debug!(graphs = search.at(), ?tried, "measured");
            if !search.note(tried) {
                break;
            }
            if tried == Tried::Refused {
                self.memory.release();
            }
        }
        self.memory.release();
        // A pool smaller than the effective batch was measured whole.
        let found = if search.found() == most { self.batch_size } else { search.found() };
        if found != start {
            self.micro_batch = found;
            tracing::info!(from = start, to = found, "as many graphs at once as memory was seen to hold");
            listener.batch_adjusted(start, found, self.batch_size.div_ceil(found), "measured");
        }
        Ok(())
    }

    fn shrink(&mut self, message: &str, listener: &mut dyn Listener) -> Result<(), FitError> {
        let from = self.micro_batch;
        let recovered = from > 1;
        listener.out_of_memory(from, recovered, message);
        if !recovered {
            return Err(FitError::OutOfMemory { micro_batch: from, message: message.to_owned() });
        }
        self.halve("out of memory", listener);
        Ok(())
    }

    fn halve(&mut self, reason: &str, listener: &mut dyn Listener) {
        let from = self.micro_batch;
        self.micro_batch = (from / 2).max(1);
        let accumulation = self.batch_size.div_ceil(self.micro_batch);
        tracing::warn!(from, to = self.micro_batch, accumulation, "{reason}: smaller micro-batch");
        listener.batch_adjusted(from, self.micro_batch, accumulation, reason);
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
