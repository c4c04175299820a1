//! The fleet in numbers: rooms and nodes by index, jobs of equal wants as one class. Cheap to copy, so that
//! a round can be tried before it is made.

use super::room::{Fleet, Room};
use super::space::{Space, Want};
use common::config::{DeviceChoice, PlacementPolicy};
use common::ids::{DeviceId, NodeId};
use common::messages::DeviceKind;
use common::plan::{JobSpec, MemoryNeed};
use common::units::Mib;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub struct Board<'a> {
    /// As in [`Fleet::rooms`].
    pub spaces: Vec<Space>,
    /// Node of each room.
    pub node_of: Vec<usize>,
    /// Shortest expected time until something ends there; `None` = nothing known to end.
    pub ends_in_ms: Vec<Option<u64>>,
    /// Longest wait for the node that holds what a job builds on.
    pub locality_wait_ms: u64,
    classes: std::rc::Rc<Classes<'a>>,
}

#[derive(Debug, Default)]
struct Classes<'a> {
    list: Vec<Class<'a>>,
}

/// Jobs that want the same of every device.
#[derive(Debug)]
struct Class<'a> {
    need: &'a MemoryNeed,
    device: DeviceChoice,
    kind: DeviceKind,
    /// Rooms that could take it if they were empty, with the memory wanted there.
    rooms: Vec<(usize, Mib)>,
}

/// Index of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClassId(usize);

/// Collects classes and names while the asks are read; then it is turned into a board.
pub struct Setup<'a> {
    fleet: &'a Fleet,
    rooms: BTreeMap<(&'a NodeId, &'a DeviceId), usize>,
    nodes: BTreeMap<&'a NodeId, usize>,
    classes: Classes<'a>,
}

impl<'a> Setup<'a> {
    pub fn new(fleet: &'a Fleet) -> Setup<'a> {
        let mut nodes = BTreeMap::new();
        for room in &fleet.rooms {
            let next = nodes.len();
            nodes.entry(&room.node).or_insert(next);
        }
        let named = fleet.rooms.iter().enumerate().map(|(at, room)| ((&room.node, &room.device), at));
        Setup { fleet, rooms: named.collect(), nodes, classes: Classes::default() }
    }

    /// `None` = a node without any room here.
    pub fn node(&self, node: &NodeId) -> Option<usize> {
        self.nodes.get(node).copied()
    }

    /// Index and kind of a room.
    pub fn room(&self, node: &NodeId, device: &DeviceId) -> Option<(usize, DeviceKind)> {
        let at = *self.rooms.get(&(node, device))?;
        Some((at, self.fleet.rooms[at].kind))
    }

    pub fn class(&mut self, spec: &'a JobSpec) -> ClassId {
        let same = |c: &Class<'_>| {
            c.device == spec.tuning.device && (std::ptr::eq(c.need, &spec.need) || *c.need == spec.need)
        };
        if let Some(at) = self.classes.list.iter().position(same) {
            return ClassId(at);
        }
        let kind = self.fleet.kind_for(spec);
        let fits = |(at, room): (usize, &Room)| {
            let want = room.want(spec, kind);
            (room.kind == kind && room.budget_mib >= want.mib).then_some((at, want.mib))
        };
        let rooms = self.fleet.rooms.iter().enumerate().filter_map(fits).collect();
        self.classes.list.push(Class { need: &spec.need, device: spec.tuning.device, kind, rooms });
        ClassId(self.classes.list.len() - 1)
    }

    pub fn board(self, locality_wait_ms: u64) -> Board<'a> {
        let rooms = &self.fleet.rooms;
        Board {
            spaces: rooms.iter().map(Room::space).collect(),
            node_of: rooms.iter().map(|r| self.nodes.get(&r.node).copied().unwrap_or(0)).collect(),
            ends_in_ms: rooms.iter().map(|r| r.holders.iter().filter_map(|h| h.left_ms).min()).collect(),
            locality_wait_ms,
            classes: std::rc::Rc::new(self.classes),
        }
    }
}

impl Board<'_> {
    pub fn classes(&self) -> usize {
        self.classes.list.len()
    }

    pub fn policy(&self, class: ClassId) -> PlacementPolicy {
        self.classes.list[class.0].need.policy
    }

    /// Rooms that could take this class if they were empty, with the memory wanted there.
    pub fn rooms_for(&self, class: ClassId) -> &[(usize, Mib)] {
        &self.classes.list[class.0].rooms
    }

    pub fn want(&self, class: ClassId, mib: Mib) -> Want {
        let class = &self.classes.list[class.0];
        Want { kind: class.kind, mib, policy: class.need.policy }
    }

    /// What a class wants of a room; `None` where it can never be.
    pub fn want_at(&self, class: ClassId, room: usize) -> Option<Want> {
        let rooms = self.rooms_for(class);
        let at = rooms.binary_search_by_key(&room, |(at, _)| *at).ok()?;
        Some(self.want(class, rooms[at].1))
    }

    pub fn fits(&self, room: usize, want: &Want) -> bool {
        self.spaces[room].obstacle(want).is_none()
    }
}

impl ClassId {
    pub fn index(self) -> usize {
        self.0
    }
}
