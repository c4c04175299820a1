use std::cell::Cell;
use std::collections::BTreeMap;

use common::config::semantic::{GatSemantic, Imbalance, ModelSize};
use tch::Device;

use super::*;
use crate::batch::GraphBatch;
use crate::fit::listener::Silent;
use crate::fit::testing::{gat, set};
use crate::fit::{Evaluator, StopRequest, Validation, trainee};
use crate::memory::{DeviceMemory, Memory, Pressure};
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
        let mut stepper = Stepper::new(13, micro, 0.0, trainee.variables(), Memory::unwatched());
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
    let mut stepper = Stepper::new(16, 16, 1.0, cramped.variables(), Memory::unwatched());
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
    let refused = Stepper::new(2, 2, 1.0, cramped.variables(), Memory::unwatched()).step(
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

/// A card that is scripted: a graph takes ten bytes, and so much may be taken.
#[derive(Clone)]
struct Card(std::rc::Rc<CardState>);

struct CardState {
    budget: u64,
    peak: Cell<u64>,
    reserved: Cell<u64>,
    /// What is left reserved after cached blocks were given back.
    stubborn: u64,
    released: Cell<u32>,
}

fn card(budget: u64, reserved: u64, stubborn: u64) -> Card {
    let (peak, released) = (Cell::new(0), Cell::new(0));
    Card(std::rc::Rc::new(CardState { budget, peak, reserved: Cell::new(reserved), stubborn, released }))
}

impl DeviceMemory for Card {
    fn pressure(&self) -> Option<Pressure> {
        Some(Pressure { allocated: 100, reserved: self.0.reserved.get(), free: 1 << 40 })
    }
    fn peak(&self) -> Option<u64> {
        Some(self.0.peak.get())
    }
    fn forget_peak(&self) {
        self.0.peak.set(0);
    }
    fn release(&self) {
        self.0.released.set(self.0.released.get() + 1);
        self.0.reserved.set(self.0.stubborn);
    }
    fn budget(&self) -> Option<u64> {
        Some(self.0.budget)
    }
}

/// A classifier on that card.
struct OnCard<'a>(Cramped<'a>, Card);

impl Trainee for OnCard<'_> {
    fn name(&self) -> &'static str {
        "gat"
    }
    fn variables(&self) -> BTreeMap<String, Tensor> {
        self.0.variables()
    }
    fn imbalance(&self) -> Imbalance {
        Imbalance::None
    }
    fn class_weight(&self) -> Option<[f32; 2]> {
        self.0.class_weight()
    }
    fn loss(&self, chosen: &[u32], batch: &GraphBatch, share: &Share) -> Tensor {
        let peak = &self.1.0.peak;
        peak.set(peak.get().max(100 + 10 * batch.n_graphs as u64));
        self.0.loss(chosen, batch, share)
    }
    fn validate(&self, _: &mut Evaluator<'_>, _: &GraphSet, _: &[u32]) -> Result<Validation, FitError> {
        unreachable!("a measurement does not validate")
    }
}

/// Found from `start`, at an effective batch of 32, on a card that holds `holds` graphs at most.
fn measured(start: u32, budget: u64, holds: i64) -> (u32, Heard) {
    let (gat, set) = (gat(), set(40));
    let pool: Vec<u32> = (0..40).collect();
    let before = trainee::deep_copy(&trainee::named(&gat.store));
    let inner = GatTrainee::new(&gat, &GatSemantic::of_size(ModelSize::Small), &set.label, None);
    let card = card(budget, 0, 0);
    let on_card = OnCard(Cramped { inner, holds, refused: Cell::new(0) }, card.clone());
    let mut stepper = Stepper::new(32, start, 1.0, on_card.variables(), Memory::new(card.clone()));
    let (mut adam, mut loader, mut heard) = (adam(&gat), Loader::new(Device::Cpu), Heard::default());
    stepper.measure(&on_card, &mut adam, &mut loader, (&set, &pool), &mut heard).unwrap();
    assert!(card.0.released.get() > 0, "blocks of the largest try are given back");
    assert_eq!(adam.steps_done(), 0);
    let after = trainee::named(&gat.store);
    assert!(before.iter().all(|(name, tensor)| tensor.equal(&after[name])), "a measurement leaves no trace");
    let zero = |t: &Tensor| {
        !t.grad().defined() || f64::try_from(t.grad().abs().sum(tch::Kind::Double)).unwrap() == 0.0
    };
    assert!(after.values().all(zero));
    (stepper.micro_batch(), heard)
}

#[test]
fn the_batch_is_measured_and_not_guessed() {
    let (found, heard) = measured(2, 1 << 30, 100);
    assert_eq!((found, heard.0), (32, vec![(2, 32, 1)]), "up to the effective batch");
    let target = |graphs: f64| ((100.0 + 10.0 * graphs) / TARGET_SHARE) as u64 + 1;
    let (found, heard) = measured(2, target(20.0), 100);
    assert_eq!((found, heard.0), (20, vec![(2, 20, 2)]), "up to the share of the reservation");
    let (found, _) = measured(32, target(10.0), 100);
    assert_eq!(found, 10, "down to it");
    let (found, heard) = measured(32, 1 << 30, 11);
    assert!((8..=11).contains(&found), "down to what the card gives: {found}");
    assert!(heard.1.is_empty(), "a refused measurement is no failure");
}

#[test]
fn pressure_first_costs_the_cache_and_then_half_of_the_batch() {
    let gat = gat();
    let ease = |card: &Card| {
        let mut stepper = Stepper::new(16, 16, 1.0, trainee::named(&gat.store), Memory::new(card.clone()));
        let mut heard = Heard::default();
        stepper.ease(&mut heard);
        (stepper.micro_batch(), card.0.released.get(), heard.0.len())
    };
    assert_eq!(ease(&card(1000, 900, 900)), (16, 0, 0), "within the reservation");
    assert_eq!(ease(&card(1000, 1100, 900)), (16, 1, 0), "the cache was all");
    assert_eq!(ease(&card(1000, 1100, 1050)), (8, 1, 1));
}
