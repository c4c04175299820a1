use super::*;
use crate::frames::Frame;
use crate::graph_set::tests::capture;
use crate::graph_set::{EDGE_FEATURES, GraphView, NODE_FEATURES};
use crate::vocabulary::Vocabulary;
use crate::window::ChunkRule;

/// Messages with the given ids; first data byte = position, one message a millisecond.
fn frames(ids: &[u32]) -> Frames {
    let mut frames = Frames { has_labels: true, ..Frames::default() };
    for (position, &id) in ids.iter().enumerate() {
        let payload = [position as u8, 255, 0, 0, 0, 0, 0, 0];
        frames.push(Frame { timestamp_s: position as f64 * 0.001, id, payload, len: 2, label: 0 });
    }
    frames
}

fn config(window: u32, stride: u32) -> WindowConfig {
    WindowConfig { window, stride, edge_features: EdgeFeatures::Full, ..WindowConfig::default() }
}

fn build(frames: &[Frames], config: &WindowConfig, ids: IdSpace) -> GraphSet {
    let mut builder = CaptureBuilder::new(config, ids, capture("a"));
    frames.iter().for_each(|frames| builder.push(frames).unwrap());
    builder.finish().unwrap()
}

fn node<'a>(graph: &GraphView<'a>, node: usize) -> &'a [f32] {
    &graph.x[node * NODE_FEATURES..(node + 1) * NODE_FEATURES]
}

/// A window worked out by hand: messages of the ids 7 3 7 3 5, then 9 as the last one's successor.
#[test]
fn window_by_hand() {
    let vocabulary = Vocabulary::new([3, 5, 7, 9]);
    let mut input = frames(&[7, 3, 7, 3, 5, 9]);
    input.label[2] = 1;
    let set = build(&[input], &config(5, 5), IdSpace::of(&vocabulary));
    assert_eq!(set.len(), 1);
    let graph = set.graph(0);
    assert_eq!(graph.node_id, [0, 1, 2, 3]);
    assert_eq!((graph.label, graph.start_s), (1, 0.0));

    // Id 3 sent at positions 1 and 3, id 5 at 4, id 7 at 0 and 2; id 9 is a target only. Counts 2 1 2 0.
    let mean = |a: f32, b: f32| (a + b) / 2.0 / 255.0;
    assert_eq!(node(&graph, 0), [mean(1.0, 3.0), 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.75]);
    assert_eq!(node(&graph, 1), [4.0 / 255.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0]);
    assert_eq!(node(&graph, 2), [mean(0.0, 2.0), 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.5]);
    assert_eq!(node(&graph, 3), [0.0; NODE_FEATURES]);

    // Pairs 7>3 (twice, at 0 and 2), 3>7 at 1, 3>5 at 3, 5>9 at 4; sorted by (source, target).
    assert_eq!(graph.edge_src, [0, 0, 1, 2]);
    assert_eq!(graph.edge_dst, [1, 2, 3, 0]);
    let attr = graph.edge_attr.unwrap();
    let edge = |e: usize| &attr[e * EDGE_FEATURES..(e + 1) * EDGE_FEATURES];
    // Degrees: 3 -> 2 sent + 2 received, 5 -> 1 + 1, 7 -> 2 + 1, 9 -> 0 + 1.
    assert_eq!(edge(0), [1.0, 0.2, 0.0, 0.0, 0.0, 0.6, 0.6, 0.0, 0.0, 8.0, 2.0]);
    assert_eq!(edge(1), [1.0, 0.2, 0.0, 0.0, 0.0, 0.2, 0.2, 0.0, 1.0, 12.0, 4.0 / 3.0]);
    assert_eq!(edge(2), [1.0, 0.2, 0.0, 0.0, 0.0, 0.8, 0.8, 0.0, 0.0, 2.0, 2.0]);
    assert_eq!(edge(3), [2.0, 0.4, 2.0, 0.0, 1.0, 0.0, 0.4, 0.4, 1.0, 12.0, 0.75]);
}

#[test]
fn gaps_of_an_edge() {
    // 1>2 at positions 0, 2 and 6: gaps 2 and 4, mean 3, population deviation 1.
    let set = build(&[frames(&[1, 2, 1, 2, 3, 3, 1, 2])], &config(7, 7), IdSpace::raw());
    let graph = set.graph(0);
    let first = &graph.edge_attr.unwrap()[..EDGE_FEATURES];
    assert_eq!((graph.edge_src[0], graph.edge_dst[0]), (0, 1));
    assert_eq!(&first[..5], [3.0, 3.0 / 7.0, 3.0, 1.0, 0.5]);
    // 3>3 is an edge onto itself, and its own reverse.
    let own = (0..graph.edge_src.len()).find(|&e| graph.edge_src[e] == 2 && graph.edge_dst[e] == 2).unwrap();
    assert_eq!(graph.edge_attr.unwrap()[own * EDGE_FEATURES + 8], 1.0);
}

