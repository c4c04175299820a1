//! Which device a job goes to, or every reason why none. Integers in MiB; never more is given away than a
//! device's budget less what slots, running attempts and foreign processes hold.

use crate::state::State;
use common::config::DeviceChoice;
use common::ids::{DeviceId, JobId, NodeId};
use common::job_key::JobKey;
use common::messages::{DeviceKind, DeviceReport};
use common::plan::JobSpec;
use common::slot::Place;
use common::units::{Mib, Millis};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// Room on the devices of the fleet at one moment. Placing several jobs in one go takes from it.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub rooms: Vec<Room>,
}

/// One device.
#[derive(Debug, Clone)]
pub struct Room {
    pub node: NodeId,
    pub device: DeviceId,
    pub kind: DeviceKind,
    pub model: String,
    pub budget_mib: Mib,
    pub foreign_mib: Option<Mib>,
    pub holders: Vec<Holder>,
    pub max_jobs: u32,
    /// Nothing can be placed here at all, whatever its size.
    pub shut: Option<Blocker>,
}

/// Who keeps memory of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    pub job: JobId,
    pub mib: Mib,
}

/// Why one device can not take a job now. `never` ones do not go away by waiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocker {
    Unreachable {
        silent_ms: u64,
    },
    NodeClosed {
        because: String,
    },
    DeviceFault {
        fault: String,
    },
    /// Foreign use can not be told, so nothing is promised.
    UseUnknown,
    WrongKind {
        wanted: DeviceKind,
    },
    TooSmall {
        budget_mib: Mib,
        need_mib: Mib,
    },
    NoRoom {
        need_mib: Mib,
        free_mib: Mib,
        holders: Vec<Holder>,
        foreign_mib: Option<Mib>,
    },
    Busy {
        jobs: u32,
        max_jobs: u32,
        holders: Vec<Holder>,
    },
    Declined {
        again_in_ms: u64,
        reason: String,
    },
}

impl Blocker {
    /// Waiting will not help: only another device or another need will.
    pub fn is_never(&self) -> bool {
        matches!(self, Blocker::WrongKind { .. } | Blocker::TooSmall { .. })
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |holders: &[Holder]| {
            let list: Vec<String> = holders.iter().map(|h| format!("{} {}", h.job.name, h.mib)).collect();
            list.join(", ")
        };
        match self {
            Blocker::Unreachable { silent_ms } => write!(f, "unreachable for {}", Millis(*silent_ms)),
            Blocker::NodeClosed { because } => write!(f, "takes nothing new: {because}"),
            Blocker::DeviceFault { fault } => write!(f, "device fault: {fault}"),
            Blocker::UseUnknown => write!(f, "its memory use can not be read"),
            Blocker::WrongKind { wanted: DeviceKind::Gpu } => write!(f, "not a GPU"),
            Blocker::WrongKind { wanted: DeviceKind::Cpu } => write!(f, "not a CPU"),
            Blocker::TooSmall { budget_mib, need_mib } => {
                write!(f, "too small: needs {need_mib}, may give {budget_mib} at most")
            }
            Blocker::NoRoom { need_mib, free_mib, holders, foreign_mib } => {
                write!(f, "needs {need_mib}, free {free_mib}")?;
                if !holders.is_empty() {
                    write!(f, "; reserved by {}", names(holders))?;
                }
                match foreign_mib {
                    Some(Mib(0)) | None => Ok(()),
                    Some(mib) => write!(f, "; unmanaged {mib}"),
                }
            }
            Blocker::Busy { jobs, max_jobs, holders } => {
                write!(f, "runs {jobs} of at most {max_jobs} jobs: {}", names(holders))
            }
            Blocker::Declined { again_in_ms, reason } => {
                write!(f, "declined ({reason}), asked again in {}", Millis(*again_in_ms))
            }
        }
    }
}

impl Room {
    pub fn reserved_mib(&self) -> Mib {
        self.holders.iter().map(|h| h.mib).sum()
    }

    /// What may still be given away; 0 when foreign use is unknown.
    pub fn free_mib(&self) -> Mib {
        match self.foreign_mib {
            Some(foreign) => self.budget_mib.saturating_sub(self.reserved_mib()).saturating_sub(foreign),
            None => Mib(0),
        }
    }
}

impl Fleet {
    /// The fleet as beats and slots show it.
    pub fn of(state: &State, now: Millis) -> Fleet {
        let mut rooms = Vec::new();
        for (node, seen) in &state.nodes {
            for report in &seen.beat.devices {
                let shut = if !state.is_reachable(node, now) {
                    Some(Blocker::Unreachable { silent_ms: now.since(seen.heard_at).0 })
                } else if let Some(because) = &seen.beat.closed_because {
                    Some(Blocker::NodeClosed { because: because.clone() })
                } else {
                    shut_by_report(report)
                };
                rooms.push(Room {
                    node: node.clone(),
                    device: report.id.clone(),
                    kind: report.kind,
                    model: report.model.clone(),
                    budget_mib: report.budget_mib,
                    foreign_mib: report.foreign_mib,
                    holders: holders(state, now, node, report),
                    max_jobs: report.max_jobs,
                    shut,
                });
            }
        }
        Fleet { rooms }
    }

    /// A GPU that is large enough when the fleet has one, else a CPU: waiting for a busy GPU beats days on
    /// a CPU.
    pub fn kind_for(&self, spec: &JobSpec) -> DeviceKind {
        match spec.tuning.device {
            DeviceChoice::Cuda => DeviceKind::Gpu,
            DeviceChoice::Cpu => DeviceKind::Cpu,
            DeviceChoice::Auto => {
                let fits = |r: &Room| r.kind == DeviceKind::Gpu && r.budget_mib >= spec.need.gpu_mib;
                if self.rooms.iter().any(fits) { DeviceKind::Gpu } else { DeviceKind::Cpu }
            }
        }
    }

