//! Our `.pth` files in Python: names and shapes are those of PyTorch Geometric's modules (held against a stored
//! list), and where a Python with torch_geometric is at hand (`COORD_TEST_PYTHON`, else `python3`) it loads a
//! file strictly and computes the same outputs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::config::semantic::{DqnArch, GatArch, ModelSize, VgaeArch};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};
use trainer::batch::{GraphBatch, HostBatch};
use trainer::fit::trainee::named;
use trainer::nn::gat::Gat;
use trainer::nn::qnet::QNet;
use trainer::nn::vgae::Vgae;
use trainer::objective::vgae::VgaePass;
use trainer::phase::output::for_python;
use trainer::pth;

const NUM_IDS: i64 = 53;

type Shapes = BTreeMap<String, Vec<i64>>;

fn shapes(store: &VarStore) -> Shapes {
    for_python(&named(store)).into_iter().map(|(name, tensor)| (name, tensor.size())).collect()
}

#[test]
fn names_and_shapes_are_those_of_the_published_modules() {
    trainer::runtime::init();
    let stored = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/state_dicts.json");
    let stored: BTreeMap<String, Shapes> = serde_json::from_slice(&std::fs::read(stored).unwrap()).unwrap();
    for (size, word) in [(ModelSize::Large, "large"), (ModelSize::Small, "small")] {
        let expected = |model: &str| &stored[&format!("{model}_{word}")];
        let vgae = Vgae::new(&VgaeArch::of_size(size), NUM_IDS, Device::Cpu);
        assert_eq!(&shapes(&vgae.store), expected("vgae"), "{word}");
        let gat = Gat::new(&GatArch::of_size(size), NUM_IDS, Device::Cpu);
        assert_eq!(&shapes(&gat.store), expected("gat"), "{word}");
        let dqn = QNet::new(&DqnArch::of_size(size), Device::Cpu);
        assert_eq!(&shapes(&dqn.store), expected("dqn"), "{word}");
    }
}

/// Two graphs.
const NODE_ID: [i64; 5] = [0, 7, 52, 7, 9];
const SRC: [i64; 6] = [0, 0, 1, 2, 3, 4];
const DST: [i64; 6] = [1, 2, 2, 0, 4, 3];
const GRAPH: [i64; 5] = [0, 0, 0, 1, 1];

#[test]
fn python_loads_a_file_strictly_and_computes_the_same() {
    trainer::runtime::init();
    let dir = tempfile::tempdir().unwrap();
    let (vgae_arch, gat_arch) = (VgaeArch::of_size(ModelSize::Small), GatArch::of_size(ModelSize::Small));
    let vgae = Vgae::new(&vgae_arch, NUM_IDS, Device::Cpu);
    let gat = Gat::new(&gat_arch, NUM_IDS, Device::Cpu);
    let file = dir.path().join("model.pth");
    let sections = [("vgae", for_python(&named(&vgae.store))), ("gat", for_python(&named(&gat.store)))];
    pth::write(&file, &sections).unwrap();
    // Our own reader is asked in any case: the file must be whole.
    let read = pth::read(&file).unwrap();
    assert_eq!(read["gat"].len() + read["vgae"].len(), sections[0].1.len() + sections[1].1.len());

    let Some(python) = python() else {
        eprintln!("no Python with torch, torch_geometric and safetensors: names and shapes only");
        return;
    };
    let numbers = dir.path().join("numbers.safetensors");
    write_numbers(&numbers, &gat, &vgae);
    let arch = serde_json::json!({ "num_ids": NUM_IDS, "gat": gat_arch, "vgae": vgae_arch });
    let arch_file = dir.path().join("arch.json");
    std::fs::write(&arch_file, arch.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/check_pth.py");
    let output = Command::new(python).arg(script).args([&file, &arch_file, &numbers]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn write_numbers(path: &Path, gat: &Gat, vgae: &Vgae) {
    let x: Vec<f32> = (0..50).map(|i| (i as f32 * 0.37).sin().abs()).collect();
    let labels = [0, 1];
    let host = HostBatch {
        node_id: &NODE_ID,
        x: &x,
        edge_src: &SRC,
        edge_dst: &DST,
        graph_of_node: &GRAPH,
        labels: &labels,
    };
    let batch = GraphBatch::from_host(&host, Device::Cpu);
    let pass = VgaePass::run(vgae, &batch, false);
    let numbers = [
        ("in.node_id", Tensor::from_slice(&NODE_ID)),
        ("in.x", batch.x.shallow_clone()),
        ("in.src", Tensor::from_slice(&SRC)),
        ("in.dst", Tensor::from_slice(&DST)),
        ("in.graph", Tensor::from_slice(&GRAPH)),
        ("out.logits", gat.forward(&batch, false).detach()),
        ("out.mean", pass.posterior.mean.detach()),
        ("out.features", pass.decoded.features.detach()),
    ];
    assert!(numbers.iter().all(|(_, t)| t.kind() == Kind::Int64 || t.isfinite().all().int64_value(&[]) == 1));
    Tensor::write_safetensors(&numbers, path).unwrap();
}

fn python() -> Option<PathBuf> {
    let python = std::env::var_os("COORD_TEST_PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let probe = Command::new(&python).args(["-c", "import torch, torch_geometric, safetensors"]).output();
    probe.is_ok_and(|output| output.status.success()).then_some(python)
}
