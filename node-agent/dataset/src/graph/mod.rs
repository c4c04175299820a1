//! Messages of one capture -> graphs of its windows.

mod edges;
mod ids;
mod nodes;

use crate::error::Result;
use crate::frames::Frames;
use crate::graph_set::{CaptureInfo, GraphSet};
use crate::window::{EdgeFeatures, WindowConfig};
pub(crate) use ids::IdSpace;

/// A message with its successor: one step of the path that a window's graph is made of.
#[derive(Clone, Copy)]
struct Transition {
    /// Dense number of the id of this message and of the next one.
    source: u32,
    target: u32,
    payload: [u8; 8],
    label: u8,
    timestamp_s: f64,
}

/// Takes a capture's messages chunk by chunk and builds the graph of each window as soon as it is full. Holds one
/// chunk and a window's worth of messages, whatever the capture's length.
pub(crate) struct CaptureBuilder {
    config: WindowConfig,
    ids: IdSpace,
    out: GraphSet,
    /// Transitions not yet done with.
    waiting: Vec<Transition>,
    /// Of `waiting`, the next window's first; beyond its end where the stride is larger than the window.
    head: usize,
    /// The last message seen, until its successor is known.
    pending: Option<Transition>,
    next_row: u64,
    scratch: Scratch,
}

/// Dense arrays used again for each window; none is a map.
#[derive(Default)]
struct Scratch {
    nodes: nodes::NodeScratch,
    edges: edges::EdgeScratch,
}

impl CaptureBuilder {
    /// `config` must be valid.
    pub(crate) fn new(config: &WindowConfig, ids: IdSpace, capture: CaptureInfo) -> Self {
        let mut out = GraphSet::empty(config.edge_features == EdgeFeatures::Full);
        out.captures.push(capture);
        Self {
            config: *config,
            ids,
            out,
            waiting: Vec::new(),
            head: 0,
            pending: None,
            next_row: 0,
            scratch: Scratch::default(),
        }
    }

    /// Takes the next messages of the capture.
    pub(crate) fn push(&mut self, frames: &Frames) -> Result<()> {
        self.waiting.reserve(frames.len());
        for row in 0..frames.len() {
            let source = self.ids.dense(frames.id[row]);
            let pending = self.pending.replace(Transition {
                source,
                target: source,
                payload: frames.payload[row],
                label: frames.label[row],
                timestamp_s: frames.timestamp_s[row],
            });
            if let Some(pending) = pending.filter(|_| !self.config.breaks_before(self.next_row)) {
                self.waiting.push(Transition { target: source, ..pending });
            }
            self.next_row += 1;
        }
        let (window, stride) = (self.config.window as usize, self.config.stride as usize);
        while self.head + window <= self.waiting.len() {
            self.build(self.head, self.head + window)?;
            self.head += stride;
        }
        let done = self.head.min(self.waiting.len());
        self.waiting.drain(..done);
        self.head -= done;
        Ok(())
    }

    /// The graphs. A capture shorter than a window gives one window.
    pub(crate) fn finish(mut self) -> Result<GraphSet> {
        if self.out.is_empty() && !self.waiting.is_empty() {
            self.build(0, self.waiting.len())?;
        }
        Ok(self.out)
    }

    fn build(&mut self, start: usize, end: usize) -> Result<()> {
        let window = &self.waiting[start..end];
        self.scratch.nodes.build(window, &self.ids, &mut self.out);
        self.scratch.edges.build(window, &self.scratch.nodes, &mut self.out);
        let label = window.iter().fold(0, |any, transition| any | transition.label);
        self.out.close_graph(label, 0, window[0].timestamp_s)
    }
}

#[cfg(test)]
mod tests;
