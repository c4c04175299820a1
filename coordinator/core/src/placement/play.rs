//! What follows from here: rounds of placement played forward over the expected lengths of jobs.

use super::board::{Board, ClassId};
use super::fill::{Ask, Rank, Rule, fill};
use super::space::Want;
use std::cmp::Reverse;

/// A job of the line that is not over.
#[derive(Debug, Clone)]
pub struct Item {
    pub class: ClassId,
    pub priority: i32,
    pub age: u64,
    /// Length that decisions count with.
    pub expected_ms: u64,
    /// Of this list, those without a result yet.
    pub parents: Vec<usize>,
    /// Nodes that hold what it builds on already.
    pub homes: Vec<usize>,
    pub declined: Vec<usize>,
    pub state: ItemState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemState {
    /// Some of its parents have no result.
    Blocked,
    /// Could run for so long; may be placed from so long from now on (a pause after a failure).
    Ready {
        waited_ms: u64,
        pause_ms: u64,
    },
    /// Ends in so long, and then gives back what it holds on a room of this board, if it is one of them.
    Running {
        left_ms: u64,
        room: Option<(usize, Want)>,
    },
    Over,
}

/// Where and when a job ran in a play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    pub room: usize,
    pub start_ms: u64,
    pub end_ms: u64,
}

/// How a play makes its rounds.
pub trait Rounds {
    /// Places ready items (by index) on the board, with the room of each.
    fn round(&self, board: &mut Board<'_>, items: &[Item], remaining: &[u64]) -> Vec<(usize, usize)>;
}

/// Always the same order.
impl Rounds for Rule {
    fn round(&self, board: &mut Board<'_>, items: &[Item], remaining: &[u64]) -> Vec<(usize, usize)> {
        let (ids, asks) = asks(items, remaining);
        fill(board, &asks, *self).into_iter().map(|p| (ids[p.ask], p.room)).collect()
    }
}

/// Those that can be placed now, as asks.
pub fn asks(items: &[Item], remaining: &[u64]) -> (Vec<usize>, Vec<Ask>) {
    let ready = items.iter().enumerate().filter_map(|(at, item)| match item.state {
        ItemState::Ready { waited_ms, pause_ms: 0 } => Some((at, item, waited_ms)),
        _ => None,
    });
    let ask = |(at, item, waited_ms): (usize, &Item, u64)| {
        let rank = Rank {
            priority: Reverse(item.priority),
            remaining_ms: Reverse(remaining[at]),
            age: item.age,
            tie: at,
        };
        let (homes, declined) = (item.homes.clone(), item.declined.clone());
        (at, Ask { class: item.class, rank, waited_ms, homes, declined })
    };
    ready.map(ask).unzip()
}

/// Expected time of each item and of the longest line that waits for it.
pub fn remaining(items: &[Item]) -> Vec<u64> {
    let mut remaining: Vec<u64> = items.iter().map(|i| i.expected_ms).collect();
    // Parents come before their dependents in the list: one pass from the end sees all lines whole.
    for at in (0..items.len()).rev() {
        for parent in &items[at].parents {
            let line = items[*parent].expected_ms.saturating_add(remaining[at]);
            remaining[*parent] = remaining[*parent].max(line);
        }
    }
    remaining
}

/// Plays until all that can run has run. `length`: how long an item really takes in a room. Items never
/// placed (nothing fits, or a parent never runs) have no stretch.
pub fn play(
    board: &mut Board<'_>,
    items: &mut [Item],
    rounds: &impl Rounds,
    length: &dyn Fn(usize, usize) -> u64,
) -> Vec<Option<Stretch>> {
    let remaining = remaining(items);
    let mut stretches = vec![None; items.len()];
    let mut now_ms = 0u64;
    loop {
        for (at, room) in rounds.round(board, items, &remaining) {
            let Some(want) = board.want_at(items[at].class, room) else { continue };
            let left_ms = length(at, room);
            items[at].state = ItemState::Running { left_ms, room: Some((room, want)) };
            let end_ms = now_ms.saturating_add(left_ms);
            stretches[at] = Some(Stretch { room, start_ms: now_ms, end_ms });
        }
        let Some(step_ms) = next_event(items) else { return stretches };
        now_ms = now_ms.saturating_add(step_ms);
        advance(board, items, step_ms);
    }
}

/// Time until the next job ends or comes out of its pause.
fn next_event(items: &[Item]) -> Option<u64> {
    let time = |item: &Item| match item.state {
        ItemState::Running { left_ms, .. } => Some(left_ms),
        ItemState::Ready { pause_ms, .. } if pause_ms > 0 => Some(pause_ms),
        _ => None,
    };
    items.iter().filter_map(time).min()
}

fn advance(board: &mut Board<'_>, items: &mut [Item], step_ms: u64) {
    let mut ended = false;
    for item in items.iter_mut() {
        match &mut item.state {
            ItemState::Running { left_ms, room } => {
                *left_ms -= step_ms;
                if *left_ms == 0 {
                    if let Some((room, want)) = room {
                        board.spaces[*room].give_back(want);
                        item.homes = vec![board.node_of[*room]];
                    }
                    item.state = ItemState::Over;
                    ended = true;
                }
            }
            ItemState::Ready { waited_ms, pause_ms } => {
                *waited_ms = waited_ms.saturating_add(step_ms);
                *pause_ms = pause_ms.saturating_sub(step_ms);
            }
            ItemState::Blocked | ItemState::Over => {}
        }
    }
    if !ended {
        return;
    }
    for at in 0..items.len() {
        if items[at].state != ItemState::Blocked {
            continue;
        }
        let over = |p: &usize| items[*p].state == ItemState::Over;
        if items[at].parents.iter().all(over) {
            let homes: Vec<usize> = items[at].parents.iter().flat_map(|p| items[*p].homes.clone()).collect();
            items[at].homes.extend(homes);
            items[at].state = ItemState::Ready { waited_ms: 0, pause_ms: 0 };
        }
    }
}
