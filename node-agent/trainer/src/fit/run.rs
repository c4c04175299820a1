//! The loop: epochs of steps, validation, best weights, checkpoints.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::config::semantic::FitSemantic;
use common::trainer_protocol::EpochReport;
use dataset::GraphSet;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::early_stop::EarlyStop;
use super::loader::Loader;
use super::progress::{Finished, FitState, PhaseProgress, Running};
use super::sampler::Draw;
use super::schedule::learning_rate;
use super::step::{Stepper, Task};
use super::trainee::{copy_into, deep_copy};
use super::{Evaluator, FitError, Listener, Trainee, Validation, seed};
use crate::memory::Memory;
use crate::optim::{Adam, AdamConfig, WeightDecay};

/// Between two looks at the device's memory.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a fit needs beside the model and the data.
#[derive(Debug, Clone)]
pub struct FitOptions {
    pub semantic: FitSemantic,
    pub seed: u64,
    pub device: Device,
    /// Graphs on the device at once to begin with.
    pub micro_batch: u32,
    pub memory: Memory,
    /// Graphs per evaluation batch.
    pub eval_batch: usize,
    /// Epochs between two checkpoints; 0 = only on request.
    pub checkpoint_every_epochs: u32,
    /// Within an epoch, too, once so long has passed since the last one.
    pub checkpoint_every: Option<Duration>,
}

/// Graphs to train on and to validate with, as indices into their sets.
#[derive(Debug, Clone, Copy)]
pub struct TrainData<'a> {
    pub train: &'a GraphSet,
    pub train_pool: &'a [u32],
    pub val: &'a GraphSet,
    pub val_pool: &'a [u32],
}

/// What a finished fit says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitSummary {
    pub epochs_run: u32,
    /// The epoch whose weights were kept.
    pub best_epoch: u32,
    /// Its validation loss (training loss where there is no window to validate with).
    pub best_loss: f64,
    /// Graphs on the device at once in the end.
    pub micro_batch: u32,
    /// What the learning rate was multiplied with in the end: 1, or less after a loss that was no number.
    pub lr_factor: f64,
    /// Mean training loss and validation loss per epoch; without validation windows the former twice.
    pub history: Vec<(f64, f64)>,
}

/// Trains `trainee` and leaves the weights of its best epoch in it. Goes on where `progress` stands.
///
/// # Errors
/// [`FitError`]; a requested stop is one of them, after its checkpoint.
pub fn fit(
    trainee: &dyn Trainee,
    data: TrainData<'_>,
    options: &FitOptions,
    progress: &mut PhaseProgress,
    listener: &mut dyn Listener,
) -> Result<FitSummary, FitError> {
    if let Some(finished) = progress.finished(trainee.name()) {
        copy_into(&trainee.variables(), &finished.weights)?;
        return Ok(finished.summary.clone());
    }
    if data.train_pool.is_empty() {
        return Err(FitError::NothingToLearn { model: trainee.name(), why: "the training set is empty" });
    }
    let resumed = progress.take_running(trainee.name());
    let is_fresh = resumed.is_none();
    let mut fitting = Fitting::start(trainee, data, options, resumed)?;
    if is_fresh {
        fitting.measure(listener)?;
    }
    listener.micro_batch(fitting.stepper.micro_batch());
    while !fitting.over() {
        let good = fitting.fallback();
        match (fitting.epoch(progress, listener), good) {
            (Err(error @ FitError::Diverged { .. }), Some(good)) => {
                fitting.begin_again(good, &error)?;
                continue;
            }
            (outcome, _) => outcome?,
        }
        let every = options.checkpoint_every_epochs;
        if every > 0 && (fitting.state.epoch - 1).is_multiple_of(every) && !fitting.over() {
            fitting.save(progress, listener)?;
        }
    }
    let (summary, weights) = fitting.end()?;
    progress.finish(trainee.name(), Finished { summary: summary.clone(), weights });
    progress.save(None, listener)?;
    Ok(summary)
}

struct Fitting<'a> {
    trainee: &'a dyn Trainee,
    data: TrainData<'a>,
    options: &'a FitOptions,
    adam: Adam,
    stepper: Stepper,
    loader: Loader,
    /// Graphs at once in validation, as memory has shown to hold.
    eval_batch: usize,
    state: FitState,
    best: BTreeMap<String, Tensor>,
    /// Rate and remaining time: graphs of finished steps of this process and when it began.
    graphs_done: u64,
    began: Instant,
    last_validation: Option<Validation>,
    last_save: Instant,
    last_look: Instant,
}