#[test]
fn one_id_gives_one_node_with_a_self_loop() {
    let set = build(&[frames(&[4; 6])], &config(5, 5), IdSpace::raw());
    let graph = set.graph(0);
    assert_eq!((graph.node_id, graph.edge_src, graph.edge_dst), (&[4u32][..], &[0u16][..], &[0u16][..]));
    // All counts of the window equal: the count itself stays.
    assert_eq!(node(&graph, 0)[8], 5.0);
}

#[test]
fn unknown_ids_are_one_node() {
    let vocabulary = Vocabulary::new([1, 2]);
    let set = build(&[frames(&[1, 900, 2, 0x1234_5678, 901, 1])], &config(5, 5), IdSpace::of(&vocabulary));
    let graph = set.graph(0);
    assert_eq!(graph.node_id, [0, 1, 2]);
    assert_eq!(node(&graph, 2)[0], (1.0 + 3.0 + 4.0) / 3.0 / 255.0);
    assert_eq!(graph.edge_src, [0, 1, 2, 2, 2]);
    assert_eq!(graph.edge_dst, [2, 2, 0, 1, 2]);
}

#[test]
fn many_ids_give_a_path() {
    let ids: Vec<u32> = (0..3_001).map(|i| (i * 7919) % 3_001 + 0x1000).collect();
    let set = build(&[frames(&ids)], &config(3_000, 3_000), IdSpace::raw());
    let graph = set.graph(0);
    assert_eq!((graph.node_id.len(), graph.edge_src.len()), (3_001, 3_000));
    assert!(graph.node_id.is_sorted() && graph.edge_src.is_sorted());
}

#[test]
fn chunks_of_the_reader_do_not_show() {
    let ids: Vec<u32> = (0..997u32).map(|i| (i * i) % 23).collect();
    let whole = frames(&ids);
    for (window, stride) in [(10, 10), (10, 3), (10, 25), (400, 1_000), (100, 1)] {
        let expected = build(std::slice::from_ref(&whole), &config(window, stride), IdSpace::raw());
        assert_eq!(expected.len() as u64, config(window, stride).windows(997));
        for chunk in [1, 7, 50, 996] {
            let mut parts = Vec::new();
            for start in (0..ids.len()).step_by(chunk) {
                let mut part = Frames::default();
                for row in start..(start + chunk).min(ids.len()) {
                    part.push(Frame {
                        timestamp_s: whole.timestamp_s[row],
                        id: whole.id[row],
                        payload: whole.payload[row],
                        len: whole.len[row],
                        label: 0,
                    });
                }
                parts.push(part);
            }
            assert_eq!(build(&parts, &config(window, stride), IdSpace::raw()), expected);
        }
    }
}

#[test]
fn original_chunks_lose_their_last_row() {
    let ids: Vec<u32> = (0..5_003).map(|i| if i == 4_999 { 77 } else { i % 3 }).collect();
    let rule = |chunk_rule| WindowConfig { chunk_rule, ..config(5_001, 5_001) };
    let has_77_as_source = |set: &GraphSet| {
        let graph = set.graph(0);
        graph.edge_src.iter().any(|&node| graph.node_id[node as usize] == 77)
    };
    let whole = build(&[frames(&ids)], &rule(ChunkRule::Whole), IdSpace::raw());
    assert!(has_77_as_source(&whole));
    let original = build(&[frames(&ids)], &rule(ChunkRule::Original), IdSpace::raw());
    // Still somebody's target, at the end of its chunk, but no message of its own any more.
    assert!(original.graph(0).node_id.contains(&77) && !has_77_as_source(&original));
    assert_eq!(original.len(), 1);
}

#[test]
fn short_captures_give_one_short_window() {
    let set = build(&[frames(&[1, 2, 3])], &config(100, 100), IdSpace::raw());
    assert_eq!((set.len(), set.node_id.len(), set.edge_src.len()), (1, 3, 2));
    // Positions are scaled by the rows that are there.
    assert_eq!(node(&set.graph(0), 1)[9], 1.0);
    assert!(build(&[frames(&[1])], &config(100, 100), IdSpace::raw()).is_empty());
}
