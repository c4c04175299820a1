//! A model over whole sets, without gradient: batches as large as memory allows, news on the way, and an ear
//! for a stop.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use common::trainer_protocol::EpochReport;
use dataset::GraphSet;
use tch::{Device, Kind, Tensor};

use super::error::panic_text;
use super::loader::Loader;
use super::{FitError, Listener};
use crate::batch::GraphBatch;

/// Evaluates models batch by batch.
pub struct Evaluator<'a> {
    loader: &'a mut Loader,
    listener: &'a mut dyn Listener,
    batch: u32,
    /// What a report says beside the part of the pass that is done.
    news: EpochReport,
    /// True where the passes are part of an epoch in training, whose own progress is told.
    within_epoch: bool,
}

impl<'a> Evaluator<'a> {
    /// Of `passes` passes over folders with the named model, `batch` graphs at once at most.
    pub fn of_passes(
        loader: &'a mut Loader,
        listener: &'a mut dyn Listener,
        batch: usize,
        model: &str,
        passes: usize,
    ) -> Self {
        let news = EpochReport {
            model: model.to_owned(),
            epoch: 0,
            epochs: passes.max(1) as u32,
            fraction: 0.0,
            loss: None,
            metrics: Default::default(),
            graphs_per_s: 0.0,
            eta_ms: None,
        };
        Self { loader, listener, batch: batch.max(1) as u32, news, within_epoch: false }
    }

    /// Within an epoch in training, which `news` speaks of.
    pub fn within_epoch(
        loader: &'a mut Loader,
        listener: &'a mut dyn Listener,
        batch: usize,
        news: EpochReport,
    ) -> Self {
        Self { loader, listener, batch: batch.max(1) as u32, news, within_epoch: true }
    }

    #[must_use]
    pub fn device(&self) -> Device {
        self.loader.device()
    }

    /// Graphs at once, as memory has shown to hold.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.batch as usize
    }

    /// Rows of a function of batches over the graphs `pool`, in order: `of` gives `[k, width]` for a batch,
    /// the result is `[Σ k, width]` of the same kind, on the device (f32 `[0, width]` of an empty pool). One pass.
    ///
    /// # Errors
    /// `Stopped` on request, `OutOfMemory` when a single graph does not fit, else what libtorch reports.
    pub fn rows(
        &mut self,
        set: &GraphSet,
        pool: &[u32],
        width: i64,
        of: impl Fn(&GraphBatch) -> Tensor,
    ) -> Result<Tensor, FitError> {
        if !self.within_epoch {
            self.news.epoch = (self.news.epoch + 1).min(self.news.epochs);
        }
        let began = Instant::now();
        let mut parts = Vec::with_capacity(pool.len().div_ceil(self.batch()));
        let mut done = 0;
        while done < pool.len() {
            let chosen = &pool[done..pool.len().min(done + self.batch())];
            let part = catch_unwind(AssertUnwindSafe(|| tch::no_grad(|| of(&self.loader.load(set, chosen)))));
            match part.map_err(|panic| FitError::from_torch_text(&panic_text(&*panic), self.batch)) {
                Ok(part) => parts.push(part),
                Err(FitError::OutOfMemory { message, .. }) => {
                    self.shrink(&message)?;
                    continue;
                }
                Err(other) => return Err(other),
            }
            done += chosen.len();
            self.tell(began, done, pool.len());
            if let Some(stop) = self.listener.stop_requested() {
                return Err(FitError::Stopped { reason: stop.reason });
            }
        }
        if parts.is_empty() {
            return Ok(Tensor::zeros([0, width], (Kind::Float, self.device())));
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    }

    fn shrink(&mut self, message: &str) -> Result<(), FitError> {
        let from = self.batch;
        self.listener.out_of_memory(from, from > 1, message);
        if from <= 1 {
            return Err(FitError::OutOfMemory { micro_batch: from, message: message.to_owned() });
        }
        self.batch = from / 2;
        tracing::warn!(from, to = self.batch, "out of memory, smaller evaluation batch");
        self.listener.batch_adjusted(from, self.batch, 1, "out of memory while evaluating");
        Ok(())
    }

    fn tell(&mut self, began: Instant, done: usize, all: usize) {
        let (within_epoch, news) = (self.within_epoch, &self.news);
        self.listener.epoch(
            &mut || {
                let mut report = news.clone();
                if !within_epoch {
                    report.fraction = done as f64 / all.max(1) as f64;
                    report.graphs_per_s = done as f64 / began.elapsed().as_secs_f64().max(1e-6);
                }
                report
            },
            false,
        );
    }
}

#[cfg(test)]
mod tests;
