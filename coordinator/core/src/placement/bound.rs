//! What no placement can beat: a lower bound of the makespan of a line on a fleet.
//!
//! The largest of these, each of which holds for every schedule:
//!
//! * the longest chain;
//! * give each class of jobs a weight. At no moment does a device run jobs of more weight together than the
//!   best mix that fits it (its memory and its number of jobs). So the weighted work of any jobs, shared by
//!   those mixes of all devices, is a bound. Weights of 0 to 3 are tried: all the same counts places, larger
//!   ones for large jobs count memory;
//! * for jobs of some classes on `m` places: of the `k m + 1` longest, `k + 1` run one after the other
//!   somewhere, so the `k + 1` shortest of them follow each other at best.
//!
//! The last two are taken for all jobs with at least `h` before them and `t` behind them, with `h` and `t`
//! added.

use super::board::{Board, ClassId};
use super::play::{Item, remaining};
use super::space::Want;
use common::config::PlacementPolicy;
use std::collections::BTreeSet;

/// Weights 0 to 3 up to so many classes; above it weights 0 and 1.
const WEIGHED_MAX: usize = 3;
/// All subsets up to so many classes; above it each class alone and all together.
const SUBSETS_MAX: usize = 6;
/// So many different heads and tails are looked at.
const CUTS_MAX: usize = 16;

/// In milliseconds; `None` = some job fits no device, so nothing ends at all. `board`: idle.
pub fn lower_bound(board: &Board<'_>, items: &[Item]) -> Option<u64> {
    if items.iter().any(|i| board.rooms_for(i.class).is_empty()) {
        return None;
    }
    let classes: Vec<ClassId> = items.iter().map(|i| i.class).collect::<BTreeSet<_>>().into_iter().collect();
    let jobs = jobs(items, &classes);
    let mut best = jobs.iter().map(|j| j.head + j.ms + j.tail).max().unwrap_or(0);
    for weights in weights(classes.len()) {
        let capacity: u64 =
            (0..board.spaces.len()).map(|room| best_mix(board, &classes, &weights, room)).sum();
        let of: Vec<&Job> = jobs.iter().filter(|j| weights[j.class] > 0).collect();
        let alike = weights.iter().all(|w| *w <= 1);
        for head in cuts(of.iter().map(|j| j.head)) {
            for tail in cuts(of.iter().map(|j| j.tail)) {
                let mut within: Vec<&Job> =
                    of.iter().copied().filter(|j| j.head >= head && j.tail >= tail).collect();
                // No job has so much both before and behind it: nothing follows for any.
                if within.is_empty() {
                    continue;
                }
                let work: u64 = within.iter().map(|j| j.ms.saturating_mul(weights[j.class])).sum();
                let mut least = work.div_ceil(capacity.max(1));
                if alike {
                    within.sort_unstable_by_key(|j| std::cmp::Reverse(j.ms));
                    least = least.max(in_a_row(&within, capacity));
                }
                best = best.max(head + least + tail);
            }
        }
    }
    Some(best)
}

struct Job {
    /// Index into the list of classes.
    class: usize,
    ms: u64,
    /// Longest line of jobs before it, and behind it.
    head: u64,
    tail: u64,
}

fn jobs(items: &[Item], classes: &[ClassId]) -> Vec<Job> {
    let remaining = remaining(items);
    let mut jobs: Vec<Job> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        // Parents come before their dependents.
        let head = item.parents.iter().map(|p| jobs[*p].head.saturating_add(jobs[*p].ms)).max().unwrap_or(0);
        let (ms, tail) = (item.expected_ms, remaining[at].saturating_sub(item.expected_ms));
        // The list is sorted, and made of these very items.
        let class = classes.partition_point(|class| *class < item.class);
        jobs.push(Job { class, ms, head, tail });
    }
    jobs
}

