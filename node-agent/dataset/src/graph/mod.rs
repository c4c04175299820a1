//! Messages of one capture -> graphs of its windows.

mod edges;
mod ids;
mod nodes;
mod relative;

use crate::error::Result;
use crate::frames::{Frame, Frames};
use crate::graph_set::{CaptureInfo, GraphSet};
use crate::profile::{ADDED, Mark, ProfileConfig, Variation, VehicleProfile};
use crate::window::{EdgeFeatures, NodeEncoding, WindowConfig};
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
/// chunk and a window's worth of messages, whatever the capture's length; the first messages, too, until they make
/// a profile, where the encoding wants one.
pub(crate) struct CaptureBuilder {
    config: WindowConfig,
    ids: IdSpace,
    out: GraphSet,
    /// Transitions not yet done with.
    waiting: Vec<Transition>,
    /// Of `waiting`, the next window's first; beyond its end where the stride is larger than the window.
    head: usize,
    /// True once graphs were taken out by [`Self::drain`].
    handed_out: bool,
    /// The last message seen, until its successor is known.
    pending: Option<Transition>,
    next_row: u64,
    relative: Option<Relative>,
    nodes: nodes::NodeScratch,
    edges: edges::EdgeScratch,
}

/// What the relative encoding keeps of a capture.
struct Relative {
    config: ProfileConfig,
    state: ProfileState,
    /// Of each transition in `waiting`, and of the pending message.
    marks: Vec<Mark>,
    pending: Mark,
    scratch: relative::RelativeScratch,
    variation: Option<Variation>,
    /// Of each graph, whether it holds a message that the variation added.
    has_added: Vec<bool>,
}

impl Relative {
    fn new(config: ProfileConfig) -> Self {
        Self {
            config,
            state: ProfileState::Learning(Frames::default()),
            marks: Vec::new(),
            pending: Mark::default(),
            scratch: relative::RelativeScratch::default(),
            variation: None,
            has_added: Vec::new(),
        }
    }
}

/// Learning -> Known, once enough messages are there or the capture ends.
enum ProfileState {
    Learning(Frames),
    Known(VehicleProfile),
}

impl CaptureBuilder {
    /// `config` must be valid. With a profile ids stay as they are, whatever `ids` says: strangers must not become
    /// one.
    pub(crate) fn new(config: &WindowConfig, ids: IdSpace, capture: CaptureInfo) -> Self {
        let mut out = GraphSet::empty(config.edge_features == EdgeFeatures::Full);
        out.captures.push(capture);
        let (relative, ids) = match config.nodes {
            NodeEncoding::Ids => (None, ids),
            NodeEncoding::Profile(config) => (Some(Relative::new(config)), IdSpace::raw()),
        };
        Self {
            config: *config,
            ids,
            out,
            waiting: Vec::new(),
            head: 0,
            handed_out: false,
            pending: None,
            next_row: 0,
            relative,
            nodes: nodes::NodeScratch::default(),
            edges: edges::EdgeScratch::default(),
        }
    }

    /// Makes a varied copy instead; without effect where the encoding has no profile.
    pub(crate) fn varied_by(mut self, variation: Variation) -> Self {
        if let Some(relative) = &mut self.relative {
            relative.variation = Some(variation);
        }
        self
    }

    /// Takes the next messages of the capture.
    pub(crate) fn push(&mut self, frames: &Frames) -> Result<()> {
        match &mut self.relative {
            Some(Relative { state: ProfileState::Learning(held), config, .. }) => {
                held.append(frames);
                if held.len() >= config.messages as usize { self.profile_is_due() } else { Ok(()) }
            }
            _ => self.take(frames),
        }
    }

    /// The graphs. A capture shorter than a window gives one window.
    pub(crate) fn finish(self) -> Result<GraphSet> {
        self.finish_varied().map(|(graphs, _)| graphs)
    }

    /// The graphs of a varied copy, and whether each holds an added message; no list where there is no profile.
    pub(crate) fn finish_varied(mut self) -> Result<(GraphSet, Vec<bool>)> {
        self.profile_is_due()?;
        if self.out.is_empty() && !self.handed_out && !self.waiting.is_empty() {
            self.build(0, self.waiting.len())?;
        }
        Ok((self.out, self.relative.map(|relative| relative.has_added).unwrap_or_default()))
    }

