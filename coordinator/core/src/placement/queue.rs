//! From what was observed to a round of placement and back: open jobs to items of a board, rooms to places.

use super::board::{ClassId, Setup};
use super::decide::{LOOK_AHEAD_MAX, decide};
use super::declined;
use super::fill::{self, Rule};
use super::play::{Item, ItemState, Rounds, remaining};
use super::room::{Fleet, left_ms};
use super::space::Want;
use crate::due::{OpenJob, open_jobs};
use crate::state::{ChainSeen, State};
use common::chain::{JobRecord, JobState};
use common::ids::{ChainId, Phase};
use common::slot::{Cause, Place, SlotState};
use common::units::Millis;
use std::collections::BTreeMap;

/// Above so many devices nothing is played ahead: the fleet is large against what waits, or both are large.
const DEVICES_MAX: usize = 256;
/// Jobs of one chain.
const PHASES: usize = Phase::ALL.len();

/// Devices for the jobs that wait, best first: index of the job, and its place.
pub(crate) fn place(state: &State, now: Millis, waiting: &[OpenJob<'_>]) -> Vec<(usize, Place)> {
    let devices = |seen: &crate::state::NodeSeen| seen.beat.devices.len();
    let small = state.active.len() * PHASES <= LOOK_AHEAD_MAX
        && state.nodes.values().map(devices).sum::<usize>() <= DEVICES_MAX;
    // Only a whole fleet can be played forward; a round alone needs no more than the devices with room.
    let fleet = if small { Fleet::of(state, now) } else { Fleet::with_room(state, now) };
    if fleet.is_full() {
        return Vec::new();
    }
    let mut setup = Setup::new(&fleet);
    let line = match small {
        true => whole_line(state, now, waiting, &mut setup),
        false => bare_line(state, now, waiting, &mut setup),
    };
    let mut board = setup.board(state.options.locality_wait.0);
    let round = if small {
        decide(&mut board, &line.items, &remaining(&line.items))
    } else {
        let whole_chains: Vec<u64> = line.items.iter().map(|i| i.expected_ms).collect();
        Rule::USUAL.round(&mut board, &line.items, &whole_chains)
    };
    let placed = round.into_iter().filter_map(|(item, room)| {
        let at = line.waiting[item]?;
        let want = board.want_at(line.items[item].class, room)?;
        let (node, device) = (fleet.rooms[room].node.clone(), fleet.rooms[room].device.clone());
        Some((at, Place { node, device, reserve_mib: want.mib }))
    });
    placed.collect()
}

/// Whether a job that could be placed now waits for a node that holds what it builds on: that node and device.
pub(crate) fn waits_at(state: &State, now: Millis, job: &OpenJob<'_>) -> Option<Place> {
    let fleet = Fleet::of(state, now);
    let mut setup = Setup::new(&fleet);
    let line = bare_line(state, now, std::slice::from_ref(job), &mut setup);
    let board = setup.board(state.options.locality_wait.0);
    let (_, asks) = super::play::asks(&line.items, &[0]);
    let ask = asks.first()?;
    let patience = board.locality_wait_ms.checked_sub(ask.waited_ms)?;
    let room = fill::soon_at_home(&board, ask, patience)?;
    let want = board.want_at(ask.class, room)?;
    let (node, device) = (fleet.rooms[room].node.clone(), fleet.rooms[room].device.clone());
    Some(Place { node, device, reserve_mib: want.mib })
}

/// Items, and which of the waiting jobs each is.
#[derive(Default)]
struct Line {
    items: Vec<Item>,
    waiting: Vec<Option<usize>>,
}

/// Only those that wait, each with its whole remaining chain as its length.
fn bare_line<'a>(state: &State, now: Millis, waiting: &[OpenJob<'a>], setup: &mut Setup<'a>) -> Line {
    let mut line = Line::default();
    for (at, job) in waiting.iter().enumerate() {
        let class = setup.class(&job.job.spec);
        let item = Item { expected_ms: remaining_ms(job), ..item_of(state, now, job, class, setup) };
        line.items.push(item);
        line.waiting.push(Some(at));
    }
    line
}

