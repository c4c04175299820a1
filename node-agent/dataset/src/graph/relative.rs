//! Features of a node relative to its vehicle's profile.

use super::Transition;
use super::nodes::NodeScratch;
use crate::graph_set::{GraphSet, NODE_FEATURES};
use crate::profile::{Mark, VehicleProfile};

/// An id of the profile is overdue after so many of its periods.
const OVERDUE_PERIODS: f64 = 3.0;
/// Octaves that fill the range of a feature.
const LATENESS_RANGE: f32 = 4.0;
const IRREGULAR_RANGE: f32 = 2.0;
const RATE_RANGE: f64 = 8.0;

/// Marks of one node's messages in the window.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: u32,
    earliest: f32,
    latest: f32,
    irregular: f32,
    jumps: f32,
    largest_jump: f32,
    odd_len: u32,
}

/// Buffers of the pass.
#[derive(Default)]
pub(super) struct RelativeScratch {
    sums: Vec<Sums>,
}

impl RelativeScratch {
    /// Appends roles and features of the window's nodes, as collected in `nodes`, to `out`.
    ///
    /// All features lie in [0, 1]: 0 stranger, 1 root of its share of the window, 2 how often it came against how
    /// often its period allows (one half = as often), 3 earliest and 4 latest message in octaves of the period,
    /// 5 mean of both ways, 6 mean and 7 largest share of bytes that jump, 8 share of messages of another length,
    /// 9 share of the vehicle's ids that are overdue (the same at every node).
    pub(super) fn build(
        &mut self,
        window: &[Transition],
        marks: &[Mark],
        nodes: &NodeScratch,
        profile: &VehicleProfile,
        out: &mut GraphSet,
    ) {
        self.sum_up(window, marks, nodes);
        let rows = window.len() as f64;
        let last_s = window[window.len() - 1].timestamp_s;
        let span_s = (last_s - window[0].timestamp_s).max(0.0) * rows / (rows - 1.0).max(1.0);
        let overdue = profile.overdue(last_s, OVERDUE_PERIODS);
        for (dense, sums) in nodes.dense_ids().zip(&self.sums) {
            let period_s = profile.period_s(dense);
            let count = f64::from(sums.count);
            let expected = period_s.map_or(0.0, |period| span_s / period);
            let rate = ((count + 0.5) / (expected + 0.5)).log2();
            let share = |value: f32| value / sums.count.max(1) as f32;
            let unit = |value: f32| value.clamp(0.0, 1.0);
            let features: [f32; NODE_FEATURES] = [
                if period_s.is_some() { 0.0 } else { 1.0 },
                (count / rows).sqrt() as f32,
                unit((rate / RATE_RANGE + 0.5) as f32),
                unit(-sums.earliest / LATENESS_RANGE),
                unit(sums.latest / LATENESS_RANGE),
                unit(share(sums.irregular) / IRREGULAR_RANGE),
                unit(share(sums.jumps)),
                unit(sums.largest_jump),
                share(sums.odd_len as f32),
                overdue,
            ];
            out.node_id.push(profile.role(dense));
            out.x.extend_from_slice(&features);
        }
    }

    fn sum_up(&mut self, window: &[Transition], marks: &[Mark], nodes: &NodeScratch) {
        self.sums.clear();
        self.sums.resize(nodes.len(), Sums::default());
        for (transition, mark) in window.iter().zip(marks) {
            let sums = &mut self.sums[nodes.rank(transition.source) as usize];
            sums.count += 1;
            sums.earliest = sums.earliest.min(mark.lateness);
            sums.latest = sums.latest.max(mark.lateness);
            sums.irregular += mark.lateness.abs();
            sums.jumps += mark.jump;
            sums.largest_jump = sums.largest_jump.max(mark.jump);
            sums.odd_len += u32::from(mark.odd_len);
        }
    }
}
