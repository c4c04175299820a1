//! Many small graphs in a few flat arrays.

mod file;
mod hash;

use serde::{Deserialize, Serialize};

use crate::attack::AttackKind;
use crate::digest::ContentDigest;
use crate::error::{DataError, Result};

/// Node features per node beside the id: 8 byte means, count, last position.
pub const NODE_FEATURES: usize = 10;
/// Edge features per edge, when asked for.
pub const EDGE_FEATURES: usize = 11;

/// A capture that windows come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureInfo {
    pub folder: String,
    pub name: String,
    pub attack_kind: AttackKind,
    /// Digest of the file's bytes.
    pub sha256: ContentDigest,
    /// False where no row carries a label (candump logs, suppress captures): accuracy means nothing there.
    pub has_labels: bool,
}

/// Graphs of windows, packed. With G graphs, N nodes and E edges in all:
///
/// Graph g has the nodes `node_offsets[g]..node_offsets[g+1]` and the edges
/// `edge_offsets[g]..edge_offsets[g+1]`; the ends of an edge are local (0 is the graph's first node), and a
/// graph's edges are distinct and sorted by (source, target). Nodes are sorted by id index.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphSet {
    /// G + 1 values, the first 0.
    pub node_offsets: Vec<u32>,
    /// G + 1 values, the first 0.
    pub edge_offsets: Vec<u32>,
    /// N vocabulary indices.
    pub node_id: Vec<u32>,
    /// N x [`NODE_FEATURES`], row-major.
    pub x: Vec<f32>,
    /// E local source nodes.
    pub edge_src: Vec<u16>,
    /// E local target nodes.
    pub edge_dst: Vec<u16>,
    /// E x [`EDGE_FEATURES`], row-major, where the configuration asked for them.
    pub edge_attr: Option<Vec<f32>>,
    /// G labels: 1 if any message of the window was injected.
    pub label: Vec<u8>,
    /// G indices into `captures`.
    pub capture: Vec<u32>,
    /// G times of the window's first message, seconds.
    pub start_s: Vec<f64>,
    pub captures: Vec<CaptureInfo>,
}

/// One graph of a set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GraphView<'a> {
    pub node_id: &'a [u32],
    /// Nodes x [`NODE_FEATURES`].
    pub x: &'a [f32],
    pub edge_src: &'a [u16],
    pub edge_dst: &'a [u16],
    /// Edges x [`EDGE_FEATURES`].
    pub edge_attr: Option<&'a [f32]>,
    pub label: u8,
    pub capture: u32,
    pub start_s: f64,
}

impl GraphSet {
    /// A set without graphs.
    pub fn empty(with_edge_features: bool) -> Self {
        Self {
            node_offsets: vec![0],
            edge_offsets: vec![0],
            node_id: Vec::new(),
            x: Vec::new(),
            edge_src: Vec::new(),
            edge_dst: Vec::new(),
            edge_attr: with_edge_features.then(Vec::new),
            label: Vec::new(),
            capture: Vec::new(),
            start_s: Vec::new(),
            captures: Vec::new(),
        }
    }

    /// Number of graphs.
    pub fn len(&self) -> usize {
        self.label.len()
    }

    pub fn is_empty(&self) -> bool {
        self.label.is_empty()
    }

    /// Number of graphs labelled 1.
    pub fn attack_count(&self) -> usize {
        self.label.iter().filter(|&&label| label != 0).count()
    }

    /// True if every capture a graph here comes from has labels.
    pub fn has_labels(&self) -> bool {
        let mut used = vec![false; self.captures.len()];
        self.capture.iter().for_each(|&c| used[c as usize] = true);
        self.captures.iter().zip(used).all(|(capture, used)| !used || capture.has_labels)
    }

    /// Range of the nodes of graph `g` in the node arrays.
    pub fn node_range(&self, g: usize) -> std::ops::Range<usize> {
        self.node_offsets[g] as usize..self.node_offsets[g + 1] as usize
    }

    /// Range of the edges of graph `g` in the edge arrays.
    pub fn edge_range(&self, g: usize) -> std::ops::Range<usize> {
        self.edge_offsets[g] as usize..self.edge_offsets[g + 1] as usize
    }

