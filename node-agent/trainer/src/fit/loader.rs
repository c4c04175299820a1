//! Graphs of a set to tensors on a device; host buffers are reused.

use dataset::{BatchArrays, EdgeOrder, GraphSet};
use tch::Device;

use crate::batch::{GraphBatch, HostBatch};

/// Collates batches of graph sets for one device.
#[derive(Debug)]
pub struct Loader {
    arrays: BatchArrays,
    device: Device,
}

impl Loader {
    #[must_use]
    pub fn new(device: Device) -> Self {
        Self { arrays: BatchArrays::default(), device }
    }

    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// The graphs `chosen` of `set` as one batch.
    pub fn load(&mut self, set: &GraphSet, chosen: &[u32]) -> GraphBatch {
        self.arrays.fill(set, chosen, EdgeOrder::Source);
        let arrays = &self.arrays;
        let host = HostBatch {
            node_id: &arrays.node_id,
            x: &arrays.x,
            edge_src: &arrays.edge_src,
            edge_dst: &arrays.edge_dst,
            graph_of_node: &arrays.graph_of_node,
            labels: &arrays.labels,
        };
        GraphBatch::from_host(&host, self.device)
    }

    /// Calls `visit` with the graphs of `pool` in order, `batch_size` at a time.
    pub fn for_each(
        &mut self,
        set: &GraphSet,
        pool: &[u32],
        batch_size: usize,
        mut visit: impl FnMut(&[u32], &GraphBatch),
    ) {
        for chosen in pool.chunks(batch_size.max(1)) {
            let batch = self.load(set, chosen);
            visit(chosen, &batch);
        }
    }
}
