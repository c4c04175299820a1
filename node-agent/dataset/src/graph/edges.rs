//! Edges of a window: the distinct pairs of successive ids, and their features when asked for.

use super::Transition;
use super::nodes::NodeScratch;
use crate::graph_set::{EDGE_FEATURES, GraphSet};

/// Buffers of the edge pass.
#[derive(Default)]
pub(super) struct EdgeScratch {
    /// (source, target, position) of each transition, packed so that sorting groups equal pairs in order of time.
    packed: Vec<u64>,
}

fn pair(packed: u64) -> u32 {
    (packed >> 32) as u32
}

fn reversed(pair: u32) -> u32 {
    pair.rotate_left(16)
}

impl EdgeScratch {
    /// Appends the edges of the window, sorted by (source, target), to `out`; features too if `out` has them.
    pub(super) fn build(&mut self, window: &[Transition], nodes: &NodeScratch, out: &mut GraphSet) {
        self.packed.clear();
        self.packed.extend((0u64..).zip(window).map(|(position, transition)| {
            let (source, target) = (nodes.rank(transition.source), nodes.rank(transition.target));
            u64::from(source) << 48 | u64::from(target) << 32 | position
        }));
        self.packed.sort_unstable();
        let mut attr = out.edge_attr.take();
        for group in self.packed.chunk_by(|a, b| pair(*a) == pair(*b)) {
            let (source, target) = ((group[0] >> 48) as u16, (group[0] >> 32) as u16);
            out.edge_src.push(source);
            out.edge_dst.push(target);
            if let Some(attr) = &mut attr {
                let reverse = reversed(pair(group[0]));
                let has_reverse = self.packed.binary_search_by_key(&reverse, |&p| pair(p)).is_ok();
                let degrees = (nodes.degree(source), nodes.degree(target));
                attr.extend(features(group, window.len(), has_reverse, degrees));
            }
        }
        out.edge_attr = attr;
    }
}

/// The original's eleven features of one edge; `group` holds its positions in the window, ascending.
fn features(
    group: &[u64],
    rows: usize,
    has_reverse: bool,
    (source_degree, target_degree): (u32, u32),
) -> [f32; EDGE_FEATURES] {
    let position = |packed: u64| f64::from(packed as u32);
    let (rows, count) = (rows as f64, group.len() as f64);
    let (first, last) = (position(group[0]), position(group[group.len() - 1]));
    let gaps = count - 1.0;
    let (mean, std) = if gaps > 0.0 {
        let mean = (last - first) / gaps;
        let square = |p: &[u64]| (position(p[1]) - position(p[0])).powi(2);
        let mean_square = group.windows(2).map(square).sum::<f64>() / gaps;
        (mean, (mean_square - mean * mean).max(0.0).sqrt())
    } else {
        (0.0, 0.0)
    };
    let regularity = if gaps > 0.0 { 1.0 / (1.0 + std) } else { 0.0 };
    // Degrees are small integers; their product and quotient are taken in f32 as the original does.
    let (source_degree, target_degree) = (source_degree as f32, target_degree as f32);
    [
        count as f32,
        (count / rows) as f32,
        mean as f32,
        std as f32,
        regularity as f32,
        (first / rows) as f32,
        (last / rows) as f32,
        ((last - first) / rows) as f32,
        f32::from(u8::from(has_reverse)),
        source_degree * target_degree,
        source_degree / target_degree,
    ]
}