    /// Graph `g`; panics if there is none.
    pub fn graph(&self, g: usize) -> GraphView<'_> {
        let (nodes, edges) = (self.node_range(g), self.edge_range(g));
        GraphView {
            node_id: &self.node_id[nodes.clone()],
            x: &self.x[nodes.start * NODE_FEATURES..nodes.end * NODE_FEATURES],
            edge_src: &self.edge_src[edges.clone()],
            edge_dst: &self.edge_dst[edges.clone()],
            edge_attr: self
                .edge_attr
                .as_ref()
                .map(|attr| &attr[edges.start * EDGE_FEATURES..edges.end * EDGE_FEATURES]),
            label: self.label[g],
            capture: self.capture[g],
            start_s: self.start_s[g],
        }
    }

    /// Appends one graph; `graph.capture` must index `self.captures`.
    pub fn push(&mut self, graph: GraphView<'_>) -> Result<()> {
        if self.edge_attr.is_some() != graph.edge_attr.is_some() {
            return Err(DataError::Mismatch("one set has edge features, the other has none".into()));
        }
        self.node_id.extend_from_slice(graph.node_id);
        self.x.extend_from_slice(graph.x);
        self.edge_src.extend_from_slice(graph.edge_src);
        self.edge_dst.extend_from_slice(graph.edge_dst);
        if let (Some(all), Some(one)) = (&mut self.edge_attr, graph.edge_attr) {
            all.extend_from_slice(one);
        }
        self.close_graph(graph.label, graph.capture, graph.start_s)
    }

    /// Ends the graph whose nodes and edges were appended to the arrays.
    pub(crate) fn close_graph(&mut self, label: u8, capture: u32, start_s: f64) -> Result<()> {
        self.node_offsets.push(offset(self.node_id.len())?);
        self.edge_offsets.push(offset(self.edge_src.len())?);
        self.label.push(label);
        self.capture.push(capture);
        self.start_s.push(start_s);
        Ok(())
    }

    /// The chosen graphs in the given order, with the whole list of captures.
    pub fn select(&self, graphs: &[u32]) -> Result<Self> {
        let mut out = Self { captures: self.captures.clone(), ..Self::empty(self.edge_attr.is_some()) };
        let nodes: usize = graphs.iter().map(|&g| self.node_range(g as usize).len()).sum();
        let edges: usize = graphs.iter().map(|&g| self.edge_range(g as usize).len()).sum();
        out.reserve(graphs.len(), nodes, edges);
        graphs.iter().try_for_each(|&g| out.push(self.graph(g as usize)))?;
        Ok(out)
    }

    /// Appends all graphs of `other`; its captures go behind ours.
    pub fn append(&mut self, other: &Self) -> Result<()> {
        if self.edge_attr.is_some() != other.edge_attr.is_some() {
            return Err(DataError::Mismatch("one set has edge features, the other has none".into()));
        }
        offset(self.node_id.len() + other.node_id.len())?;
        offset(self.edge_src.len() + other.edge_src.len())?;
        let (nodes, edges) = (self.node_id.len() as u32, self.edge_src.len() as u32);
        let captures = self.captures.len() as u32;
        self.node_offsets.extend(other.node_offsets[1..].iter().map(|o| o + nodes));
        self.edge_offsets.extend(other.edge_offsets[1..].iter().map(|o| o + edges));
        self.node_id.extend_from_slice(&other.node_id);
        self.x.extend_from_slice(&other.x);
        self.edge_src.extend_from_slice(&other.edge_src);
        self.edge_dst.extend_from_slice(&other.edge_dst);
        if let (Some(ours), Some(theirs)) = (&mut self.edge_attr, &other.edge_attr) {
            ours.extend_from_slice(theirs);
        }
        self.label.extend_from_slice(&other.label);
        self.capture.extend(other.capture.iter().map(|c| c + captures));
        self.start_s.extend_from_slice(&other.start_s);
        self.captures.extend_from_slice(&other.captures);
        Ok(())
    }

    /// All graphs of all sets, in order. `with_edge_features` says what an empty list gives.
    pub fn concat(sets: &[Self], with_edge_features: bool) -> Result<Self> {
        let mut out = Self::empty(with_edge_features);
        out.reserve(
            sets.iter().map(Self::len).sum(),
            sets.iter().map(|set| set.node_id.len()).sum(),
            sets.iter().map(|set| set.edge_src.len()).sum(),
        );
        sets.iter().try_for_each(|set| out.append(set))?;
        Ok(out)
    }

    /// Bytes the arrays take.
    pub fn bytes(&self) -> u64 {
        let four = self.node_offsets.len() + self.edge_offsets.len() + self.node_id.len() + self.x.len();
        let four = four + self.capture.len() + self.edge_attr.as_ref().map_or(0, Vec::len);
        (4 * four + 4 * self.edge_src.len() + 9 * self.label.len()) as u64
    }

    fn reserve(&mut self, graphs: usize, nodes: usize, edges: usize) {
        self.node_offsets.reserve(graphs);
        self.edge_offsets.reserve(graphs);
        self.node_id.reserve(nodes);
        self.x.reserve(nodes * NODE_FEATURES);
        self.edge_src.reserve(edges);
        self.edge_dst.reserve(edges);
        if let Some(attr) = &mut self.edge_attr {
            attr.reserve(edges * EDGE_FEATURES);
        }
        self.label.reserve(graphs);
        self.capture.reserve(graphs);
        self.start_s.reserve(graphs);
    }
}

