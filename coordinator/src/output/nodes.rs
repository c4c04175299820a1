//! The page of `nodes`.

use super::{schema, table, words};
use common::messages::{DeviceReport, NodeBeat};
use common::units::{Mib, UnixMs};
use serde_json::{Value, json};

pub fn json(nodes: &[NodeBeat], at: UnixMs) -> Value {
    schema("nodes", json!({"at": at.to_string(), "nodes": nodes}))
}

/// One line a device.
pub fn table(nodes: &[NodeBeat]) -> String {
    if nodes.is_empty() {
        return "no node spoke within a beat: is a node-agent running, and on this bus?\n".to_owned();
    }
    let rows: Vec<Vec<String>> =
        nodes.iter().flat_map(|beat| beat.devices.iter().map(move |device| row(beat, device))).collect();
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
    table::render(&headers, &rows)
}

fn row(beat: &NodeBeat, device: &DeviceReport) -> Vec<String> {
    let here = beat.running.iter().filter(|r| r.place.device == device.id);
    let running: Vec<String> = here.map(|r| format!("{} {}", r.job.name, r.attempt)).collect();
    let free = device
        .foreign_mib
        .map(|foreign| device.budget_mib.saturating_sub(device.reserved_mib).saturating_sub(foreign));
    let note = device.fault.clone().map(|f| format!("fault: {f}"));
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
        };
        let text = table(&[beat]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("9978 MiB  2560 MiB (pid 4242)   7 %"), "{text}");
        assert!(
            lines[2].contains("unknown  can not be read") && lines[2].ends_with("fault: Xid 79"),
            "{text}"
        );
    }
}
