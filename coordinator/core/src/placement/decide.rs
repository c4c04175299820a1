//! The round that is really made. The usual order (priority, longest remaining chain, age) is best for most
//! moments, not for all: six chains of 45, 35 and 60 minutes on four cards take 235 minutes by it, 210 by
//! another. So when more waits than fits, a few orders are played to their end, and the one that ends
//! everything first makes this round. Priority comes first in each of them.

use super::board::Board;
use super::fill::{Fit, Order, Rule};
use super::play::{Item, ItemState, Rounds, Stretch, play};

/// Above so many jobs the usual order is taken as it is: with much to place, no order leaves a device idle
/// for long, and playing costs more the more there is.
pub const LOOK_AHEAD_MAX: usize = 96;

/// Tried in this order; of equals the first wins.
const RULES: [Rule; 6] = [
    Rule::USUAL,
    Rule { order: Order::LongestWait, fit: Fit::Policy },
    Rule { order: Order::Choosiest, fit: Fit::Policy },
    Rule { order: Order::LongestChain, fit: Fit::Smallest },
    Rule { order: Order::LongestWait, fit: Fit::Smallest },
    Rule { order: Order::Choosiest, fit: Fit::Smallest },
];

/// Decides each round by looking ahead.
#[derive(Debug, Clone, Copy, Default)]
pub struct LookAhead;

impl Rounds for LookAhead {
    fn round(&self, board: &mut Board<'_>, items: &[Item], remaining: &[u64]) -> Vec<(usize, usize)> {
        decide(board, items, remaining)
    }
}

/// Places ready items and takes their room on the board: pairs of item and room.
pub fn decide(board: &mut Board<'_>, items: &[Item], remaining: &[u64]) -> Vec<(usize, usize)> {
    let before = board.clone();
    let usual = Rule::USUAL.round(board, items, remaining);
    let ready = items.iter().filter(|i| matches!(i.state, ItemState::Ready { pause_ms: 0, .. })).count();
    let no_choice = usual.is_empty() || usual.len() == ready && nothing_follows(items);
    if no_choice || items.len() > LOOK_AHEAD_MAX {
        return usual;
    }
    let mut best = (score(&before, items, Rule::USUAL), usual, None);
    for rule in &RULES[1..] {
        let mut after = before.clone();
        let round = rule.round(&mut after, items, remaining);
        let score = score(&before, items, *rule);
        if score < best.0 {
            best = (score, round, Some(after));
        }
    }
    if let Some(after) = best.2 {
        *board = after;
    }
    best.1
}

/// Nothing is left that could come to want a device later.
fn nothing_follows(items: &[Item]) -> bool {
    !items.iter().any(|i| matches!(i.state, ItemState::Blocked))
}

/// When everything ends, and then the sum of all ends: smaller is better.
fn score(board: &Board<'_>, items: &[Item], rule: Rule) -> (u64, u64) {
    let (mut board, mut items) = (board.clone(), items.to_vec());
    board.locality_wait_ms = 0;
    let expected: Vec<u64> = items.iter().map(|i| i.expected_ms).collect();
    let stretches = play(&mut board, &mut items, &rule, &|at, _| expected[at]);
    let ends = || stretches.iter().flatten().map(|s: &Stretch| s.end_ms);
    (ends().max().unwrap_or(0), ends().sum())
}
