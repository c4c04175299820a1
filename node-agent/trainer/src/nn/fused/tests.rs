//! Fused against plain: values, gradients and masks. Whole seeded runs: `tests/fused_curves.rs`.

use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::{Dropout, Kernels, VARIABLE, available};
use crate::batch::testing::batch;
use crate::nn::gat_conv::GatConv;
use crate::nn::init::BatchNorm;
use crate::optim::{Adam, AdamConfig, WeightDecay};

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    // A NaN is as far apart as can be.
    let gap = (a - b).abs().max().double_value(&[]);
    if gap.is_nan() { f64::INFINITY } else { gap / b.abs().max().double_value(&[]).max(1.0) }
}

/// Gradients by `inputs` of a sum with uneven weights, so that no two elements can stand in for each other.
fn gradients(outputs: &[&Tensor], inputs: &[&Tensor]) -> Vec<Tensor> {
    let weigh = |t: &Tensor| {
        (t * (Tensor::arange(t.numel() as i64, (Kind::Float, t.device())).sin().view_as(t))).sum(Kind::Float)
    };
    let loss = outputs.iter().map(|t| weigh(t)).reduce(|a, b| a + b).expect("an output");
    Tensor::run_backward(&[loss], inputs, false, false)
}

fn conv(inputs: i64, channels: i64, heads: i64) -> (VarStore, GatConv) {
    tch::manual_seed(5);
    let store = VarStore::new(Device::Cpu);
    let conv = GatConv::new(&store.root(), inputs, channels, heads);
    let _ = tch::no_grad(|| store.variables()["bias"].shallow_clone().uniform_(-0.5, 0.5));
    (store, conv)
}

#[test]
fn libtorch_here_lets_the_fused_operations_work() {
    crate::runtime::init();
    assert!(available());
    assert_eq!(Kernels::for_device(Device::Cuda(0)), Kernels::Plain);
    let plain = std::env::var_os(VARIABLE).is_some_and(|choice| choice == "plain");
    assert_eq!(Kernels::for_device(Device::Cpu) == Kernels::Plain, plain);
}