impl<'a> Fitting<'a> {
    fn start(
        trainee: &'a dyn Trainee,
        data: TrainData<'a>,
        options: &'a FitOptions,
        resumed: Option<Running>,
    ) -> Result<Self, FitError> {
        let semantic = &options.semantic;
        let variables = trainee.variables();
        let config = AdamConfig::new(semantic.lr, WeightDecay::L2(semantic.weight_decay));
        let trainable = variables.iter().filter(|(_, tensor)| tensor.requires_grad());
        let mut adam = Adam::new(trainable.map(|(n, t)| (n.clone(), t.shallow_clone())), config)?;
        let mut state = FitState {
            epoch: 1,
            steps_done: 0,
            loss_sum: 0.0,
            early_stop: EarlyStop::new(semantic.patience),
            micro_batch: options.micro_batch,
            lr_factor: 1.0,
            history: Vec::new(),
        };
        let mut best = BTreeMap::new();
        if let Some(running) = resumed {
            copy_into(&variables, &running.now)?;
            adam.load_state(&running.optim)?;
            best = running.best;
            state = running.state;
        }
        let (batch_size, grad_clip) = (semantic.batch_size, semantic.grad_clip);
        let micro_batch = options.micro_batch.min(state.micro_batch);
        let memory = options.memory.clone();
        Ok(Self {
            trainee,
            data,
            options,
            adam,
            stepper: Stepper::new(batch_size, micro_batch, grad_clip, variables, memory),
            loader: Loader::new(options.device),
            eval_batch: options.eval_batch,
            state,
            best,
            graphs_done: 0,
            began: Instant::now(),
            last_validation: None,
            last_save: Instant::now(),
            last_look: Instant::now(),
        })
    }

    fn measure(&mut self, listener: &mut dyn Listener) -> Result<(), FitError> {
        seed::seed_torch(self.options.seed, self.trainee.name(), &[]);
        let (adam, loader) = (&mut self.adam, &mut self.loader);
        self.stepper.measure(self.trainee, adam, loader, (self.data.train, self.data.train_pool), listener)
    }

    fn save(&mut self, progress: &PhaseProgress, listener: &mut dyn Listener) -> Result<(), FitError> {
        self.last_save = Instant::now();
        progress.save(Some(self.running()), listener)
    }

    fn over(&self) -> bool {
        self.state.epoch > self.options.semantic.epochs.max(1) || self.state.early_stop.exhausted()
    }

    /// The rest of the current epoch, its validation, and the turn to the next.
    fn epoch(&mut self, progress: &PhaseProgress, listener: &mut dyn Listener) -> Result<(), FitError> {
        let (name, epoch) = (self.trainee.name(), self.state.epoch);
        let draw = Draw {
            pool: self.data.train_pool,
            labels: &self.data.train.label,
            imbalance: self.trainee.imbalance(),
            difficulty: self.trainee.difficulty(),
            seed: self.options.seed,
            model: name,
        };
        let order = draw.epoch_order(epoch);
        let batch_size = self.options.semantic.batch_size.max(1) as usize;
        let steps = order.len().div_ceil(batch_size) as u64;
        let stepped = self.state.steps_done;
        // One sum from the epoch's beginning, so that a resumed one is rounded as an uninterrupted one.
        let mut losses = Tensor::from(self.state.loss_sum).to_device(self.options.device);
        for (number, chosen) in (0u64..).zip(order.chunks(batch_size)).skip(stepped as usize) {
            let (seed, place) = (self.options.seed, [u64::from(epoch), number]);
            let reseed = || seed::seed_torch(seed, name, &place);
            let task = Task { set: self.data.train, chosen, reseed: &reseed };
            let rate = learning_rate(&self.options.semantic, epoch, number, steps);
            self.adam.set_lr(rate * self.state.lr_factor);
            let (adam, loader) = (&mut self.adam, &mut self.loader);
            losses += self.stepper.step(self.trainee, adam, loader, task, listener)?;
            self.graphs_done += chosen.len() as u64;
            let done = number + 1;
            let mean = || losses.double_value(&[]) / done as f64;
            if done < steps {
                listener.epoch(&mut || self.report(mean(), done, steps), false);
            }
            if self.last_look.elapsed() >= LOOK_EVERY {
                self.last_look = Instant::now();
                self.stepper.ease(listener);
            }
            let stop = listener.stop_requested();
            let due =
                done < steps && self.options.checkpoint_every.is_some_and(|t| self.last_save.elapsed() >= t);
            if stop.is_some() || due {
                self.state.steps_done = done;
                self.state.loss_sum = losses.double_value(&[]);
                self.refuse_divergence(done)?;
                if stop.as_ref().map_or(due, |stop| stop.checkpoint) {
                    self.save(progress, listener)?;
                }
            }
            if let Some(stop) = stop {
                return Err(FitError::Stopped { reason: stop.reason });
            }
        }
        self.state.steps_done = steps;
        self.state.loss_sum = losses.double_value(&[]);
        self.refuse_divergence(steps)?;
        let closed = self.close_epoch(steps, listener);
        if let Err(FitError::Stopped { .. }) = closed
            && listener.stop_requested().is_some_and(|stop| stop.checkpoint)
        {
            // All steps are done: what resumes here begins with the validation.
            self.save(progress, listener)?;
        }
        closed
    }

