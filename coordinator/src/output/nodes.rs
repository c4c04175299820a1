//! The page of `nodes`.

use super::{schema, table, words};
use common::ids::NodeId;
use common::messages::{DeviceReport, NodeBeat};
use common::node::{DecidedBy, NodeRecord, NodeStanding};
use common::slot::Slot;
use common::units::{Mib, Millis, UnixMs};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub fn json(nodes: &[NodeBeat], decided: &Decided, at: UnixMs) -> Value {
    schema("nodes", json!({"at": at.to_string(), "nodes": nodes, "decided": decided}))
}

/// What was decided about nodes, those that are away among them.
pub type Decided = BTreeMap<NodeId, NodeRecord>;

/// One line a device.
pub fn table(nodes: &[NodeBeat], decided: &Decided, now: UnixMs) -> String {
    let away = decided.values().filter(|r| closes(r) && nodes.iter().all(|beat| beat.node != r.node));
    let away: String = away.map(|r| format!("{} is away; {}\n", r.node, standing(r, 0, now))).collect();
    if nodes.is_empty() {
        return format!("no node spoke within a beat: is a node-agent running, and on this bus?\n{away}");
    }
    let rows: Vec<Vec<String>> =
        nodes.iter().flat_map(|beat| beat.devices.iter().map(move |d| row(beat, d, decided, now))).collect();
    let headers = [
        "NODE",
        "DEVICE",
        "MODEL",
        ">TOTAL",
        ">BUDGET",
        ">RESERVED",
        ">FREE",
        "FOREIGN",
        ">UTIL",
        "RUNNING",
        "NOTE",
    ];
    let table = table::render(&headers, &rows);
    if away.is_empty() { table } else { format!("{table}\n\n{away}") }
}

fn closes(record: &NodeRecord) -> bool {
    record.standing != NodeStanding::Open
}

/// `draining for 2 min: new driver (1 attempt still there)`
fn standing(record: &NodeRecord, running: usize, now: UnixMs) -> String {
    let left = match (record.standing, running) {
        (NodeStanding::Open, _) | (NodeStanding::Cordoned | NodeStanding::Quarantined, 0) => String::new(),
        (NodeStanding::Draining { .. }, 0) => " (nothing is left there)".to_owned(),
        (_, 1) => " (1 attempt still there)".to_owned(),
        (_, many) => format!(" ({many} attempts still there)"),
    };
    let by = match record.by {
        DecidedBy::Operator => "",
        DecidedBy::Coordinator => " by the coordinator",
    };
    format!("{}{by}, {}: {}{left}", record.standing, words::ago(now, record.since), record.reason)
}

/// The answer to a decision.
pub fn decided_json(record: &NodeRecord, running: &[Slot]) -> Value {
    let jobs: Vec<String> = running.iter().map(|slot| slot.job.name.to_string()).collect();
    schema("node", json!({"decided": record, "running": jobs}))
}

pub fn decided(record: &NodeRecord, running: &[Slot]) -> String {
    let node = &record.node;
    let first = match record.standing {
        NodeStanding::Open => format!("{node} takes jobs again"),
        other => format!("{node} is {other}: nothing new is placed there ({})", record.reason),
    };
    let jobs: Vec<String> =
        running.iter().map(|slot| format!("{} {}", slot.job.name, slot.attempt)).collect();
    let jobs = jobs.join(", ");
    let second = match record.standing {
        _ if jobs.is_empty() => format!("nothing runs on {node}\n"),
        NodeStanding::Draining { after_ms: 0, .. } => {
            format!("asked to save a checkpoint and move: {jobs}\n`coord nodes` says what is still there\n")
        }
        NodeStanding::Draining { after_ms, .. } => {
            format!("may go on for {}, then asked to save a checkpoint and move: {jobs}\n", Millis(after_ms))
        }
        NodeStanding::Open | NodeStanding::Cordoned | NodeStanding::Quarantined => {
            format!("goes on there: {jobs}\n")
        }
    };
    format!("{first}\n{second}")
}

