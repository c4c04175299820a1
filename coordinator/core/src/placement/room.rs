//! The fleet as beats and slots show it at one moment.

use super::blocker::{Blocker, DeviceBlocked};
use super::space::{Space, Want};
use crate::state::{NodeSeen, SlotSeen, State};
use common::chain::JobRecord;
use common::config::{DeviceChoice, PlacementPolicy};
use common::ids::{ChainId, DeviceId, JobId, NodeId};
use common::job_key::JobKey;
use common::messages::{DeviceKind, DeviceReport, ForeignUse, NodeBeat};
use common::plan::JobSpec;
use common::slot::SlotState;
use common::units::{Mib, Millis};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Clone, Default)]
pub struct Fleet {
    pub rooms: Vec<Room>,
    /// Every size of device that the fleet has, full or not, also where `rooms` holds a part of it.
    pub sizes: BTreeSet<Size>,
}

/// Kind, model and budget.
pub type Size = (DeviceKind, String, Mib);

/// One device.
#[derive(Debug, Clone)]
pub struct Room {
    pub node: NodeId,
    pub device: DeviceId,
    pub kind: DeviceKind,
    pub model: String,
    pub budget_mib: Mib,
    pub foreign_mib: Option<Mib>,
    pub foreign: Vec<ForeignUse>,
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
    /// It keeps the whole device.
    #[serde(skip)]
    pub exclusive: bool,
    /// Expected time to its end; `None` = not known.
    #[serde(skip)]
    pub left_ms: Option<u64>,
    /// It was asked to make way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub yields: bool,
}

impl Room {
    pub fn of_report(node: &NodeId, report: &DeviceReport) -> Room {
        Room {
            node: node.clone(),
            device: report.id.clone(),
            kind: report.kind,
            model: report.model.clone(),
            budget_mib: report.budget_mib,
            foreign_mib: report.foreign_mib,
            foreign: report.foreign.clone(),
            holders: Vec::new(),
            max_jobs: report.max_jobs,
            shut: match (&report.fault, report.foreign_mib) {
                (Some(fault), _) => Some(Blocker::DeviceFault { fault: fault.clone() }),
                (None, None) => Some(Blocker::UseUnknown),
                (None, Some(_)) => None,
            },
        }
    }

    /// `gpu-1 cpu`, or the node with the card's model and the start of its id.
    pub fn name(&self) -> String {
        match self.kind {
            DeviceKind::Cpu => format!("{} {}", self.node, self.device),
            DeviceKind::Gpu => {
                let id = self.device.as_str();
                format!("{} {} {}", self.node, self.model, &id[..id.len().min(12)])
            }
        }
    }

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

    pub fn jobs(&self) -> u32 {
        u32::try_from(self.holders.len()).unwrap_or(u32::MAX)
    }

    pub fn space(&self) -> Space {
        Space {
            kind: self.kind,
            budget_mib: self.budget_mib,
            free_mib: self.free_mib(),
            jobs: self.jobs(),
            max_jobs: self.max_jobs,
            kept_whole: self.holders.iter().any(|h| h.exclusive),
            shut: self.shut.is_some(),
        }
    }

    pub fn size(&self) -> Size {
        (self.kind, self.model.clone(), self.budget_mib)
    }

    /// What a job would want of this device.
    pub fn want(&self, spec: &JobSpec, kind: DeviceKind) -> Want {
        let (mib, _) = spec.need.on_device(kind, &self.model);
        Want { kind, mib, policy: spec.need.policy }
    }
}

impl Fleet {
    /// The whole fleet.
    pub fn of(state: &State, now: Millis) -> Fleet {
        let rooms = state.nodes.iter().flat_map(|(node, seen)| rooms_of(state, now, node, seen)).collect();
        Fleet::of_rooms(rooms)
    }

    /// Only nodes that may have room: what a decision looks through.
    pub fn with_room(state: &State, now: Millis) -> Fleet {
        let open = state.rooms.roomy().iter().filter_map(|node| Some((node, state.nodes.get(node)?)));
        let rooms = open.flat_map(|(node, seen)| rooms_of(state, now, node, seen)).collect();
        Fleet { rooms, sizes: state.rooms.sizes().cloned().collect() }
    }

    /// The devices that these beats tell of, with what runs there.
    pub fn of_beats(beats: &BTreeMap<NodeId, NodeBeat>) -> Fleet {
        let mut rooms = Vec::new();
        for (node, beat) in beats {
            for report in &beat.devices {
                let mut room = Room::of_report(node, report);
                if let Some(because) = &beat.closed_because {
                    room.shut = Some(Blocker::NodeClosed { because: because.clone() });
                }
                let here = beat.running.iter().filter(|r| r.place.device == report.id);
                room.holders.extend(here.map(|r| Holder {
                    job: r.job.clone(),
                    mib: r.place.reserve_mib,
                    exclusive: false,
                    left_ms: r.eta_ms,
                    yields: false,
                }));
                rooms.push(room);
            }
        }
        Fleet::of_rooms(rooms)
    }

    pub fn of_rooms(rooms: Vec<Room>) -> Fleet {
        let sizes = rooms.iter().map(Room::size).collect();
        Fleet { rooms, sizes }
    }