    fn close_epoch(&mut self, steps: u64, listener: &mut dyn Listener) -> Result<(), FitError> {
        let train_loss = self.state.loss_sum / steps as f64;
        let epoch = self.state.epoch;
        self.last_validation = self.validate(train_loss, steps, listener)?;
        // Without a validation window the training loss has to do, but it is not called otherwise.
        let watched = self.last_validation.as_ref().map_or(train_loss, |validation| validation.loss);
        let model = self.trainee.name();
        if !watched.is_finite() {
            return Err(FitError::Diverged { model, epoch, step: steps, loss: watched });
        }
        if self.state.early_stop.note(epoch, watched) {
            self.best = deep_copy(&self.trainee.variables());
        }
        let val_loss = self.last_validation.as_ref().map(|validation| validation.loss);
        tracing::info!(model, epoch, train_loss, val_loss, "epoch");
        self.state.history.push((train_loss, watched));
        self.state.micro_batch = self.stepper.micro_batch();
        listener.epoch(&mut || self.report(train_loss, steps, steps), true);
        self.state.epoch += 1;
        self.state.steps_done = 0;
        self.state.loss_sum = 0.0;
        Ok(())
    }

    fn validate(
        &mut self,
        train_loss: f64,
        steps: u64,
        listener: &mut dyn Listener,
    ) -> Result<Option<Validation>, FitError> {
        let (set, pool) = (self.data.val, self.data.val_pool);
        if pool.is_empty() {
            return Ok(None);
        }
        let news = self.report(train_loss, steps, steps);
        let mut evaluator = Evaluator::within_epoch(&mut self.loader, listener, self.eval_batch, news);
        let validation = self.trainee.validate(&mut evaluator, set, pool)?;
        self.eval_batch = evaluator.batch();
        Ok(Some(validation))
    }

    fn refuse_divergence(&self, step: u64) -> Result<(), FitError> {
        if self.state.loss_sum.is_finite() {
            return Ok(());
        }
        let (model, epoch, loss) = (self.trainee.name(), self.state.epoch, self.state.loss_sum);
        Err(FitError::Diverged { model, epoch, step, loss })
    }

    fn report(&self, loss: f64, steps_done: u64, steps: u64) -> EpochReport {
        let epochs = self.options.semantic.epochs.max(1);
        let seconds = self.began.elapsed().as_secs_f64().max(1e-6);
        let rate = self.graphs_done as f64 / seconds;
        let fraction = steps_done as f64 / steps as f64;
        let epochs_left = f64::from(epochs - self.state.epoch.min(epochs)) + 1.0 - fraction;
        let graphs_left = epochs_left * self.data.train_pool.len() as f64;
        let mut metrics = BTreeMap::new();
        if let Some(validation) = &self.last_validation {
            metrics.insert("val_loss".to_owned(), validation.loss);
            metrics.extend(validation.metrics.iter().map(|(name, value)| (name.clone(), *value)));
        }
        EpochReport {
            model: self.trainee.name().to_owned(),
            epoch: self.state.epoch,
            epochs,
            fraction,
            loss: Some(loss),
            metrics,
            graphs_per_s: rate,
            eta_ms: (rate > 0.0).then(|| (graphs_left / rate * 1e3) as u64),
        }
    }

    /// Everything a checkpoint needs; tensors are shared, so it must be written before the next step.
    fn running(&self) -> Running {
        Running {
            model: self.trainee.name().to_owned(),
            state: FitState { micro_batch: self.stepper.micro_batch(), ..self.state.clone() },
            now: self.trainee.variables(),
            best: self.best.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect(),
            optim: self.adam.state().into_iter().collect(),
        }
    }

    /// A copy of where the fit stands, if a divergence from here may be answered with a lower rate.
    fn fallback(&self) -> Option<Running> {
        let may = self.options.semantic.diverged_lr_factor > 0.0 && self.state.lr_factor == 1.0;
        may.then(|| {
            let running = self.running();
            Running { now: deep_copy(&running.now), optim: deep_copy(&running.optim), ..running }
        })
    }

    fn begin_again(&mut self, good: Running, error: &FitError) -> Result<(), FitError> {
        let lr_factor = self.options.semantic.diverged_lr_factor;
        tracing::warn!(%error, epoch = good.state.epoch, lr_factor, "once more with a lower learning rate");
        copy_into(&self.trainee.variables(), &good.now)?;
        self.adam.load_state(&good.optim)?;
        self.best = good.best;
        self.state = FitState { lr_factor, ..good.state };
        Ok(())
    }

    /// Puts the best weights into the model.
    fn end(self) -> Result<(FitSummary, BTreeMap<String, Tensor>), FitError> {
        copy_into(&self.trainee.variables(), &self.best)?;
        let best = self.state.early_stop.best();
        let summary = FitSummary {
            epochs_run: self.state.history.len() as u32,
            best_epoch: best.map_or(0, |best| best.epoch),
            best_loss: best.map_or(f64::NAN, |best| best.value),
            micro_batch: self.stepper.micro_batch(),
            lr_factor: self.state.lr_factor,
            history: self.state.history,
        };
        Ok((summary, self.best))
    }
}

#[cfg(test)]
mod tests;