fn row(beat: &NodeBeat, device: &DeviceReport, decided: &Decided, now: UnixMs) -> Vec<String> {
    let here = beat.running.iter().filter(|r| r.place.device == device.id);
    let running: Vec<String> = here.map(|r| format!("{} {}", r.job.name, r.attempt)).collect();
    let free = device
        .foreign_mib
        .map(|foreign| device.budget_mib.saturating_sub(device.reserved_mib).saturating_sub(foreign));
    let note = device.fault.clone().map(|f| format!("fault: {f}"));
    let decision = decided.get(&beat.node).filter(|r| closes(r));
    let note = note.or_else(|| decision.map(|r| standing(r, beat.running.len(), now)));
    let note = note.or_else(|| beat.closed_because.clone().map(|b| format!("takes nothing new: {b}")));
    vec![
        beat.node.to_string(),
        device.id.as_str().chars().take(12).collect(),
        device.model.clone(),
        device.total_mib.to_string(),
        device.budget_mib.to_string(),
        device.reserved_mib.to_string(),
        free.map_or_else(|| "unknown".to_owned(), |f| f.to_string()),
        foreign(device),
        device.utilization_percent.map_or_else(words::dash, |p| format!("{p} %")),
        if running.is_empty() { words::dash() } else { running.join(", ") },
        note.unwrap_or_else(words::dash),
    ]
}

/// Memory of processes that are none of ours, with the largest of them.
fn foreign(device: &DeviceReport) -> String {
    match device.foreign_mib {
        None => "can not be read".to_owned(),
        Some(Mib(0)) => words::dash(),
        Some(total) => {
            let largest = device.foreign.iter().max_by_key(|f| f.used_mib);
            let pid = largest.map_or_else(String::new, |f| format!(" (pid {})", f.pid));
            format!("{total}{pid}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::Incarnation;
    use common::messages::{DeviceKind, ForeignUse};

    #[test]
    fn a_device_is_a_line_with_foreign_use_and_faults() {
        let device = |id: &str, foreign_mib, fault: Option<&str>| DeviceReport {
            id: id.parse().unwrap(),
            kind: DeviceKind::Gpu,
            model: "NVIDIA L4".into(),
            total_mib: Mib(23_034),
            budget_mib: Mib(20_730),
            reserved_mib: Mib(8192),
            foreign_mib,
            foreign: vec![ForeignUse { pid: 4242, used_mib: Some(Mib(2560)) }],
            max_jobs: 2,
            utilization_percent: Some(7),
            fault: fault.map(str::to_owned),
        };
        let beat = NodeBeat {
            node: "n1".parse().unwrap(),
            incarnation: Incarnation(1),
            seq: 1,
            agent_version: "0.1.0".into(),
            closed_because: None,
            devices: vec![device("GPU-1", Some(Mib(2560)), None), device("GPU-2", None, Some("Xid 79"))],
            running: Vec::new(),
            ceilings: Vec::new(),
        };
        let text = table(std::slice::from_ref(&beat), &Decided::new(), UnixMs(0));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("9978 MiB  2560 MiB (pid 4242)   7 %"), "{text}");
        assert!(
            lines[2].contains("unknown  can not be read") && lines[2].ends_with("fault: Xid 79"),
            "{text}"
        );
        let record = |node: &str, standing| NodeRecord {
            node: node.parse().unwrap(),
            standing,
            reason: "new driver".into(),
            by: DecidedBy::Operator,
            since: UnixMs(60_000),
        };
        let drain = record("n1", NodeStanding::Draining { after_ms: 0, grace_ms: None });
        let away = record("n9", NodeStanding::Cordoned);
        let open = record("n8", NodeStanding::Open);
        let decided = [drain, away, open].map(|r| (r.node.clone(), r)).into();
        let text = table(&[beat], &decided, UnixMs(180_000));
        assert!(text.contains("draining, 2 min 00 s ago: new driver (nothing is left there)"), "{text}");
        assert!(text.ends_with("n9 is away; cordoned, 2 min 00 s ago: new driver\n"), "{text}");
    }
}