/// Offsets are u32: 4 billion nodes or edges a set.
fn offset(length: usize) -> Result<u32> {
    u32::try_from(length)
        .map_err(|_| DataError::Mismatch(format!("{length} nodes or edges are more than one set can hold")))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A capture record for tests.
    pub(crate) fn capture(name: &str) -> CaptureInfo {
        CaptureInfo {
            folder: "train_01".into(),
            name: name.into(),
            attack_kind: AttackKind::Normal,
            sha256: ContentDigest::of(name.as_bytes()),
            has_labels: true,
        }
    }

    /// Graphs with 1, 2, ... n nodes in a chain, features made of `salt`, the graph's and the node's number.
    pub(crate) fn chain_graphs(count: usize, salt: u32) -> GraphSet {
        let mut set = GraphSet::empty(false);
        set.captures.push(capture(&format!("chain-{salt}")));
        for g in 0..count {
            let nodes = g + 1;
            let node_id: Vec<u32> = (0..nodes as u32).map(|i| i + salt).collect();
            let x: Vec<f32> =
                (0..nodes * NODE_FEATURES).map(|i| (i + g) as f32 + salt as f32 * 0.5).collect();
            let edge_src: Vec<u16> = (0..nodes as u16 - 1).collect();
            let edge_dst: Vec<u16> = (1..nodes as u16).collect();
            let view = GraphView {
                node_id: &node_id,
                x: &x,
                edge_src: &edge_src,
                edge_dst: &edge_dst,
                edge_attr: None,
                label: (g % 2) as u8,
                capture: 0,
                start_s: g as f64,
            };
            set.push(view).unwrap();
        }
        set
    }

    #[test]
    fn select_and_concat_keep_graphs_whole() {
        let (a, b) = (chain_graphs(3, 0), chain_graphs(4, 7));
        let both = GraphSet::concat(&[a.clone(), b.clone()], false).unwrap();
        assert_eq!((both.len(), both.captures.len()), (7, 2));
        let back = both.select(&[5, 1]).unwrap();
        assert_eq!(back.graph(0).node_id, b.graph(2).node_id);
        assert_eq!(back.graph(0).x, b.graph(2).x);
        assert_eq!(back.graph(0).capture, 1);
        assert_eq!(back.graph(1).edge_dst, a.graph(1).edge_dst);
        assert_eq!(both.attack_count(), 3);
    }

    #[test]
    fn sets_with_and_without_edge_features_do_not_join() {
        let mut a = chain_graphs(1, 0);
        assert!(matches!(a.append(&GraphSet::empty(true)), Err(DataError::Mismatch(_))));
    }
}
