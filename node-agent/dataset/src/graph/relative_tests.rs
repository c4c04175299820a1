//! Graphs relative to a profile.

use super::*;
use crate::frames::Frame;
use crate::graph_set::NODE_FEATURES;
use crate::graph_set::tests::capture;
use crate::profile::STRANGER;

fn config() -> WindowConfig {
    let nodes = NodeEncoding::Profile(ProfileConfig { messages: 200 });
    WindowConfig { window: 10, stride: 10, nodes, ..WindowConfig::default() }
}

/// A car with an id that sends every 5 ms and one that sends every 20 ms; `offset` is added to both ids.
fn car(offset: u32, messages: usize) -> Frames {
    let mut frames = Frames { has_labels: true, ..Frames::default() };
    let mut step = 0u32;
    while frames.len() < messages {
        let mut send = |id: u32, after_s: f64| {
            let timestamp_s = f64::from(step) * 0.005 + after_s;
            frames.push(Frame { timestamp_s, id: id + offset, payload: [step as u8; 8], len: 8, label: 0 });
        };
        send(5, 0.0);
        if step.is_multiple_of(4) {
            send(3, 0.0001);
        }
        step += 1;
    }
    frames
}

fn build(frames: &Frames, chunk: usize) -> GraphSet {
    let mut builder = CaptureBuilder::new(&config(), IdSpace::raw(), capture("car"));
    for start in (0..frames.len()).step_by(chunk) {
        let mut part = Frames::default();
        (start..frames.len().min(start + chunk)).for_each(|row| part.push(frames.frame(row)));
        builder.push(&part).unwrap();
    }
    builder.finish().unwrap()
}

#[test]
fn the_same_car_under_other_ids_gives_the_same_graphs() {
    let (one, other) = (build(&car(0, 1_000), 1_000), build(&car(0x200, 1_000), 1_000));
    assert_eq!(one.len(), 99);
    assert_eq!((&one.x, &one.node_id, &one.edge_src), (&other.x, &other.node_id, &other.edge_src));
    assert!(one.x.iter().all(|x| (0.0..=1.0).contains(x)));
    // Nothing strange, nothing early or late, no jumps.
    for node in one.x.chunks(NODE_FEATURES) {
        assert_eq!(node[0], 0.0);
        assert!(node[3..10].iter().all(|&x| x < 0.02), "{node:?}");
    }
}

#[test]
fn chunks_of_the_reader_do_not_show() {
    let frames = car(0, 700);
    let whole = build(&frames, 700);
    for chunk in [1, 33, 250] {
        assert_eq!(build(&frames, chunk), whole);
    }
}

#[test]
fn a_flood_and_a_spoofed_id_show() {
    let mut frames = car(0, 400);
    let strange = Frame { id: 0x7ff, label: 1, ..frames.frame(399) };
    (0..10).for_each(|_| frames.push(strange));
    let spoofed = Frame { id: 3, label: 1, ..frames.frame(399) };
    (0..11).for_each(|_| frames.push(spoofed));
    let set = build(&frames, 1_000);
    let features = |graph: usize, node: usize| {
        let at = (set.node_range(graph).start + node) * NODE_FEATURES;
        &set.x[at..at + NODE_FEATURES]
    };
    // All ten messages of the window from one stranger, where none was expected.
    // Node 0 is the spoofed id, to which the last of them leads.
    let flood = features(40, 1);
    assert_eq!((set.label[40], set.graph(40).node_id[1]), (1, STRANGER));
    assert_eq!((flood[0], flood[1]), (1.0, 1.0));
    assert!(flood[2] > 0.99 && flood[3] == 0.0);
    // A known id, ten times too often and too early.
    let spoof = features(41, 0);
    assert_eq!((set.label[41], spoof[0], spoof[3]), (1, 0.0, 1.0));
    assert!(spoof[2] > 0.9 && spoof[5] > 0.9);
}

#[test]
fn a_capture_shorter_than_the_warm_up_is_its_own_profile() {
    let set = build(&car(0, 50), 50);
    assert_eq!(set.len(), 4);
    assert!(!set.node_id.contains(&STRANGER));
    assert_eq!(build(&car(0, 5), 5).len(), 1);
    assert!(build(&Frames::default(), 1).is_empty());
}
