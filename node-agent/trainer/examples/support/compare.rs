//! Losses and gradients of the large models on a device beside those of plain libtorch on the CPU: the same
//! weights, the same graphs, nothing drawn at random.

use std::collections::BTreeMap;
use std::path::Path;

use common::config::semantic::{GatArch, ModelSize, VgaeArch, VgaeSemantic};
use dataset::GraphSet;
use tch::{Device, Kind, Tensor};
use trainer::batch::GraphBatch;
use trainer::fit::loader::Loader;
use trainer::fit::seed;
use trainer::fit::trainee::{copy_into, named};
use trainer::nn::fused::Kernels;
use trainer::nn::{gat::Gat, vgae::Vgae};
use trainer::objective::classification::cross_entropy;
use trainer::objective::vgae::VgaePass;

const GRAPHS: usize = 64;

/// Prints one line of JSON: by model, the losses and the largest gap of a gradient, relative to that tensor's
/// largest entry (or to 1e-3 of the largest of all, where that is more: what is all rounding has no scale).
pub fn run(folder: &Path, device: Device) {
    let set = GraphSet::load(&folder.join("train.graphs")).expect("prepared graphs");
    let step = (set.len() / GRAPHS).max(1);
    let chosen: Vec<u32> = (0..set.len() as u32).step_by(step).take(GRAPHS).collect();
    let num_ids = super::num_ids(&set);
    let batch_on = |device| Loader::new(device).load(&set, &chosen);
    let gat = |device, kernels| {
        let mut gat = Gat::new(&GatArch::of_size(ModelSize::Large), num_ids, device);
        gat.kernels = kernels;
        gat
    };
    let vgae = |device, kernels| {
        let mut vgae = Vgae::new(&VgaeArch::of_size(ModelSize::Large), num_ids, device);
        vgae.kernels = kernels;
        vgae
    };
    seed::seed_torch(1, "compare", &[]);
    let (here, there) = (gat(Device::Cpu, Kernels::Plain), gat(device, Kernels::for_device(device)));
    copy_into(&named(&there.store), &named(&here.store)).expect("the same shape");
    let loss = |gat: &Gat, batch: &GraphBatch| cross_entropy(&gat.forward(batch, false), &batch.labels, None);
    let gat = gap(
        (&named(&here.store), loss(&here, &batch_on(Device::Cpu))),
        (&named(&there.store), loss(&there, &batch_on(device))),
    );
    let (here, there) = (vgae(Device::Cpu, Kernels::Plain), vgae(device, Kernels::for_device(device)));
    copy_into(&named(&there.store), &named(&here.store)).expect("the same shape");
    let weights = VgaeSemantic::of_size(ModelSize::Large).loss;
    let loss =
        |vgae: &Vgae, batch: &GraphBatch| VgaePass::run(vgae, batch, false).loss(vgae, batch, &weights);
    let vgae = gap(
        (&named(&here.store), loss(&here, &batch_on(Device::Cpu))),
        (&named(&there.store), loss(&there, &batch_on(device))),
    );
    println!("{}", serde_json::json!({ "gat": gat, "vgae": vgae }));
}

type Side<'a> = (&'a BTreeMap<String, Tensor>, Tensor);

fn gap((here, loss_here): Side<'_>, (there, loss_there): Side<'_>) -> serde_json::Value {
    loss_here.backward();
    loss_there.backward();
    let largest = |t: &Tensor| t.abs().max().to_kind(Kind::Double).double_value(&[]);
    let grads = || here.iter().filter(|(_, t)| t.requires_grad() && t.grad().defined());
    let of_all = grads().map(|(_, tensor)| largest(&tensor.grad())).fold(0.0, f64::max);
    let gaps = grads().map(|(name, tensor)| {
        let (a, b) = (tensor.grad(), there[name].grad().to_device(Device::Cpu));
        (largest(&(&a - b)) / largest(&a).max(1e-3 * of_all), name)
    });
    // NaN is larger than everything.
    let worst = gaps.max_by(|a, b| a.0.total_cmp(&b.0)).expect("a model has gradients");
    let (a, b) = (loss_here.double_value(&[]), loss_there.to_device(Device::Cpu).double_value(&[]));
    serde_json::json!({
        "loss_cpu": a, "loss": b, "loss_gap": (a - b).abs() / a.abs(), "gradient_gap": worst.0, "where": worst.1,
    })
}
