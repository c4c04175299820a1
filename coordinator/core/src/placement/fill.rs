//! One round: who waits is put in order, and each gets the best device that has room. Who finds none holds up
//! nobody behind (backfill).

use super::board::{Board, ClassId};
use super::space::Want;
use common::config::PlacementPolicy;
use common::units::Mib;
use std::cmp::Reverse;

/// Places given in one round. On a fleet with more free devices the rest is decided in the next round, which
/// comes as soon as these were written: nobody holds thousands of writes under way.
const PLACED_MAX: usize = 512;

/// A job that waits for a device.
#[derive(Debug, Clone)]
pub struct Ask {
    pub class: ClassId,
    pub rank: Rank,
    /// How long it has been able to run.
    pub waited_ms: u64,
    /// Nodes that hold what it builds on (parents' checkpoints, prepared graphs).
    pub homes: Vec<usize>,
    /// Nodes that declined it a moment ago.
    pub declined: Vec<usize>,
}

/// What the order is made of. The last part makes every order total, so the same state gives the same round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    pub priority: Reverse<i32>,
    /// Expected time of the job and of the longest line that waits for it.
    pub remaining_ms: Reverse<u64>,
    /// When its plan was made.
    pub age: u64,
    pub tie: usize,
}

/// An order of those that wait. Priority comes first in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub order: Order,
    pub fit: Fit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Longest remaining chain, then age: the rule unless another one ends everything sooner.
    LongestChain,
    /// Who could run first.
    LongestWait,
    /// Who fits the fewest devices.
    Choosiest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// As the phase's policy says; among equals the tightest.
    Policy,
    /// The smallest device that fits, so that large ones stay free for large jobs.
    Smallest,
}

impl Rule {
    pub const USUAL: Rule = Rule { order: Order::LongestChain, fit: Fit::Policy };
}

/// Ask and room by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    pub ask: usize,
    pub room: usize,
    pub mib: Mib,
}

/// Places what fits, and takes the room for it on the board.
pub fn fill(board: &mut Board<'_>, asks: &[Ask], rule: Rule) -> Vec<Placed> {
    let mut order: Vec<usize> = (0..asks.len()).collect();
    match rule.order {
        Order::LongestChain => order.sort_unstable_by_key(|at| asks[*at].rank),
        Order::LongestWait => {
            order.sort_unstable_by_key(|at| {
                (asks[*at].rank.priority, Reverse(asks[*at].waited_ms), asks[*at].rank)
            });
        }
        Order::Choosiest => order.sort_unstable_by_key(|at| {
            let ask = &asks[*at];
            (ask.rank.priority, board.rooms_for(ask.class).len(), ask.rank)
        }),
    }
    let mut open: Vec<Option<Vec<(usize, Mib)>>> = vec![None; board.classes()];
    let mut wanted = homes_wanted(board, asks);
    let mut placed = Vec::new();
    for at in order {
        let ask = &asks[at];
        let rooms = open[ask.class.index()].get_or_insert_with(|| board.rooms_for(ask.class).to_vec());
        // What is full for one job of a class is full for all of it: rooms only fill up in a round.
        rooms.retain(|(room, mib)| board.fits(*room, &board.want(ask.class, *mib)));
        let Some((room, mib)) = choose(board, ask, rooms, rule.fit, &wanted) else { continue };
        if waits_for_home(board, ask, room) {
            continue;
        }
        ask.homes.iter().for_each(|home| wanted[*home] = wanted[*home].saturating_sub(1));
        let want = board.want(ask.class, mib);
        board.spaces[room].take(&want);
        placed.push(Placed { ask: at, room, mib });
        if placed.len() == PLACED_MAX {
            break;
        }
    }
    placed
}

/// How many of those that wait would like each node.
fn homes_wanted(board: &Board<'_>, asks: &[Ask]) -> Vec<u32> {
    let nodes = board.node_of.iter().max().map_or(0, |last| last + 1);
    let mut wanted = vec![0; nodes];
    asks.iter().flat_map(|ask| &ask.homes).for_each(|home| wanted[*home] += 1);
    wanted
}

/// The best of the rooms that fit. Ties go to the first by node and device.
fn choose(
    board: &Board<'_>,
    ask: &Ask,
    rooms: &[(usize, Mib)],
    fit: Fit,
    wanted: &[u32],
) -> Option<(usize, Mib)> {
    let policy = board.policy(ask.class);
    let key = |(room, mib): &(usize, Mib)| {
        let (space, node) = (&board.spaces[*room], board.node_of[*room]);
        let home = ask.homes.contains(&node);
        let others_home = !home && wanted[node] > 0;
        let left = space.free_mib.saturating_sub(*mib);
        // Smaller is better, part by part.
        let by_policy = match (fit, policy) {
            (Fit::Smallest, _) => (space.budget_mib.0, u64::from(space.jobs), u64::from(!home)),
            (Fit::Policy, PlacementPolicy::Spread) => (u64::from(space.jobs), u64::from(!home), left.0),
            (Fit::Policy, PlacementPolicy::Compact) => {
                (u64::from(!home), u64::from(u32::MAX - space.jobs), left.0)
            }
            (Fit::Policy, PlacementPolicy::Exclusive) => (u64::from(!home), left.0, 0),
        };
        (by_policy, others_home, *room)
    };
    let allowed = rooms.iter().filter(|(room, _)| !ask.declined.contains(&board.node_of[*room]));
    allowed.min_by_key(|r| key(r)).copied()
}

/// Whether a job does better to wait a little for a device of the node that holds what it builds on than to
/// take `room` elsewhere: only within its bounded wait, and only when something there ends by then.
pub(super) fn waits_for_home(board: &Board<'_>, ask: &Ask, room: usize) -> bool {
    if ask.homes.is_empty() || ask.homes.contains(&board.node_of[room]) {
        return false;
    }
    let patience = board.locality_wait_ms.saturating_sub(ask.waited_ms);
    patience > 0 && soon_at_home(board, ask, patience).is_some()
}

/// A room at home that is full now and gets a place within `patience`.
pub(super) fn soon_at_home(board: &Board<'_>, ask: &Ask, patience: u64) -> Option<usize> {
    let soon = |(room, mib): &&(usize, Mib)| {
        let (space, node) = (&board.spaces[*room], board.node_of[*room]);
        let want: Want = board.want(ask.class, *mib);
        ask.homes.contains(&node)
            && !ask.declined.contains(&node)
            && !space.shut
            && space.obstacle(&want).is_some()
            && board.ends_in_ms[*room].is_some_and(|ms| ms < patience)
    };
    board.rooms_for(ask.class).iter().find(soon).map(|(room, _)| *room)
}
