//! The jobs of a plan and what runs on the fleet already, as items of a board.

use crate::placement::Fleet;
use crate::placement::board::{Board, ClassId, Setup};
use crate::placement::play::{Item, ItemState};
use crate::placement::space::Want;
use crate::planner::history::{History, Size};
use common::config::PlacementPolicy;
use common::ids::{JobName, Phase};
use common::plan::{Plan, PlannedJob};
use std::collections::BTreeMap;

pub struct Line<'a> {
    pub board: Board<'a>,
    /// The jobs of the plan, then what runs already.
    pub items: Vec<Item>,
    /// Of each job on each room.
    lengths_ms: Vec<Vec<u64>>,
}

impl<'a> Line<'a> {
    /// `jobs`: parents before dependents.
    pub fn of(
        fleet: &'a Fleet,
        plan: &Plan,
        jobs: &[&'a PlannedJob],
        depends_on: &BTreeMap<Phase, Vec<Phase>>,
        history: &History,
    ) -> Line<'a> {
        let mut setup = Setup::new(fleet);
        let at: BTreeMap<&JobName, usize> =
            jobs.iter().enumerate().map(|(at, job)| (&job.spec.name, at)).collect();
        let item = |job: &&'a PlannedJob, class: ClassId| {
            let name = &job.spec.name;
            let above = depends_on.get(&name.phase).into_iter().flatten();
            let above = above.map(|phase| JobName::new(name.dataset.clone(), *phase));
            let parents: Vec<usize> = above.filter_map(|parent| at.get(&parent).copied()).collect();
            let state = match parents.is_empty() {
                true => ItemState::Ready { waited_ms: 0, pause_ms: 0 },
                false => ItemState::Blocked,
            };
            Item {
                class,
                priority: job.spec.priority,
                age: plan.created.0,
                expected_ms: job.expected_ms,
                parents,
                homes: Vec::new(),
                declined: Vec::new(),
                state,
            }
        };
        let mut items: Vec<Item> = Vec::new();
        for job in jobs {
            let class = setup.class(&job.spec);
            items.push(item(job, class));
        }
        let lengths_ms = jobs.iter().map(|job| lengths(fleet, job, history)).collect();
        // A play knows no waiting for a node: there a parent's device is free the moment it ends.
        let board = setup.board(0);
        if let Some(class) = items.first().map(|i| i.class) {
            items.extend(running(fleet, jobs, class));
        }
        Line { board, items, lengths_ms }
    }

    pub fn length_ms(&self, item: usize, room: usize) -> u64 {
        self.lengths_ms[item][room]
    }

    /// The same fleet with nothing on it.
    pub fn idle_board(&self) -> Board<'a> {
        let mut board = self.board.clone();
        for item in &self.items {
            if let ItemState::Running { room: Some((room, want)), .. } = &item.state {
                board.spaces[*room].give_back(want);
            }
        }
        board
    }
}

/// Length of a job on each device: measured on its model where it was, else as the plan expects.
fn lengths(fleet: &Fleet, job: &PlannedJob, history: &History) -> Vec<u64> {
    let size = Size::of(&job.spec.inputs.semantic);
    let mut by_model: BTreeMap<&str, u64> = BTreeMap::new();
    for room in &fleet.rooms {
        by_model.entry(&room.model).or_insert_with(|| {
            let measured = history.length(&job.spec.name, &size, Some(&room.model));
            measured.map_or(job.expected_ms, |length| length.ms)
        });
    }
    fleet.rooms.iter().map(|room| by_model[room.model.as_str()]).collect()
}

/// What holds memory of the fleet, until its expected end. Where nobody knows the end, the usual length of
/// such a phase is taken.
fn running(fleet: &Fleet, jobs: &[&PlannedJob], class: ClassId) -> Vec<Item> {
    let usual = |phase: Phase| {
        let of_phase = jobs.iter().filter(|j| j.spec.name.phase == phase).map(|j| j.expected_ms);
        of_phase.max().unwrap_or(0)
    };
    let mut items = Vec::new();
    for (room, device) in fleet.rooms.iter().enumerate() {
        for holder in &device.holders {
            let policy = if holder.exclusive { PlacementPolicy::Exclusive } else { PlacementPolicy::Spread };
            let want = Want { kind: device.kind, mib: holder.mib, policy };
            let left_ms = holder.left_ms.unwrap_or_else(|| usual(holder.job.name.phase));
            items.push(Item {
                class,
                priority: 0,
                age: 0,
                expected_ms: left_ms,
                parents: Vec::new(),
                homes: Vec::new(),
                declined: Vec::new(),
                state: ItemState::Running { left_ms, room: Some((room, want)) },
            });
        }
    }
    items
}
