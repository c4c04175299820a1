//! Joining chosen graphs of a set into one big graph, as training libraries want it.

use crate::graph_set::{EDGE_FEATURES, GraphSet, NODE_FEATURES};

/// Order of a batch's edges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EdgeOrder {
    /// By graph, then (source, target): the order of the set.
    #[default]
    Source,
    /// By graph, then (target, source), with [`BatchArrays::in_ptr`]: what a fused attention op walks along.
    Target,
}

/// Arrays of one batch with G graphs, N nodes and E edges; buffers are kept from batch to batch.
#[derive(Debug, Clone, Default)]
pub struct BatchArrays {
    /// N vocabulary indices.
    pub node_id: Vec<i64>,
    /// N x [`NODE_FEATURES`].
    pub x: Vec<f32>,
    /// E source nodes, counted over the batch.
    pub edge_src: Vec<i64>,
    /// E target nodes, counted over the batch.
    pub edge_dst: Vec<i64>,
    /// E x [`EDGE_FEATURES`]; empty where the set has none.
    pub edge_attr: Vec<f32>,
    /// N + 1 offsets of each node's incoming edges; filled for [`EdgeOrder::Target`] only, else empty.
    pub in_ptr: Vec<i64>,
    /// N graph numbers within the batch, ascending.
    pub graph_of_node: Vec<i64>,
    /// G + 1 offsets of each graph's nodes.
    pub node_ptr: Vec<i64>,
    /// G labels, 0 or 1.
    pub labels: Vec<i64>,
    pub n_graphs: usize,
    pub n_nodes: usize,
    pub n_edges: usize,
    /// Scratch of the sort by target: next free place of each node of one graph, then the edges' order.
    next: Vec<u32>,
    order: Vec<u32>,
}

impl BatchArrays {
    /// Fills the arrays with the chosen graphs of `set`, in that order; panics if one does not exist.
    pub fn fill(&mut self, set: &GraphSet, graphs: &[u32], edge_order: EdgeOrder) {
        self.clear();
        if edge_order == EdgeOrder::Target {
            self.in_ptr.push(0);
        }
        self.node_ptr.push(0);
        for (number, &g) in (0i64..).zip(graphs) {
            let g = g as usize;
            let base = self.node_id.len() as i64;
            let nodes = set.node_range(g);
            self.node_id.extend(set.node_id[nodes.clone()].iter().map(|&id| i64::from(id)));
            self.x.extend_from_slice(&set.x[nodes.start * NODE_FEATURES..nodes.end * NODE_FEATURES]);
            self.graph_of_node.resize(self.node_id.len(), number);
            self.node_ptr.push(self.node_id.len() as i64);
            self.labels.push(i64::from(set.label[g]));
            match edge_order {
                EdgeOrder::Source => self.push_edges(set, g, base),
                EdgeOrder::Target => self.push_edges_by_target(set, g, base),
            }
        }
        self.n_graphs = graphs.len();
        self.n_nodes = self.node_id.len();
        self.n_edges = self.edge_src.len();
    }

    fn clear(&mut self) {
        self.node_id.clear();
        self.x.clear();
        self.edge_src.clear();
        self.edge_dst.clear();
        self.edge_attr.clear();
        self.in_ptr.clear();
        self.graph_of_node.clear();
        self.node_ptr.clear();
        self.labels.clear();
    }

    fn push_edges(&mut self, set: &GraphSet, g: usize, base: i64) {
        let edges = set.edge_range(g);
        self.edge_src.extend(set.edge_src[edges.clone()].iter().map(|&node| base + i64::from(node)));
        self.edge_dst.extend(set.edge_dst[edges.clone()].iter().map(|&node| base + i64::from(node)));
        if let Some(attr) = &set.edge_attr {
            self.edge_attr.extend_from_slice(&attr[edges.start * EDGE_FEATURES..edges.end * EDGE_FEATURES]);
        }
    }

    /// Counting sort: stable, so sources stay ascending within a target.
    fn push_edges_by_target(&mut self, set: &GraphSet, g: usize, base: i64) {
        let (nodes, edges) = (set.node_range(g).len(), set.edge_range(g));
        let first_edge = self.edge_src.len() as i64;
        let dst = &set.edge_dst[edges.clone()];
        self.next.clear();
        self.next.resize(nodes + 1, 0);
        dst.iter().for_each(|&node| self.next[node as usize + 1] += 1);
        for node in 0..nodes {
            self.next[node + 1] += self.next[node];
            self.in_ptr.push(first_edge + i64::from(self.next[node + 1]));
        }
        self.order.clear();
        self.order.resize(dst.len(), 0);
        for (edge, &node) in (0u32..).zip(dst) {
            let place = &mut self.next[node as usize];
            self.order[*place as usize] = edge;
            *place += 1;
        }
        for &edge in &self.order {
            let edge = edges.start + edge as usize;
            self.edge_src.push(base + i64::from(set.edge_src[edge]));
            self.edge_dst.push(base + i64::from(set.edge_dst[edge]));
            if let Some(attr) = &set.edge_attr {
                self.edge_attr.extend_from_slice(&attr[edge * EDGE_FEATURES..(edge + 1) * EDGE_FEATURES]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph_set::GraphView;
    use crate::graph_set::tests::{capture, chain_graphs};

    #[test]
    fn batch_shifts_nodes_and_keeps_order() {
        let set = chain_graphs(4, 10);
        let mut batch = BatchArrays::default();
        batch.fill(&set, &[2, 1], EdgeOrder::Source);
        assert_eq!((batch.n_graphs, batch.n_nodes, batch.n_edges), (2, 5, 3));
        assert_eq!(batch.node_id, [10, 11, 12, 10, 11]);
        assert_eq!(batch.edge_src, [0, 1, 3]);
        assert_eq!(batch.edge_dst, [1, 2, 4]);
        assert_eq!(batch.graph_of_node, [0, 0, 0, 1, 1]);
        assert_eq!(batch.node_ptr, [0, 3, 5]);
        assert_eq!(batch.labels, [0, 1]);
        assert_eq!(&batch.x[..30], set.graph(2).x);
        assert!(batch.in_ptr.is_empty());
        batch.fill(&set, &[0], EdgeOrder::Source);
        assert_eq!((batch.n_graphs, batch.n_nodes, batch.n_edges, batch.x.len()), (1, 1, 0, NODE_FEATURES));
    }

    #[test]
    fn edges_by_target_with_offsets() {
        let mut set = GraphSet::empty(true);
        set.captures.push(capture("a"));
        let attr: Vec<f32> = (0..4 * EDGE_FEATURES).map(|i| i as f32).collect();
        let view = GraphView {
            node_id: &[4, 5, 6],
            x: &[0.5; 3 * NODE_FEATURES],
            edge_src: &[0, 0, 1, 2],
            edge_dst: &[0, 2, 0, 2],
            edge_attr: Some(&attr),
            label: 1,
            capture: 0,
            start_s: 0.0,
        };
        set.push(view).unwrap();
        let mut batch = BatchArrays::default();
        batch.fill(&set, &[0, 0], EdgeOrder::Target);
        assert_eq!(batch.edge_src, [0, 1, 0, 2, 3, 4, 3, 5]);
        assert_eq!(batch.edge_dst, [0, 0, 2, 2, 3, 3, 5, 5]);
        assert_eq!(batch.in_ptr, [0, 2, 2, 4, 6, 6, 8]);
        assert_eq!(batch.edge_attr[EDGE_FEATURES], attr[2 * EDGE_FEATURES]);
    }
}
