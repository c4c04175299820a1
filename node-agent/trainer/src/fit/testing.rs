//! Graphs and models of the loop's own tests.

use common::config::semantic::{GatArch, ModelSize};
use dataset::graph_set::GraphView;
use dataset::{AttackKind, CaptureInfo, ContentDigest, GraphSet};
use tch::Device;

use crate::nn::gat::Gat;

/// Small ring graphs of differing sizes, every third an attack.
pub fn set(n: usize) -> GraphSet {
    let mut set = GraphSet::empty(false);
    set.captures.push(CaptureInfo {
        folder: "train".to_owned(),
        name: "made".to_owned(),
        attack_kind: AttackKind::Dos,
        sha256: ContentDigest::of(b"made"),
        has_labels: true,
    });
    for graph in 0..n {
        let nodes = 2 + graph % 5;
        let x: Vec<f32> = (0..nodes * 10).map(|i| ((i * 7 + graph * 3) % 11) as f32 / 11.0).collect();
        let node_id: Vec<u32> = (0..nodes as u32).collect();
        let src: Vec<u16> = (0..nodes as u16).collect();
        let dst: Vec<u16> = (0..nodes as u16).map(|i| (i + 1) % nodes as u16).collect();
        set.push(GraphView {
            node_id: &node_id,
            x: &x,
            edge_src: &src,
            edge_dst: &dst,
            edge_attr: None,
            label: u8::from(graph % 3 == 0),
            capture: 0,
            start_s: 0.0,
        })
        .unwrap();
    }
    set
}

/// A small classifier without dropout.
pub fn gat() -> Gat {
    crate::runtime::init();
    Gat::new(&GatArch { dropout: 0.0, ..GatArch::of_size(ModelSize::Small) }, 10, Device::Cpu)
}