fn weights(classes: usize) -> Vec<Vec<u64>> {
    let all = |base: usize| {
        let count = base.pow(u32::try_from(classes).unwrap_or(u32::MAX));
        let digit = |n: usize, at: usize| (n / base.pow(at as u32) % base) as u64;
        (1..count).map(|n| (0..classes).map(|at| digit(n, at)).collect()).collect()
    };
    if classes <= WEIGHED_MAX {
        all(4)
    } else if classes <= SUBSETS_MAX {
        all(2)
    } else {
        let alone = |of: usize| (0..classes).map(|at| u64::from(at == of)).collect();
        (0..classes).map(alone).chain([vec![1; classes]]).collect()
    }
}

/// The largest weight of jobs that a room can run at one moment.
fn best_mix(board: &Board<'_>, classes: &[ClassId], weights: &[u64], room: usize) -> u64 {
    let space = &board.spaces[room];
    if space.shut {
        return 0;
    }
    let wanted = |(class, weight): (&ClassId, &u64)| {
        let want = board.want_at(*class, room).filter(|_| *weight > 0)?;
        Some((*weight, want))
    };
    let kinds: Vec<(u64, Want)> = classes.iter().zip(weights).filter_map(wanted).collect();
    let alone =
        kinds.iter().filter(|(_, w)| w.policy == PlacementPolicy::Exclusive).map(|(weight, _)| *weight);
    let shared: Vec<(u64, u64)> = kinds
        .iter()
        .filter(|(_, w)| w.policy != PlacementPolicy::Exclusive)
        .map(|(weight, want)| (*weight, want.mib.0))
        .collect();
    mix(&shared, space.budget_mib.0, space.max_jobs).max(alone.max().unwrap_or(0))
}

/// The best of all mixes of `kinds` (weight and memory each) within memory and number.
fn mix(kinds: &[(u64, u64)], mib: u64, jobs: u32) -> u64 {
    let Some(((weight, each), rest)) = kinds.split_first() else { return 0 };
    let most = mib.checked_div(*each).unwrap_or(u64::MAX).min(u64::from(jobs));
    let with = |n: u64| {
        let left = u32::try_from(n).map_or(0, |n| jobs - n);
        (n * weight).saturating_add(mix(rest, mib - n * each, left))
    };
    (0..=most).map(with).max().unwrap_or(0)
}

/// A spread of the values there are, the least among them.
fn cuts(values: impl Iterator<Item = u64>) -> Vec<u64> {
    let distinct: Vec<u64> = values.collect::<BTreeSet<_>>().into_iter().collect();
    let step = distinct.len().div_ceil(CUTS_MAX).max(1);
    distinct.into_iter().step_by(step).collect()
}

/// Bound of jobs, longest first, of which so many run at once.
fn in_a_row(longest_first: &[&Job], places: u64) -> u64 {
    let Ok(places) = usize::try_from(places) else { return 0 };
    let mut best = longest_first.first().map_or(0, |j| j.ms);
    let mut k = 1;
    while places > 0 && k * places < longest_first.len() {
        best = best.max(longest_first[k * places - k..=k * places].iter().map(|j| j.ms).sum());
        k += 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(ms: u64) -> Job {
        Job { class: 0, ms, head: 0, tail: 0 }
    }

    #[test]
    fn a_mix_fills_memory_and_number() {
        // Two of 8 GiB fit 18 GiB, a 10 beside an 8 does not, a 10 beside a 6 does.
        assert_eq!(mix(&[(1, 10_240), (1, 8192)], 18_086, 2), 2);
        assert_eq!(mix(&[(2, 10_240), (1, 8192)], 18_086, 2), 2);
        assert_eq!(mix(&[(2, 10_240), (1, 8192), (1, 6144)], 18_086, 2), 3);
        assert_eq!(mix(&[(1, 10)], 100, 4), 4, "the number of jobs is a limit too");
    }

    #[test]
    fn of_three_jobs_on_two_places_two_follow_each_other() {
        let jobs = [job(60), job(50), job(40)];
        let all: Vec<&Job> = jobs.iter().collect();
        assert_eq!((in_a_row(&all, 2), in_a_row(&all, 3), in_a_row(&all, 1)), (90, 60, 150));
    }
}
