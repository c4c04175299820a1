//! Graphs as tensors on a device: what every model and loss takes.

use tch::{Device, Kind, Tensor};

/// Continuous features of a node, without the id (columns 1 to 10 of the feature table).
pub const NODE_FEATURES: i64 = 10;

/// Directed edges of a graph convolution: self-loops replaced by exactly one per node, sorted by target.
#[derive(Debug)]
pub struct ConvEdges {
    /// Source node, i64 `[E]`.
    pub src: Tensor,
    /// Target node, i64 `[E]`, ascending.
    pub dst: Tensor,
    /// Where each target's edges begin, i64 `[N + 1]`.
    pub in_ptr: Tensor,
}

/// Some graphs as one disconnected graph. `G` graphs, `N` nodes, `M` transitions.
#[derive(Debug)]
pub struct GraphBatch {
    /// Vocabulary index of each node, i64 `[N]`.
    pub node_id: Tensor,
    /// Features of each node, f32 `[N, 10]`.
    pub x: Tensor,
    /// Transitions as captured (self-loops allowed), i64 `[M]` each.
    pub transition_src: Tensor,
    pub transition_dst: Tensor,
    /// The neighbourhood targets, i64 `[P]` each: a node and an id that one of its transitions leads to, each
    /// pair once.
    pub neighbour_src: Tensor,
    pub neighbour_id: Tensor,
    /// Edges the convolutions run over.
    pub edges: ConvEdges,
    /// Graph of each node, i64 `[N]`, ascending.
    pub graph_of_node: Tensor,
    /// Where each graph's nodes begin, i64 `[G + 1]`.
    pub node_ptr: Tensor,
    /// Nodes of each graph, f32 `[G]`.
    pub nodes_per_graph: Tensor,
    /// Window label, i64 `[G]`: 1 = at least one injected frame.
    pub labels: Tensor,
    pub n_graphs: i64,
    pub n_nodes: i64,
}

/// The host arrays of a batch, as the dataset room collates them.
#[derive(Debug, Clone, Copy)]
pub struct HostBatch<'a> {
    pub node_id: &'a [i64],
    pub x: &'a [f32],
    pub edge_src: &'a [i64],
    pub edge_dst: &'a [i64],
    pub graph_of_node: &'a [i64],
    pub labels: &'a [i64],
}

impl GraphBatch {
    /// Copies host arrays to `device` and derives the convolution's edges.
    #[must_use]
    pub fn from_host(host: &HostBatch<'_>, device: Device) -> Self {
        let n_nodes = host.node_id.len();
        let n_graphs = host.labels.len();
        let edges = HostEdges::new(host.edge_src, host.edge_dst, n_nodes);
        let (neighbour_src, neighbour_id) = neighbours(host);
        let mut node_ptr = vec![0_i64; n_graphs + 1];
        for &graph in host.graph_of_node {
            node_ptr[graph as usize + 1] += 1;
        }
        let nodes_per_graph: Vec<f32> = node_ptr[1..].iter().map(|&nodes| nodes as f32).collect();
        for graph in 0..n_graphs {
            node_ptr[graph + 1] += node_ptr[graph];
        }
        let put = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        Self {
            node_id: put(host.node_id),
            x: Tensor::from_slice(host.x).view([-1, NODE_FEATURES]).to_device(device),
            transition_src: put(host.edge_src),
            transition_dst: put(host.edge_dst),
            neighbour_src: put(&neighbour_src),
            neighbour_id: put(&neighbour_id),
            edges: ConvEdges { src: put(&edges.src), dst: put(&edges.dst), in_ptr: put(&edges.in_ptr) },
            graph_of_node: put(host.graph_of_node),
            node_ptr: put(&node_ptr),
            nodes_per_graph: Tensor::from_slice(&nodes_per_graph).to_device(device),
            labels: put(host.labels),
            n_graphs: n_graphs as i64,
            n_nodes: n_nodes as i64,
        }
    }

    /// Mean over the nodes of each graph: `[N]` or `[N, D]` in, `[G]` or `[G, D]` out.
    pub fn mean_by_graph(&self, values: &Tensor) -> Tensor {
        let sums = self.sum_by_graph(values);
        match values.dim() {
            1 => sums / &self.nodes_per_graph,
            _ => sums / self.nodes_per_graph.unsqueeze(1),
        }
    }