    /// The device with the fewest jobs, then the tightest fit (large cards stay free for large jobs), then
    /// by name.
    pub fn place(&self, spec: &JobSpec, declined: &BTreeMap<NodeId, Blocker>) -> Option<Place> {
        let kind = self.kind_for(spec);
        let need = need_on(spec, kind);
        self.rooms
            .iter()
            .filter(|room| blocker(room, kind, need, declined).is_none())
            .min_by_key(|r| (r.holders.len(), r.free_mib(), r.node.clone(), r.device.clone()))
            .map(|r| Place { node: r.node.clone(), device: r.device.clone(), reserve_mib: need })
    }

    /// Every device with the reason why it can not take the job now.
    pub fn blockers(&self, spec: &JobSpec, declined: &BTreeMap<NodeId, Blocker>) -> Vec<DeviceBlocked> {
        let kind = self.kind_for(spec);
        let need = need_on(spec, kind);
        let blocked = |room: &Room| {
            blocker(room, kind, need, declined).map(|blocker| DeviceBlocked {
                node: room.node.clone(),
                device: room.device.clone(),
                model: room.model.clone(),
                blocker,
            })
        };
        self.rooms.iter().filter_map(blocked).collect()
    }

    /// Takes the room a placement needs, so that the next one sees it taken.
    pub fn take(&mut self, place: &Place, job: &JobId) {
        let found = self.rooms.iter_mut().find(|r| r.node == place.node && r.device == place.device);
        if let Some(room) = found {
            room.holders.push(Holder { job: job.clone(), mib: place.reserve_mib });
        }
    }
}

/// One line of `coord explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceBlocked {
    pub node: NodeId,
    pub device: DeviceId,
    pub model: String,
    pub blocker: Blocker,
}

/// What a job asks for on a device of this kind.
pub fn need_on(spec: &JobSpec, kind: DeviceKind) -> Mib {
    match kind {
        DeviceKind::Gpu => spec.need.gpu_mib,
        DeviceKind::Cpu => spec.need.cpu_mib,
    }
}

/// Nodes that declined this job a moment ago.
pub fn declined(state: &State, key: &JobKey, now: Millis) -> BTreeMap<NodeId, Blocker> {
    let pause = state.options.decline_pause;
    let mut nodes = BTreeMap::new();
    for ((k, node), at) in &state.declined {
        let since = now.since(*at);
        if k == key && since < pause {
            let reason = match state.slots.get(key).map(|s| &s.slot.state) {
                Some(common::slot::SlotState::Declined { place, reason }) if place.node == *node => {
                    reason.clone()
                }
                _ => "no room".to_owned(),
            };
            let again_in_ms = pause.0 - since.0;
            nodes.insert(node.clone(), Blocker::Declined { again_in_ms, reason });
        }
    }
    nodes
}

fn shut_by_report(report: &DeviceReport) -> Option<Blocker> {
    match (&report.fault, report.foreign_mib) {
        (Some(fault), _) => Some(Blocker::DeviceFault { fault: fault.clone() }),
        (None, None) => Some(Blocker::UseUnknown),
        (None, Some(_)) => None,
    }
}

fn blocker(
    room: &Room,
    kind: DeviceKind,
    need: Mib,
    declined: &BTreeMap<NodeId, Blocker>,
) -> Option<Blocker> {
    if room.kind != kind {
        return Some(Blocker::WrongKind { wanted: kind });
    }
    if room.budget_mib < need {
        return Some(Blocker::TooSmall { budget_mib: room.budget_mib, need_mib: need });
    }
    if let Some(shut) = room.shut.clone().or_else(|| declined.get(&room.node).cloned()) {
        return Some(shut);
    }
    let jobs = room.holders.len() as u32;
    if jobs >= room.max_jobs {
        return Some(Blocker::Busy { jobs, max_jobs: room.max_jobs, holders: room.holders.clone() });
    }
    if room.free_mib() < need {
        return Some(Blocker::NoRoom {
            need_mib: need,
            free_mib: room.free_mib(),
            holders: room.holders.clone(),
            foreign_mib: room.foreign_mib,
        });
    }
    None
}

/// Slots give the reservations that stand; the beat adds attempts that were fenced but still sit on the
/// device. An offer that nobody took in time keeps nothing: a lost one would shut out its own job, and two of
/// them (of two coordinators) each other, for ever. Should it be taken late after all, the agent's ledger
/// decides.
fn holders(state: &State, now: Millis, node: &NodeId, report: &DeviceReport) -> Vec<Holder> {
    let mut by_key: BTreeMap<JobKey, Holder> = BTreeMap::new();
    for (key, seen) in state.slots_on(node, &report.id) {
        if seen.is_stale_offer(now, &state.options) {
            continue;
        }
        if let Some(place) = seen.slot.state.reserved() {
            by_key.insert(*key, Holder { job: seen.slot.job.clone(), mib: place.reserve_mib });
        }
    }
    let running = state.nodes.get(node).map(|n| n.beat.running.as_slice()).unwrap_or_default();
    for attempt in running.iter().filter(|r| r.place.device == report.id) {
        let holder = Holder { job: attempt.job.clone(), mib: attempt.place.reserve_mib };
        by_key.entry(attempt.key).or_insert(holder);
    }
    by_key.into_values().collect()
}