    /// Learns the profile from the messages held back, if there is none yet, and takes them.
    fn profile_is_due(&mut self) -> Result<()> {
        let Some(relative) = &mut self.relative else { return Ok(()) };
        let ProfileState::Learning(held) = &mut relative.state else { return Ok(()) };
        let held = std::mem::take(held);
        let first = (0..held.len().min(relative.config.messages as usize)).map(|row| held.frame(row));
        let mut profile = VehicleProfile::learn(first, |id| self.ids.dense(id));
        if let Some(variation) = &mut relative.variation {
            variation.hide_slow_ids(&mut profile);
        }
        relative.state = ProfileState::Known(profile);
        self.take(&held)
    }

    fn take(&mut self, frames: &Frames) -> Result<()> {
        self.waiting.reserve(frames.len());
        for row in 0..frames.len() {
            let frame = frames.frame(row);
            if self.relative.as_ref().is_some_and(|relative| relative.variation.is_some()) {
                self.take_varied(frame)?;
            } else {
                self.take_one(&frame)?;
            }
        }
        let done = self.head.min(self.waiting.len());
        self.waiting.drain(..done);
        if let Some(relative) = &mut self.relative {
            relative.marks.drain(..done);
        }
        self.head -= done;
        Ok(())
    }

    /// Takes what the variation makes of a message.
    fn take_varied(&mut self, frame: Frame) -> Result<()> {
        let Some(Relative { state: ProfileState::Known(profile), variation: Some(variation), .. }) =
            &mut self.relative
        else {
            return self.take_one(&frame);
        };
        let id_of = |dense: u32| self.ids.key(dense);
        let before = variation.before(&frame, profile).iter();
        let mut frames: Vec<Frame> =
            before.map(|&(dense, frame)| Frame { id: id_of(dense), ..frame }).collect();
        frames.extend(variation.rewrite(frame, profile, id_of));
        frames.iter().try_for_each(|frame| self.take_one(frame))
    }

    fn take_one(&mut self, frame: &Frame) -> Result<()> {
        let source = self.ids.dense(frame.id);
        let mark = match &mut self.relative {
            Some(Relative { state: ProfileState::Known(profile), .. }) => profile.mark(source, frame),
            _ => Mark::default(),
        };
        let pending = self.pending.replace(Transition {
            source,
            target: source,
            payload: frame.payload,
            label: frame.label,
            timestamp_s: frame.timestamp_s,
        });
        let follows = !self.config.breaks_before(self.next_row);
        self.next_row += 1;
        if let Some(relative) = &mut self.relative {
            let mark = std::mem::replace(&mut relative.pending, mark);
            if follows && pending.is_some() {
                relative.marks.push(mark);
            }
        }
        if let Some(pending) = pending.filter(|_| follows) {
            self.waiting.push(Transition { target: source, ..pending });
            // Each window at once: the profile must not know what lies behind it.
            self.build_full_windows()?;
        }
        Ok(())
    }

    fn build_full_windows(&mut self) -> Result<()> {
        let (window, stride) = (self.config.window as usize, self.config.stride as usize);
        while self.head + window <= self.waiting.len() {
            self.build(self.head, self.head + window)?;
            self.head += stride;
        }
        Ok(())
    }

    /// Takes out the graphs that are ready by now; [`Self::finish`] then gives the rest.
    pub(crate) fn drain(&mut self) -> GraphSet {
        self.handed_out |= !self.out.is_empty();
        let mut rest = GraphSet::empty(self.out.edge_attr.is_some());
        rest.captures.clone_from(&self.out.captures);
        if let Some(relative) = &mut self.relative {
            relative.has_added.clear();
        }
        std::mem::replace(&mut self.out, rest)
    }

    fn build(&mut self, start: usize, end: usize) -> Result<()> {
        let window = &self.waiting[start..end];
        self.nodes.collect(window, &self.ids);
        match &mut self.relative {
            Some(Relative { state: ProfileState::Known(profile), marks, scratch, .. }) => {
                scratch.build(window, &marks[start..end], &self.nodes, profile, &mut self.out);
            }
            _ => self.nodes.write(window, &mut self.out),
        }
        self.edges.build(window, &self.nodes, &mut self.out);
        let labels = window.iter().fold(0, |any, transition| any | transition.label);
        // Only varied copies ask, and a bus may be listened to for days.
        if let Some(relative) = self.relative.as_mut().filter(|relative| relative.variation.is_some()) {
            relative.has_added.push(labels & ADDED != 0);
        }
        self.out.close_graph(labels & !ADDED, 0, window[0].timestamp_s)
    }
}

#[cfg(test)]
mod relative_tests;
#[cfg(test)]
mod tests;