    /// Sum over the nodes of each graph, shapes as [`Self::mean_by_graph`].
    pub fn sum_by_graph(&self, values: &Tensor) -> Tensor {
        let mut shape = values.size();
        shape[0] = self.n_graphs;
        Tensor::zeros(shape, (values.kind(), values.device())).index_add(0, &self.graph_of_node, values)
    }

    /// Extremum over the nodes of each graph: `[N]` in, `[G]` out; `reduce` is `amax` or `amin`.
    pub fn extremum_by_graph(&self, values: &Tensor, reduce: &str) -> Tensor {
        Tensor::zeros([self.n_graphs], (Kind::Float, values.device())).internal_scatter_reduce(
            0,
            &self.graph_of_node,
            values,
            reduce,
            false,
        )
    }
}

/// [`ConvEdges`] on the host.
struct HostEdges {
    src: Vec<i64>,
    dst: Vec<i64>,
    in_ptr: Vec<i64>,
}

impl HostEdges {
    /// Drops captured self-loops, adds one per node, and sorts by target (counting sort, stable in the
    /// source): neighbouring targets then lie together in memory.
    fn new(edge_src: &[i64], edge_dst: &[i64], n_nodes: usize) -> Self {
        let mut in_ptr = vec![0_i64; n_nodes + 1];
        let proper = || edge_src.iter().zip(edge_dst).filter(|(s, d)| s != d);
        for (_, &target) in proper() {
            in_ptr[target as usize + 1] += 1;
        }
        for node in 0..n_nodes {
            // One more per node for its self-loop.
            in_ptr[node + 1] += in_ptr[node] + 1;
        }
        let total = in_ptr[n_nodes] as usize;
        let mut src = vec![0; total];
        let mut dst = vec![0; total];
        let mut next = in_ptr.clone();
        let mut place = |source: i64, target: i64| {
            let slot = &mut next[target as usize];
            src[*slot as usize] = source;
            dst[*slot as usize] = target;
            *slot += 1;
        };
        for (&source, &target) in proper() {
            place(source, target);
        }
        for node in 0..n_nodes as i64 {
            place(node, node);
        }
        Self { src, dst, in_ptr }
    }
}

#[cfg(test)]
#[path = "../tests/support/graphs.rs"]
pub(crate) mod testing;

/// Pairs of a node and an id it leads to. Several nodes of a window may have one id (a role, or the slot of unknown
/// ids), and a target that counts twice has no lowest loss.
fn neighbours(host: &HostBatch<'_>) -> (Vec<i64>, Vec<i64>) {
    let mut pairs: Vec<(i64, i64)> = host
        .edge_src
        .iter()
        .zip(host.edge_dst)
        .map(|(&source, &target)| (source, host.node_id[target as usize]))
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs.into_iter().unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn self_loops_become_exactly_one_per_node_and_targets_ascend() {
        let edges = HostEdges::new(&[0, 0, 2, 1], &[0, 1, 1, 2], 3);
        assert_eq!(edges.dst, [0, 1, 1, 1, 2, 2]);
        assert_eq!(edges.src, [0, 0, 2, 1, 1, 2]);
        assert_eq!(edges.in_ptr, [0, 1, 4, 6]);
    }

    #[test]
    fn means_and_extrema_are_per_graph() {
        crate::runtime::init();
        let host = HostBatch {
            node_id: &[0, 1, 2],
            x: &[0.0; 30],
            edge_src: &[0],
            edge_dst: &[1],
            graph_of_node: &[0, 0, 1],
            labels: &[0, 1],
        };
        let batch = GraphBatch::from_host(&host, Device::Cpu);
        let values = Tensor::from_slice(&[1.0_f32, 3.0, -7.0]);
        assert_eq!(Vec::<i64>::try_from(&batch.node_ptr).unwrap(), [0, 2, 3]);
        assert_eq!(Vec::<f32>::try_from(batch.mean_by_graph(&values)).unwrap(), [2.0, -7.0]);
        assert_eq!(Vec::<f32>::try_from(batch.extremum_by_graph(&values, "amax")).unwrap(), [3.0, -7.0]);
        assert_eq!(Vec::<f32>::try_from(batch.extremum_by_graph(&values, "amin")).unwrap(), [1.0, -7.0]);
    }
}