    /// Whether no device has a place left, whatever is asked.
    pub fn is_full(&self) -> bool {
        let full = |s: Space| s.shut || s.kept_whole || s.jobs >= s.max_jobs || s.free_mib == Mib(0);
        self.rooms.iter().all(|room| full(room.space()))
    }

    /// A GPU that is large enough when the fleet has one, else a CPU: waiting for a busy GPU beats days on
    /// a CPU.
    pub fn kind_for(&self, spec: &JobSpec) -> DeviceKind {
        match spec.tuning.device {
            DeviceChoice::Cuda => DeviceKind::Gpu,
            DeviceChoice::Cpu => DeviceKind::Cpu,
            DeviceChoice::Auto => {
                let fits = |(kind, model, budget): &Size| {
                    *kind == DeviceKind::Gpu && *budget >= spec.need.on_device(*kind, model).0
                };
                if self.sizes.iter().any(fits) { DeviceKind::Gpu } else { DeviceKind::Cpu }
            }
        }
    }

    /// Every device with the reason why it can not take the job now.
    pub fn blockers(&self, spec: &JobSpec, declined: &BTreeMap<NodeId, Blocker>) -> Vec<DeviceBlocked> {
        let kind = self.kind_for(spec);
        let blocked = |room: &Room| {
            let blocker = Blocker::of(room, &room.want(spec, kind), declined.get(&room.node))?;
            let (node, device, model) = (room.node.clone(), room.device.clone(), room.model.clone());
            Some(DeviceBlocked { node, device, model, blocker })
        };
        self.rooms.iter().filter_map(blocked).collect()
    }

    /// The device that comes nearest to what a job wants that fits none: its name and budget, and the need.
    pub fn nearest(&self, spec: &JobSpec) -> (DeviceKind, Mib, Option<(String, Mib)>) {
        let kind = self.kind_for(spec);
        let of_kind = self.rooms.iter().filter(|r| r.kind == kind);
        let lacks = |r: &&Room| (r.want(spec, kind).mib.saturating_sub(r.budget_mib), r.node.clone());
        match of_kind.min_by_key(lacks) {
            Some(r) => {
                let name = format!("{} {} ({})", r.node, r.device, r.model);
                (kind, r.want(spec, kind).mib, Some((name, r.budget_mib)))
            }
            None => (kind, spec.need.on_device(kind, "").0, None),
        }
    }

    /// Whether some device, were it empty, could take the job.
    pub fn ever_fits(&self, spec: &JobSpec) -> bool {
        let kind = self.kind_for(spec);
        self.sizes
            .iter()
            .any(|(k, model, budget)| *k == kind && *budget >= spec.need.on_device(kind, model).0)
    }
}

/// The devices of one node.
fn rooms_of<'a>(
    state: &'a State,
    now: Millis,
    node: &'a NodeId,
    seen: &'a NodeSeen,
) -> impl Iterator<Item = Room> + 'a {
    seen.beat.devices.iter().map(move |report| {
        let mut room = Room::of_report(node, report);
        if !state.is_reachable(node, now) {
            room.shut = Some(Blocker::Unreachable { silent_ms: now.since(seen.heard_at).0 });
        } else if let Some(because) = &seen.beat.closed_because {
            room.shut = Some(Blocker::NodeClosed { because: because.clone() });
        } else if let Some(because) = state.closed_by_decision(node) {
            room.shut = Some(Blocker::NodeClosed { because });
        }
        room.holders = holders(state, now, node, report);
        room
    })
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
        let Some(place) = seen.slot.state.reserved() else { continue };
        let job = seen.slot.job.clone();
        let chain = ChainId { plan: job.plan.clone(), dataset: job.name.dataset.clone() };
        let record = state.chains.get(&chain).and_then(|c| c.record.jobs.get(&job.name.phase));
        let left_ms = record.map(|record| left_ms(state, now, seen, record));
        let exclusive = record.is_some_and(|r| r.spec.need.policy == PlacementPolicy::Exclusive);
        let yields = matches!(seen.slot.state, SlotState::Held { yields: Some(_), .. });
        by_key.insert(*key, Holder { job, mib: place.reserve_mib, exclusive, left_ms, yields });
    }
    let running = state.nodes.get(node).map(|n| n.beat.running.as_slice()).unwrap_or_default();
    for attempt in running.iter().filter(|r| r.place.device == report.id) {
        // Without a slot it is on its way out.
        by_key.entry(attempt.key).or_insert_with(|| Holder {
            job: attempt.job.clone(),
            mib: attempt.place.reserve_mib,
            exclusive: false,
            left_ms: Some(0),
            yields: false,
        });
    }
    by_key.into_values().collect()
}

/// Expected time to the end of an attempt. A held slot is renewed each third of the lease, so its count tells
/// how long it has run, also over restarts of ours.
pub(crate) fn left_ms(state: &State, now: Millis, seen: &SlotSeen, record: &JobRecord) -> u64 {
    let SlotState::Held { beat, .. } = &seen.slot.state else { return record.expected_ms };
    let renewed = (state.options.lease.0 / 3).saturating_mul(*beat);
    let ran = renewed.saturating_add(now.since(seen.seen_at).0);
    record.expected_ms.saturating_sub(ran)
}
