//! The same plan on a fleet with one thing changed.

use super::{Question, forecast};
use crate::placement::{Fleet, Room};
use common::ids::{DeviceId, NodeId};
use common::messages::DeviceKind;
use common::units::Mib;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// One change, and what comes of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WhatIf {
    pub change: Change,
    pub makespan_ms: u64,
    pub lower_bound_ms: Option<u64>,
    /// Jobs that no device would take.
    pub impossible: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// One more device of a model that is there already, on a node of its own.
    OneMore {
        model: String,
        budget_mib: Mib,
    },
    LostNode {
        node: NodeId,
    },
}

/// One more of each kind of device, and each node lost.
pub fn what_if(question: &Question<'_>) -> Vec<WhatIf> {
    let mut changes: Vec<(Change, Fleet)> = Vec::new();
    let mut largest: BTreeMap<(DeviceKind, &str), &Room> = BTreeMap::new();
    for room in &question.fleet.rooms {
        let known = largest.entry((room.kind, &room.model)).or_insert(room);
        if room.budget_mib > known.budget_mib {
            *known = room;
        }
    }
    for room in largest.into_values() {
        let change = Change::OneMore { model: room.model.clone(), budget_mib: room.budget_mib };
        changes.push((change, with(question.fleet, room)));
    }
    let nodes: BTreeSet<&NodeId> = question.fleet.rooms.iter().map(|r| &r.node).collect();
    if nodes.len() > 1 {
        let lost = nodes
            .into_iter()
            .map(|node| (Change::LostNode { node: node.clone() }, without(question.fleet, node)));
        changes.extend(lost);
    }
    let answer = |(change, fleet): (Change, Fleet)| {
        let told = forecast(&Question { fleet: &fleet, seed: None, ..*question });
        let impossible = told.impossible.len();
        WhatIf { change, makespan_ms: told.makespan_ms, lower_bound_ms: told.lower_bound_ms, impossible }
    };
    changes.into_iter().map(answer).collect()
}

fn with(fleet: &Fleet, like: &Room) -> Fleet {
    let free = |n: &u32| {
        let name = format!("extra-{n}");
        !fleet.rooms.iter().any(|r| r.node.as_str() == name)
    };
    let n = (1..=u32::MAX).find(free).unwrap_or(0);
    let extra = Room {
        // Letters, digits and dashes are always a name.
        node: NodeId::new(format!("extra-{n}")).expect("a clean name"),
        device: DeviceId::new("extra").expect("a clean name"),
        holders: Vec::new(),
        foreign: Vec::new(),
        foreign_mib: Some(Mib(0)),
        shut: None,
        ..like.clone()
    };
    Fleet::of_rooms(fleet.rooms.iter().cloned().chain([extra]).collect())
}

fn without(fleet: &Fleet, node: &NodeId) -> Fleet {
    Fleet::of_rooms(fleet.rooms.iter().filter(|r| r.node != *node).cloned().collect())
}

/// Share of the fleet's places that are at work from start to end, between 0 and 1.
pub fn utilization(question: &Question<'_>, told: &super::Forecast) -> Option<f64> {
    let places: u64 =
        question.fleet.rooms.iter().filter(|r| r.shut.is_none()).map(|r| u64::from(r.max_jobs)).sum();
    let work: u64 = told.jobs.values().map(|e| e.end_ms - e.start_ms).sum();
    let whole = places.checked_mul(told.makespan_ms).filter(|whole| *whole > 0)?;
    Some(work as f64 / whole as f64)
}
