//! The devices of a machine as a probe sees them.

use super::super::queue::{Actor, Msg};
use super::{World, now};
use crate::sim::scenario::DeviceSpec;
use agent_core::{DeviceFacts, Event, ProcessUse, RunId};
use common::ids::DeviceId;
use common::messages::DeviceKind;
use common::units::Mib;

pub struct SimDevice {
    pub id: DeviceId,
    pub spec: DeviceSpec,
    pub foreign_mib: u64,
    /// Processes that ended a moment ago and still show on the card.
    pub ghosts: Vec<Ghost>,
}

pub struct Ghost {
    pub pid: u32,
    pub used_mib: u64,
    pub until: u64,
}

/// Share of a device that may be given away, in thousandths.
const CAP_PERMILLE: u32 = 900;
/// Beyond the pids of our children.
const FOREIGN_PID: u32 = 1_000_000;

impl SimDevice {
    pub fn new(spec: &DeviceSpec) -> SimDevice {
        let id = DeviceId::new(spec.name.clone()).expect("scenario names are clean");
        SimDevice { id, spec: spec.clone(), foreign_mib: 0, ghosts: Vec::new() }
    }

    pub fn budget_mib(&self) -> u64 {
        Mib(self.spec.total_mib).permille(CAP_PERMILLE).0
    }
}

/// Looks at all devices; the answer comes a little later than the look.
pub fn sample(w: &mut World, n: usize) {
    let taken_at = now(w, n);
    let (actor, life) = (Actor::Node(n), w.nodes[n].life);
    let delay = w.rng.range(2, 150);
    let blind = w.menu.blind_probe && w.rng.chance(150);
    let event = if blind && w.rng.chance(500) {
        Event::DevicesUnknown { message: "NVML: Unknown Error".into() }
    } else {
        let time = w.now;
        let node = &mut w.nodes[n];
        let mut devices = Vec::new();
        for device in &mut node.devices {
            device.ghosts.retain(|g| g.until > time);
            let alive = node.children.values().filter(|c| c.device == device.id);
            let mut processes: Vec<ProcessUse> = alive
                .map(|c| ProcessUse { pid: c.pid, used_mib: Some(Mib(c.used_mib)) })
                .chain(
                    device.ghosts.iter().map(|g| ProcessUse { pid: g.pid, used_mib: Some(Mib(g.used_mib)) }),
                )
                .collect();
            let ours: u64 = processes.iter().filter_map(|p| p.used_mib).map(|m| m.0).sum();
            if device.foreign_mib > 0 {
                processes.push(ProcessUse { pid: FOREIGN_PID, used_mib: Some(Mib(device.foreign_mib)) });
            }
            let gpu = device.spec.kind == DeviceKind::Gpu;
            devices.push(DeviceFacts {
                id: device.id.clone(),
                kind: device.spec.kind,
                model: device.spec.name.clone(),
                total_mib: Mib(device.spec.total_mib),
                used_mib: (!blind).then_some(Mib((ours + device.foreign_mib).min(device.spec.total_mib))),
                processes: gpu.then_some(processes),
                utilization_percent: None,
                fault: None,
                cap_permille: CAP_PERMILLE,
                max_jobs: device.spec.max_jobs,
            });
        }
        if blind && w.rng.chance(300) {
            devices.iter_mut().for_each(|d| d.total_mib = Mib(d.total_mib.0 / 2)); // a wrong total
        }
        if w.mutant == Some(crate::sim::Mutant::Overcommit) {
            for device in &mut devices {
                device.total_mib = Mib(device.total_mib.0 * 2);
                device.max_jobs = 4;
            }
        }
        Event::Devices { taken_at, devices }
    };
    w.tell(delay, actor, life, Msg::Agent(Box::new(event)));
}

/// A run's children that live on this machine.
pub fn child_of(w: &World, n: usize, run: RunId) -> Option<u32> {
    w.nodes[n].children.values().find(|c| c.run == run && c.life == w.nodes[n].life).map(|c| c.pid)
}