#[test]
fn layers_of_any_width_agree_in_values_and_gradients() {
    let batch = batch(40);
    // Widths below, at and above the eight lanes, one head and several, with and without dropout.
    for (channels, heads) in [(1, 1), (5, 3), (10, 1), (8, 8), (24, 4), (48, 8)] {
        for rate in [0.0, 0.3] {
            let (store, conv) = conv(13, channels, heads);
            let x = Tensor::randn([batch.n_nodes, 13], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let dropout = Dropout { rate, seed: 99 };
            let variables = store.variables();
            let mut inputs: Vec<&Tensor> = variables.values().collect();
            inputs.push(&x);
            let run = |kernels| {
                let (out, pooled) = conv.pooled_layer(&x, &batch, dropout, kernels);
                let gradients = gradients(&[&out, &pooled], &inputs);
                (out, pooled, gradients)
            };
            let (plain, fused) = (run(Kernels::Plain), run(Kernels::Fused));
            assert!(apart(&fused.0, &plain.0) < 1e-5 && apart(&fused.1, &plain.1) < 1e-5);
            for (a, b) in fused.2.iter().zip(&plain.2) {
                assert!(apart(a, b) < 2e-5, "{channels} x {heads}, {:?}: {}", a.size(), apart(a, b));
            }
            let bare = |kernels| conv.convolve(&x, &batch, kernels);
            let (plain, fused) = (bare(Kernels::Plain), bare(Kernels::Fused));
            assert!(apart(&fused, &plain) < 1e-5);
            let unrecorded = tch::no_grad(|| bare(Kernels::Fused));
            assert_eq!(apart(&unrecorded, &fused), 0.0, "the pass without gradient takes other buffers");
        }
    }
}

#[test]
fn gradients_of_a_layer_are_the_slopes_of_its_output() {
    let batch = batch(3);
    let (_store, conv) = conv(4, 3, 2);
    let x = Tensor::randn([batch.n_nodes, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let loss = |x: &Tensor| {
        let (out, pooled) = conv.pooled_layer(x, &batch, Dropout::OFF, Kernels::Fused);
        (out.square().sum(Kind::Double) + pooled.sum(Kind::Double)).double_value(&[])
    };
    let (out, pooled) = conv.pooled_layer(&x, &batch, Dropout::OFF, Kernels::Fused);
    let total = out.square().sum(Kind::Float) + pooled.sum(Kind::Float);
    let slope = &Tensor::run_backward(&[total], &[&x], false, false)[0];
    let step = 1e-2;
    let mut seen = 0;
    for node in (0..batch.n_nodes).step_by(7) {
        for column in 0..4 {
            let moved = |by: f64| {
                let x = x.detach().copy();
                let _ = x.get(node).get(column).g_add_scalar_(by);
                tch::no_grad(|| loss(&x))
            };
            let measured = (moved(step) - moved(-step)) / (2.0 * step);
            let claimed = slope.double_value(&[node, column]);
            // Kinks of ReLU and leaky ReLU within the step move a few slopes a little.
            assert!(
                (measured - claimed).abs() < 0.05 * claimed.abs().max(1.0),
                "{measured} against {claimed}"
            );
            seen += 1;
        }
    }
    assert!(seen > 20);
}

#[test]
fn dropout_drops_its_share_and_follows_its_seed() {
    crate::runtime::init();
    let x = Tensor::ones([500, 37], (Kind::Float, Device::Cpu));
    let mask = Dropout { rate: 0.2, seed: 7 }.apply(&x);
    let dropped = mask.eq(0.0).to_kind(Kind::Float);
    let share = dropped.mean(Kind::Double).double_value(&[]);
    // Five standard deviations of 18,500 draws.
    assert!((share - 0.2).abs() < 0.015, "{share}");
    for dim in [0_i64, 1] {
        let worst = (dropped.mean_dim(dim, false, Kind::Float) - 0.2).abs().max().double_value(&[]);
        assert!(worst < 0.35, "a row or column is dropped as a whole: {worst}");
    }
    assert_eq!(mask.max().double_value(&[]), 1.25);
    assert_eq!(mask, Dropout { rate: 0.2, seed: 7 }.apply(&x));
    assert_ne!(mask, Dropout { rate: 0.2, seed: 8 }.apply(&x));
    assert_eq!(Dropout::draw(0.5, false), Dropout::OFF);
    assert_eq!(Dropout::OFF.apply(&x), x);
}

#[test]
fn normalisation_agrees_in_values_gradients_and_running_statistics() {
    crate::runtime::init();
    tch::manual_seed(6);
    for (rows, width) in [(2, 3), (600, 80), (1000, 13)] {
        let x =
            (Tensor::randn([rows, width], (Kind::Float, Device::Cpu)) * 3.0 + 5.0).set_requires_grad(true);
        let (plain, fused) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
        let norms = [(Kernels::Plain, &plain), (Kernels::Fused, &fused)]
            .map(|(kernels, store)| (kernels, BatchNorm::new(&store.root(), width), store));
        let [a, b] = norms.map(|(kernels, norm, store)| {
            let variables = store.variables();
            let weight = (Tensor::arange(width, (Kind::Float, Device::Cpu)) + 1.0) / width as f64;
            tch::no_grad(|| variables["weight"].shallow_clone().copy_(&weight));
            let dropout = Dropout { rate: 0.1, seed: 3 };
            let out = norm.activated(&x, true, dropout, kernels);
            let grads = gradients(&[&out], &[&x, &variables["weight"], &variables["bias"]]);
            let eval = tch::no_grad(|| norm.activated(&x, false, Dropout::OFF, kernels));
            let running = ["running_mean", "running_var"].map(|name| variables[name].shallow_clone());
            [out, eval].into_iter().chain(grads).chain(running).collect::<Vec<_>>()
        });
        for (i, (a, b)) in a.iter().zip(&b).enumerate() {
            assert!(apart(b, a) < 5e-5, "{rows} x {width}, tensor {i}: {}", apart(b, a));
        }
    }
}

#[test]
fn one_fused_adam_step_follows_the_formula() {
    crate::runtime::init();
    for decay in [WeightDecay::L2(0.1), WeightDecay::Decoupled(0.1)] {
        let start = Tensor::from_slice(&[0.5_f32, -2.0, 3.0]);
        let weight = start.copy().set_requires_grad(true);
        let mut adam =
            Adam::new([("w".to_owned(), weight.shallow_clone())], AdamConfig::new(0.01, decay)).unwrap();
        (&weight * &weight).sum(Kind::Float).backward();
        adam.step().unwrap();
        // First step: both moments are exact, so the move is lr · g / (|g| + eps).
        let grad = 2.0 * &start;
        let expected = match decay {
            WeightDecay::L2(rate) => &start - (&grad + &start * rate).sign() * 0.01,
            WeightDecay::Decoupled(rate) => &start * (1.0 - 0.01 * rate) - grad.sign() * 0.01,
        };
        assert!(apart(&weight.detach(), &expected) < 1e-6);
    }
}
