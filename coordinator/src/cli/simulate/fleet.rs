//! A fleet from a file: what `coord nodes -o json` wrote, or by hand:
//!
//! ```yaml
//! nodes:
//!   gpu-1:
//!     - {model: NVIDIA GeForce RTX 4090, memory_mib: 24564, count: 2}
//!   box:
//!     - {kind: cpu, memory_mib: 64000}
//! ```
//! Share of the memory and jobs side by side are those of the card's profile, unless `budget_mib` or
//! `max_jobs` say otherwise.

use crate::cli::exit::{Exit, Fault};
use crate::cli::needs::{Models, models};
use anyhow::{Context as _, Result};
use common::config::Config;
use common::ids::{DeviceId, NodeId};
use common::messages::{DeviceKind, NodeBeat};
use common::units::Mib;
use coordinator_core::placement::{Fleet, Room};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Devices of one line; more is a slip of the finger.
const COUNT_MAX: u32 = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    nodes: BTreeMap<NodeId, Vec<Devices>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Devices {
    #[serde(default = "gpu")]
    kind: DeviceKind,
    #[serde(default)]
    model: Option<String>,
    memory_mib: Mib,
    #[serde(default = "one")]
    count: u32,
    #[serde(default)]
    budget_mib: Option<Mib>,
    #[serde(default)]
    max_jobs: Option<u32>,
}

fn gpu() -> DeviceKind {
    DeviceKind::Gpu
}

fn one() -> u32 {
    1
}

/// As `coord nodes -o json` writes it.
#[derive(Deserialize)]
struct Told {
    nodes: Vec<NodeBeat>,
}

/// The fleet, and the models of its devices.
pub fn read(path: &Path, config: &Config) -> Result<(Fleet, Models)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    parse(&text, config).map_err(|problem| {
        let message = format!("{} is no fleet: {problem}", path.display());
        let way_out = "write `nodes: {gpu-1: [{model: NVIDIA L4, memory_mib: 23034, count: 2}]}`, \
                       or save what `coord nodes -o json` tells";
        Fault::new(Exit::Error, message).way_out(way_out).into()
    })
}

fn parse(text: &str, config: &Config) -> Result<(Fleet, Models), String> {
    if let Ok(told) = serde_json::from_str::<Told>(text) {
        let beats: BTreeMap<NodeId, NodeBeat> = told.nodes.into_iter().map(|b| (b.node.clone(), b)).collect();
        return Ok((Fleet::of_beats(&beats), models(&beats)));
    }
    let written: Written = serde_saphyr::from_str(text).map_err(|e| e.without_snippet().to_string())?;
    let (mut rooms, mut models) = (Vec::new(), Models::new());
    for (node, devices) in &written.nodes {
        for line in devices {
            if line.count == 0 || line.count > COUNT_MAX {
                return Err(format!("{node}: count {} is not between 1 and {COUNT_MAX}", line.count));
            }
            let (model, room) = room(node, line, config)?;
            let total = models.entry((line.kind, model)).or_default();
            *total = line.memory_mib.max(*total);
            for _ in 0..line.count {
                let n = rooms.iter().filter(|r: &&Room| r.node == *node && r.kind == line.kind).count();
                let id = match (line.kind, n) {
                    (DeviceKind::Cpu, 0) => "cpu".to_owned(),
                    (DeviceKind::Cpu, n) => format!("cpu-{n}"),
                    (DeviceKind::Gpu, n) => format!("GPU-{n}"),
                };
                let device = DeviceId::new(id).map_err(|e| e.to_string())?;
                rooms.push(Room { device, ..room.clone() });
            }
        }
    }
    if rooms.is_empty() {
        return Err("it has no device".to_owned());
    }
    Ok((Fleet::of_rooms(rooms), models))
}

fn room(node: &NodeId, line: &Devices, config: &Config) -> Result<(String, Room), String> {
    let (model, profile) = match (line.kind, &line.model) {
        (DeviceKind::Gpu, Some(model)) => {
            (model.clone(), config.profiles.profile_for(model, line.memory_mib).1)
        }
        (DeviceKind::Gpu, None) => {
            return Err(format!("{node}: a GPU without `model`, its name as NVML tells it"));
        }
        (DeviceKind::Cpu, model) => {
            (model.clone().unwrap_or_else(|| "CPU".to_owned()), config.profiles.cpu().1)
        }
    };
    let room = Room {
        node: node.clone(),
        device: DeviceId::new("x").map_err(|e| e.to_string())?,
        kind: line.kind,
        model: model.clone(),
        budget_mib: line.budget_mib.unwrap_or_else(|| line.memory_mib.permille(profile.cap_permille())),
        foreign_mib: Some(Mib(0)),
        foreign: Vec::new(),
        holders: Vec::new(),
        max_jobs: line.max_jobs.unwrap_or(profile.max_per_gpu),
        shut: None,
    };
    Ok((model, room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_written_by_hand_gets_the_limits_of_its_profiles() {
        let text = "nodes:\n  a:\n    - {model: NVIDIA L4, memory_mib: 23034, count: 2}\n  \
                    b: [{kind: cpu, memory_mib: 1000, max_jobs: 3, budget_mib: 700}]\n";
        let (fleet, models) = parse(text, &Config::built_in()).unwrap();
        let told: Vec<String> = fleet
            .rooms
            .iter()
            .map(|r| format!("{} {} {} {}", r.node, r.device, r.budget_mib, r.max_jobs))
            .collect();
        assert_eq!(told, ["a GPU-0 20730 MiB 2", "a GPU-1 20730 MiB 2", "b cpu 700 MiB 3"]);
        assert_eq!(models[&(DeviceKind::Gpu, "NVIDIA L4".to_owned())], Mib(23_034));
    }

    #[test]
    fn what_is_no_fleet_is_refused_with_the_place() {
        let refused = |text: &str| parse(text, &Config::built_in()).err().unwrap();
        assert!(refused("nodes: {a: [{memory_mib: 5}]}").contains("without `model`"));
        assert!(refused("nodes: {a: [{model: x, memory_mib: 5, coutn: 2}]}").contains("coutn"));
        assert!(refused("nodes: {a: [{model: x, memory_mib: 5, count: 0}]}").contains("count 0"));
        assert_eq!(refused("nodes: {}"), "it has no device");
    }
}