/// Every job of the active chains that is not over, parents before dependents.
fn whole_line<'a>(state: &'a State, now: Millis, waiting: &[OpenJob<'a>], setup: &mut Setup<'a>) -> Line {
    let asked: BTreeMap<(&ChainId, Phase), usize> =
        waiting.iter().enumerate().map(|(at, job)| ((&job.chain.record.id, job.phase), at)).collect();
    let mut line = Line::default();
    for chain in state.active_chains() {
        let mut item_at: BTreeMap<Phase, usize> = BTreeMap::new();
        let open: BTreeMap<Phase, OpenJob<'a>> = open_jobs(chain).map(|job| (job.phase, job)).collect();
        for (phase, record) in chain.record.jobs.iter().filter(|(_, job)| !job.state.is_terminal()) {
            // What is paused, and what waits for it, comes at a time that nobody knows.
            let held_up = |p: &Phase| {
                !item_at.contains_key(p) && chain.record.jobs.get(p).is_some_and(|j| !j.state.is_terminal())
            };
            if record.paused.is_some() || record.spec.inputs.parents.keys().any(held_up) {
                continue;
            }
            let class = setup.class(&record.spec);
            let at = asked.get(&(&chain.record.id, *phase)).copied();
            let mut item = match (open.get(phase), at) {
                (Some(job), Some(_)) => item_of(state, now, job, class, setup),
                (Some(job), None) => {
                    Item { state: running(state, now, job, setup), ..blank(chain, record, class) }
                }
                (None, _) => blank(chain, record, class),
            };
            let parents = record.spec.inputs.parents.keys();
            item.parents = parents.filter_map(|parent| item_at.get(parent).copied()).collect();
            item_at.insert(*phase, line.items.len());
            line.items.push(item);
            line.waiting.push(at);
        }
    }
    line
}

fn blank(chain: &ChainSeen, record: &JobRecord, class: ClassId) -> Item {
    Item {
        class,
        priority: record.spec.priority,
        age: chain.record.plan_created.0,
        expected_ms: record.expected_ms,
        parents: Vec::new(),
        homes: Vec::new(),
        declined: Vec::new(),
        state: ItemState::Blocked,
    }
}

/// A job that waits.
fn item_of(state: &State, now: Millis, job: &OpenJob<'_>, class: ClassId, setup: &Setup<'_>) -> Item {
    let parents = job.job.spec.inputs.parents.keys();
    let results = parents.filter_map(|p| job.chain.record.jobs.get(p)?.state.result());
    let slots = results.filter_map(|result| state.slots.get(&result.key)?.slot.state.place());
    // A result that the store refused lies finished on the node that made it.
    let kept = state.slots.get(&job.key).and_then(|seen| match &seen.slot.state {
        SlotState::Failed { place, failure } if failure.cause == Cause::Store => Some(place),
        _ => None,
    });
    let homes = slots.chain(kept).filter_map(|place| setup.node(&place.node)).collect();
    let declined = declined(state, &job.key, now).into_keys().filter_map(|node| setup.node(&node)).collect();
    let waited_ms = now.since(job.chain.seen_at).0.saturating_sub(job.backoff.0);
    let ready = ItemState::Ready { waited_ms, pause_ms: 0 };
    Item { homes, declined, state: ready, ..blank(job.chain, job.job, class) }
}

/// An open job that does not wait for a device: somebody runs it, its result is being looked at, or it pauses.
fn running(state: &State, now: Millis, job: &OpenJob<'_>, setup: &Setup<'_>) -> ItemState {
    let slot = state.slots.get(&job.key).filter(|s| s.slot.attempt == job.attempt);
    let pause_ms = job.backoff.0.saturating_sub(now.since(job.chain.seen_at).0);
    match slot.map(|seen| (&seen.slot.state, seen)) {
        Some((SlotState::Offered { place } | SlotState::Held { place, .. }, seen)) => {
            let room = setup.room(&place.node, &place.device).map(|(room, kind)| {
                (room, Want { kind, mib: place.reserve_mib, policy: job.job.spec.need.policy })
            });
            ItemState::Running { left_ms: left_ms(state, now, seen, job.job), room }
        }
        Some((SlotState::Finished { .. }, _)) => ItemState::Running { left_ms: 0, room: None },
        _ if pause_ms > 0 => ItemState::Ready { waited_ms: 0, pause_ms },
        // Another plan runs the very same job.
        _ => ItemState::Running { left_ms: job.job.expected_ms, room: None },
    }
}

/// Expected time of this job and of the longest line of jobs that wait for it.
fn remaining_ms(job: &OpenJob<'_>) -> u64 {
    fn longest(jobs: &BTreeMap<Phase, JobRecord>, phase: Phase) -> u64 {
        let own = jobs.get(&phase).map_or(0, |j| j.expected_ms);
        let waits = |(p, j): &(&Phase, &JobRecord)| {
            **p > phase && j.state == JobState::Blocked && j.spec.inputs.parents.contains_key(&phase)
        };
        let behind = jobs.iter().filter(waits).map(|(p, _)| longest(jobs, *p)).max();
        own.saturating_add(behind.unwrap_or(0))
    }
    longest(&job.chain.record.jobs, job.phase)
}
