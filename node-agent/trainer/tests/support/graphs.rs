//! Made-up ragged graphs: the corners a fused operation may trip over.

use tch::Device;

use super::{GraphBatch, HostBatch};

/// `graphs` ragged graphs, the first of one node, with self-loops, repeats of sources and nodes without edges.
pub fn batch(graphs: usize) -> GraphBatch {
    let (mut node_id, mut x, mut src, mut dst) = (vec![], vec![], vec![], vec![]);
    let (mut graph_of_node, mut labels) = (vec![], vec![]);
    let mut state = 1_u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as usize % below) as i64
    };
    for graph in 0..graphs {
        let base = node_id.len() as i64;
        let nodes = if graph == 0 { 1 } else { 1 + next(60) };
        for node in 0..nodes {
            node_id.push(node);
            graph_of_node.push(graph as i64);
            x.extend((0..10).map(|_| next(1000) as f32 / 500.0 - 1.0));
        }
        let mut edges: Vec<(i64, i64)> =
            (0..2 * nodes).map(|_| (next(nodes as usize), next(nodes as usize))).collect();
        edges.sort_unstable();
        edges.dedup();
        src.extend(edges.iter().map(|edge| base + edge.0));
        dst.extend(edges.iter().map(|edge| base + edge.1));
        labels.push(next(2));
    }
    let host = HostBatch {
        node_id: &node_id,
        x: &x,
        edge_src: &src,
        edge_dst: &dst,
        graph_of_node: &graph_of_node,
        labels: &labels,
    };
    GraphBatch::from_host(&host, Device::Cpu)
}
