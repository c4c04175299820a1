//! Hashes of single graphs, to find windows that are copies of each other.

use twox_hash::XxHash3_128;

use super::{GraphSet, GraphView};

impl GraphSet {
    /// Hash of everything a model sees of graph `g` and its label; not of where and when it was recorded.
    pub fn content_hash(&self, g: usize) -> u128 {
        let mut bytes = Vec::new();
        write_input(&self.graph(g), &mut bytes);
        bytes.push(self.label[g]);
        XxHash3_128::oneshot(&bytes)
    }

    /// Hash of what a model sees of graph `g`, without its label.
    pub fn input_hash(&self, g: usize) -> u128 {
        let mut bytes = Vec::new();
        write_input(&self.graph(g), &mut bytes);
        XxHash3_128::oneshot(&bytes)
    }
}

/// Lengths first, so that no two different graphs give the same bytes.
fn write_input(graph: &GraphView<'_>, out: &mut Vec<u8>) {
    out.extend((graph.node_id.len() as u32).to_le_bytes());
    out.extend((graph.edge_src.len() as u32).to_le_bytes());
    graph.node_id.iter().for_each(|v| out.extend(v.to_le_bytes()));
    graph.x.iter().for_each(|v| out.extend(v.to_le_bytes()));
    graph.edge_src.iter().chain(graph.edge_dst).for_each(|v| out.extend(v.to_le_bytes()));
    graph.edge_attr.unwrap_or_default().iter().for_each(|v| out.extend(v.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use crate::graph_set::tests::chain_graphs;

    #[test]
    fn hash_sees_content_but_neither_capture_nor_time() {
        let mut set = chain_graphs(3, 0);
        let (content, input) = (set.content_hash(2), set.input_hash(2));
        set.start_s[2] = 99.0;
        set.captures.push(set.captures[0].clone());
        set.capture[2] = 1;
        assert_eq!((set.content_hash(2), set.input_hash(2)), (content, input));
        set.label[2] ^= 1;
        assert_eq!(set.input_hash(2), input);
        assert_ne!(set.content_hash(2), content);
        let node = set.node_range(2).start;
        set.node_id[node] += 1;
        assert_ne!(set.input_hash(2), input);
    }
}
