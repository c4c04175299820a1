use std::collections::BTreeMap;

use common::config::semantic::{DqnArch, GatArch, ModelSize, VgaeArch};
use tch::{CModule, Device, Kind, Tensor};

use super::*;
use crate::batch::GraphBatch;
use crate::fit::loader::Loader;
use crate::fit::testing::set;
use crate::fit::trainee::named;
use crate::nn::gat::Gat;
use crate::nn::qnet::QNet;
use crate::nn::vgae::Vgae;
use crate::phase::anomaly::AnomalyScale;
use crate::phase::fusion::learn::fused_scores;
use crate::phase::fusion::scaling::Scaling;
use crate::phase::fusion::states::{RawStates, state_rows};
use crate::phase::score::{Errors, host};

const NUM_IDS: i64 = 9;

fn batch(loader: &mut Loader, chosen: &[u32]) -> GraphBatch {
    loader.load(&set(12), chosen)
}

/// Running statistics and biases away from the zeros and ones they begin with.
fn shaken(variables: BTreeMap<String, Tensor>) {
    tch::no_grad(|| {
        for mut tensor in variables.into_values() {
            let _ = tensor.g_add_(&(tensor.rand_like() * 0.3));
        }
    });
}

fn close(got: &Tensor, expected: &Tensor) {
    assert_eq!(got.size(), expected.size());
    let scale = expected.abs().clamp_min(1.0);
    let gap = ((got - expected).abs() / scale).max().double_value(&[]);
    assert!(gap < 1e-4, "{gap}: {got:?} against {expected:?}");
}

fn detectors() -> (Vgae, Gat, AnomalyScale) {
    crate::runtime::init();
    let vgae = Vgae::new(&VgaeArch::of_size(ModelSize::Small), NUM_IDS, Device::Cpu);
    let gat = Gat::new(&GatArch::of_size(ModelSize::Small), NUM_IDS, Device::Cpu);
    shaken(named(&vgae.store));
    shaken(named(&gat.store));
    (vgae, gat, AnomalyScale { mean: [0.1, 0.2, 1.0], std: [0.5, 0.1, 2.0], weights: [0.5, 0.2, 0.3] })
}

/// What the crate itself makes of a batch.
fn expected_rows(batch: &GraphBatch, vgae: &Vgae, gat: &Gat, scale: &AnomalyScale) -> Tensor {
    let scores = vgae.score_batch(batch);
    let errors = Errors {
        feature_mse: host(&scores.feature_mse).unwrap(),
        neighbourhood_bce: host(&scores.neighbourhood_bce).unwrap(),
        id_ce: host(&scores.id_ce).unwrap(),
    };
    let anomaly = Tensor::from_slice(&scale.scores(&errors));
    let rows = state_rows(&scores, &gat.score_batch(batch));
    let (states, margin) = (rows.narrow(1, 0, 15), rows.select(1, 15));
    Tensor::cat(&[margin.unsqueeze(1), anomaly.unsqueeze(1), states], 1)
}

fn run(module: &CModule, batch: &GraphBatch) -> Tensor {
    let GraphBatch { node_id, x, transition_src, transition_dst, graph_of_node, .. } = batch;
    module.forward_ts(&[node_id, x, transition_src, transition_dst, graph_of_node]).unwrap()
}

#[test]
fn a_pair_gives_the_same_rows_as_the_crate_for_graphs_of_any_number_and_size() {
    let (vgae, gat, scale) = detectors();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pair.pt");
    write_pair(&path, &vgae, &gat, &scale, [0.25, -1.5]).unwrap();
    let module = CModule::load(&path).unwrap();
    let mut loader = Loader::new(Device::Cpu);
    for chosen in [&[0, 1, 2, 3, 4][..], &[7], &[3, 9, 11]] {
        let batch = batch(&mut loader, chosen);
        let rows = run(&module, &batch);
        assert_eq!(rows.size(), [chosen.len() as i64, ROW_COLUMNS]);
        close(&rows, &expected_rows(&batch, &vgae, &gat, &scale));
    }
    let first = std::fs::read(&path).unwrap();
    write_pair(&path, &vgae, &gat, &scale, [0.25, -1.5]).unwrap();
    assert!(std::fs::read(&path).unwrap() == first, "the same weights give the same bytes");
}

#[test]
fn the_agent_gives_the_same_fused_scores_as_the_crate() {
    let (vgae, gat, scale) = detectors();
    let mut loader = Loader::new(Device::Cpu);
    let batch = batch(&mut loader, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    let rows = expected_rows(&batch, &vgae, &gat, &scale);
    let raw_rows = Tensor::cat(&[rows.narrow(1, 2, 15), rows.select(1, 0).unsqueeze(1)], 1);
    let truth = Vec::try_from(&batch.labels).map(|l: Vec<i64>| l.iter().map(|&l| Some(l as u8)).collect());
    let raw = RawStates::new(&raw_rows, truth.unwrap()).unwrap();
    let scaling = Scaling::fit(&raw).unwrap();
    let net = QNet::new(&DqnArch { layers: 2, hidden: 16, actions: 5, dropout: 0.2 }, Device::Cpu);
    shaken(named(&net.store));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.pt");
    write_agent(&path, &net, &scaling, 0.5).unwrap();
    let module = CModule::load(&path).unwrap();
    let expected = fused_scores(&net, &scaling.apply(&raw, Device::Cpu)).unwrap().to_kind(Kind::Float);
    close(&module.forward_ts(&[rows]).unwrap(), &expected);
}
