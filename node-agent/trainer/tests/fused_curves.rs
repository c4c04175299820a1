//! A fused run and a plain one from the same seed learn the same, dropout and all. Alone in its process: torch's
//! generator is one for all threads, so tests beside it would draw from it in between.

use std::collections::BTreeMap;

use common::config::semantic::{GatArch, ModelSize, VgaeArch, VgaeSemantic};
use tch::{Device, Tensor};
use trainer::batch::{GraphBatch, HostBatch};
use trainer::fit::trainee::named;
use trainer::nn::fused::Kernels;
use trainer::nn::gat::Gat;
use trainer::nn::vgae::Vgae;
use trainer::objective::classification::cross_entropy;
use trainer::objective::vgae::VgaePass;
use trainer::optim::{Adam, AdamConfig, WeightDecay};

#[path = "support/graphs.rs"]
mod graphs;
use graphs::batch;

const IDS: i64 = 70;

/// Largest difference, relative to the largest entry where that is above one; NaN fails every comparison.
fn gap(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[]) / b.abs().max().double_value(&[]).max(1.0)
}

/// A model to train: its tensors and its loss.
type Training = (BTreeMap<String, Tensor>, Box<dyn Fn() -> Tensor>);

/// Losses of some seeded steps with dropout, and the weights after them.
fn train((variables, loss): Training) -> (Vec<f64>, Vec<Tensor>) {
    let config = AdamConfig::new(1e-3, WeightDecay::Decoupled(1e-4));
    let trainable = variables.iter().filter(|(_, tensor)| tensor.requires_grad());
    let mut adam = Adam::new(trainable.map(|(name, t)| (name.clone(), t.shallow_clone())), config).unwrap();
    let losses = (0..15)
        .map(|step| {
            tch::manual_seed(step);
            adam.zero_grad();
            let loss = loss();
            loss.backward();
            adam.clip_grad_norm(1.0).unwrap();
            adam.step().unwrap();
            loss.double_value(&[])
        })
        .collect();
    (losses, variables.into_values().collect())
}

fn assert_same_curves(make: impl Fn(Kernels) -> Training) {
    let (plain, fused) = (train(make(Kernels::Plain)), train(make(Kernels::Fused)));
    for (step, (a, b)) in plain.0.iter().zip(&fused.0).enumerate() {
        assert!((a - b).abs() < 2e-4 * a.abs(), "step {step}: {a} against {b}");
    }
    assert!(plain.0[14] < plain.0[0], "nothing was learned: {:?}", plain.0);
    for (a, b) in plain.1.iter().zip(&fused.1) {
        // Adam turns rounding of tiny gradients into steps of the learning rate.
        assert!(gap(b, a) < 15.0 * 1e-3, "{}", gap(b, a));
    }
}

#[test]
fn seeded_runs_agree() {
    trainer::runtime::init();
    classifiers();
    auto_encoder();
}

fn classifiers() {
    for size in [ModelSize::Large, ModelSize::Small] {
        assert_same_curves(|kernels| {
            let batch = batch(20);
            tch::manual_seed(1);
            let mut gat = Gat::new(&GatArch::of_size(size), IDS, Device::Cpu);
            gat.kernels = kernels;
            let variables = named(&gat.store);
            (variables, Box::new(move || cross_entropy(&gat.forward(&batch, true), &batch.labels, None)))
        });
    }
}

fn auto_encoder() {
    assert_same_curves(|kernels| {
        let batch = batch(20);
        tch::manual_seed(1);
        let mut vgae = Vgae::new(&VgaeArch::of_size(ModelSize::Small), IDS, Device::Cpu);
        vgae.kernels = kernels;
        let weights = VgaeSemantic::of_size(ModelSize::Small).loss;
        let variables = named(&vgae.store);
        (variables, Box::new(move || VgaePass::run(&vgae, &batch, true).loss(&vgae, &batch, &weights)))
    });
}
