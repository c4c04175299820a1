//! Nodes of a window and their features.

use super::Transition;
use super::ids::IdSpace;
use crate::graph_set::{GraphSet, NODE_FEATURES};

/// What is summed up over a node's messages.
#[derive(Clone, Copy, Default)]
struct Sums {
    bytes: [u32; 8],
    count: u32,
    last_position: u32,
}

/// Buffers of the node pass; after it, the rank of each id and the degrees serve the edge pass.
#[derive(Default)]
pub(super) struct NodeScratch {
    /// Number of the window in which a dense id was last seen: no clearing between windows.
    seen_in: Vec<u32>,
    window: u32,
    /// Rank of each dense id among the window's nodes; valid where `seen_in` is this window.
    rank: Vec<u16>,
    /// Key in the upper, dense id in the lower half: sorting sorts by key.
    nodes: Vec<u64>,
    sums: Vec<Sums>,
    /// Occurrences as source + as target, by rank.
    degree: Vec<u32>,
}

impl NodeScratch {
    /// Finds the nodes of the window.
    pub(super) fn collect(&mut self, window: &[Transition], ids: &IdSpace) {
        self.number(window, ids.keys());
        self.sum_up(window);
    }

    /// Appends the collected nodes and their features to `out`, as the original has them.
    pub(super) fn write(&self, window: &[Transition], out: &mut GraphSet) {
        out.node_id.extend(self.nodes.iter().map(|&node| (node >> 32) as u32));
        self.write_features(window.len(), out);
    }

    /// Number of nodes.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Dense id of each node, by rank.
    pub(super) fn dense_ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.nodes.iter().map(|&node| node as u32)
    }

    /// Local node of a dense id of this window.
    pub(super) fn rank(&self, dense: u32) -> u16 {
        self.rank[dense as usize]
    }

    /// Occurrences of a local node as source and as target.
    pub(super) fn degree(&self, rank: u16) -> u32 {
        self.degree[rank as usize]
    }

    fn number(&mut self, window: &[Transition], keys: &[u32]) {
        self.seen_in.resize(keys.len(), 0);
        self.rank.resize(keys.len(), 0);
        self.window = self.window.wrapping_add(1);
        if self.window == 0 {
            // After 4 billion windows the marks of the first ones would look fresh.
            self.seen_in.fill(0);
            self.window = 1;
        }
        self.nodes.clear();
        for transition in window {
            for dense in [transition.source, transition.target] {
                let seen = &mut self.seen_in[dense as usize];
                if *seen != self.window {
                    *seen = self.window;
                    self.nodes.push(u64::from(keys[dense as usize]) << 32 | u64::from(dense));
                }
            }
        }
        self.nodes.sort_unstable();
        for (rank, &node) in (0u16..).zip(&self.nodes) {
            self.rank[node as u32 as usize] = rank;
        }
    }

    fn sum_up(&mut self, window: &[Transition]) {
        self.sums.clear();
        self.sums.resize(self.nodes.len(), Sums::default());
        self.degree.clear();
        self.degree.resize(self.nodes.len(), 0);
        for (position, transition) in (0u32..).zip(window) {
            let rank = self.rank[transition.source as usize] as usize;
            let sums = &mut self.sums[rank];
            for (sum, &byte) in sums.bytes.iter_mut().zip(&transition.payload) {
                *sum += u32::from(byte);
            }
            sums.count += 1;
            sums.last_position = position;
            self.degree[rank] += 1;
            self.degree[self.rank[transition.target as usize] as usize] += 1;
        }
    }

    /// Columns 1 to 10 of the original: byte means / 255, count, last position. A node that is a target only keeps
    /// zeros, but its count of 0 takes part in the scaling of the counts.
    fn write_features(&self, rows: usize, out: &mut GraphSet) {
        let counts = || self.sums.iter().map(|sums| sums.count);
        let (least, most) = (counts().min().unwrap_or(0), counts().max().unwrap_or(0));
        let last_row = (rows.max(2) - 1) as f64;
        for sums in &self.sums {
            let mut features = [0f32; NODE_FEATURES];
            if sums.count > 0 {
                let scale = 1.0 / (f64::from(sums.count) * 255.0);
                for (feature, &sum) in features.iter_mut().zip(&sums.bytes) {
                    *feature = (f64::from(sum) * scale) as f32;
                }
                features[9] = (f64::from(sums.last_position) / last_row) as f32;
            }
            features[8] = if most > least {
                (f64::from(sums.count - least) / f64::from(most - least)) as f32
            } else {
                sums.count as f32
            };
            out.x.extend_from_slice(&features);
        }
    }
}
