use std::cell::Cell;
use std::collections::BTreeMap;

use common::config::semantic::{GatSemantic, Imbalance, ModelSize};
use tch::Device;

use super::*;
use crate::batch::GraphBatch;
use crate::fit::listener::Silent;
use crate::fit::testing::{gat, set};
use crate::fit::{Evaluator, StopRequest, Validation, trainee};
use crate::nn::gat::Gat;
use crate::optim::{AdamConfig, WeightDecay};
use crate::phase::gat_fit::GatTrainee;

fn grads(gat: &Gat) -> BTreeMap<String, Vec<f32>> {
    let flat = |t: &Tensor| Vec::<f32>::try_from(t.grad().reshape([-1])).unwrap();
    trainee::named(&gat.store).iter().map(|(name, t)| (name.clone(), flat(t))).collect()
}

/// A classifier that "runs out of memory" above a number of graphs, as libtorch tells it.
struct Cramped<'a> {
    inner: GatTrainee<'a>,
    holds: i64,
    refused: Cell<u32>,
}

impl Trainee for Cramped<'_> {
    fn name(&self) -> &'static str {
        "gat"
    }
    fn variables(&self) -> BTreeMap<String, Tensor> {
        self.inner.variables()
    }
    fn imbalance(&self) -> Imbalance {
        Imbalance::None
    }
    fn class_weight(&self) -> Option<[f32; 2]> {
        self.inner.class_weight()
    }
    fn loss(&self, chosen: &[u32], batch: &GraphBatch, share: &Share) -> Tensor {
        if batch.n_graphs > self.holds {
            self.refused.set(self.refused.get() + 1);
            panic!("CUDA out of memory. Tried to allocate 1.00 GiB\nstack");
        }
        self.inner.loss(chosen, batch, share)
    }
    fn validate(&self, _: &mut Evaluator<'_>, _: &GraphSet, _: &[u32]) -> Result<Validation, FitError> {
        unreachable!("a step does not validate")
    }
}

#[derive(Default)]
struct Heard(Vec<(u32, u32, u32)>, Vec<(u32, bool)>);

impl Listener for Heard {
    fn stage(&mut self, _: common::trainer_protocol::Stage) {}
    fn epoch(&mut self, _: &mut dyn FnMut() -> common::trainer_protocol::EpochReport, _: bool) {}
    fn batch_adjusted(&mut self, from: u32, to: u32, accumulation: u32, _: &str) {
        self.0.push((from, to, accumulation));
    }
    fn out_of_memory(&mut self, micro_batch: u32, recovered: bool, _: &str) {
        self.1.push((micro_batch, recovered));
    }
    fn checkpoint(&mut self, _: &std::path::Path, _: &str, _: u32) {}
    fn stop_requested(&self) -> Option<StopRequest> {
        None
    }
}

fn task<'a>(set: &'a GraphSet, chosen: &'a [u32]) -> Task<'a> {
    Task { set, chosen, reseed: &|| {} }
}

fn adam(gat: &Gat) -> Adam {
    Adam::for_store(&gat.store, AdamConfig::new(0.0, WeightDecay::Decoupled(0.0))).unwrap()
}

#[test]
fn accumulated_micro_batches_give_the_gradient_of_the_whole_batch() {
    let (gat, set) = (gat(), set(13));
    let chosen: Vec<u32> = (0..13).collect();
    let trainee = GatTrainee::new(&gat, &GatSemantic::of_size(ModelSize::Small), &set.label, None);
    let mut adam = adam(&gat);
    let mut loader = Loader::new(Device::Cpu);
    let mut step = |micro: u32| {
        // Learning rate 0: the weights stay, the gradients of the step are there to be looked at.
        let mut stepper = Stepper::new(13, micro, 0.0, trainee.variables());
        let loss = stepper.step(&trainee, &mut adam, &mut loader, task(&set, &chosen), &mut Silent).unwrap();
        (loss.double_value(&[]), grads(&gat))
    };
    let (whole_loss, whole) = step(13);
    let size: f32 = whole.values().flatten().map(|g| g.abs()).sum();
    assert!(size > 1e-3, "gradients are there at all");
    for micro in [1, 4, 6] {
        let (loss, parts) = step(micro);
        assert!((loss - whole_loss).abs() < 1e-5, "{loss} against {whole_loss}");
        for (name, gradient) in &parts {
            for (a, b) in gradient.iter().zip(&whole[name]) {
                assert!((a - b).abs() < 1e-5, "{name} at micro-batch {micro}: {a} against {b}");
            }
        }
    }
}

#[test]
fn out_of_memory_halves_the_micro_batch_and_repeats_the_step() {
    let (gat, set) = (gat(), set(16));
    let chosen: Vec<u32> = (0..16).collect();
    let inner = GatTrainee::new(&gat, &GatSemantic::of_size(ModelSize::Small), &set.label, None);
    let cramped = Cramped { inner, holds: 4, refused: Cell::new(0) };
    let mut heard = Heard::default();
    let mut stepper = Stepper::new(16, 16, 1.0, cramped.variables());
    let mut loader = Loader::new(Device::Cpu);
    let mut adam = adam(&gat);
    let _ = stepper.step(&cramped, &mut adam, &mut loader, task(&set, &chosen), &mut heard).unwrap();
    assert_eq!(stepper.micro_batch(), 4);
    assert_eq!(heard.0, [(16, 8, 2), (8, 4, 4)]);
    assert_eq!(heard.1, [(16, true), (8, true)]);
    assert_eq!(cramped.refused.get(), 2);
    assert_eq!(adam.steps_done(), 1, "a repeated step counts once");
    let _ = stepper.step(&cramped, &mut adam, &mut loader, task(&set, &chosen), &mut heard).unwrap();
    assert_eq!(cramped.refused.get(), 2, "what was found is kept");
}

#[test]
fn a_single_graph_that_does_not_fit_ends_the_fit() {
    let (gat, set) = (gat(), set(2));
    let inner = GatTrainee::new(&gat, &GatSemantic::of_size(ModelSize::Small), &set.label, None);
    let cramped = Cramped { inner, holds: 0, refused: Cell::new(0) };
    let mut heard = Heard::default();
    let mut adam = adam(&gat);
    let refused = Stepper::new(2, 2, 1.0, cramped.variables()).step(
        &cramped,
        &mut adam,
        &mut Loader::new(Device::Cpu),
        task(&set, &[0, 1]),
        &mut heard,
    );
    assert!(matches!(refused, Err(FitError::OutOfMemory { micro_batch: 1, .. })));
    assert_eq!(heard.1, [(2, true), (1, false)]);
    assert_eq!(adam.steps_done(), 0);
}
