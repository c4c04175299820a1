//! Preemption: a job that fits nowhere takes the place of jobs of lower priority. Never of equal priority, never
//! where waiting for what ends soon anyway is enough, and never more than is needed on one device.

use super::OpenJob;
use super::yields::running;
use crate::placement::room::{Fleet, Holder, Room};
use crate::placement::space::{Space, Want};
use crate::placement::{Blocker, declined};
use crate::state::State;
use common::ids::{JobId, NodeId};
use common::job_key::JobKey;
use common::units::Millis;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Jobs that room is made for in one round; the next ones have their turn when these are placed.
const STARVING_MAX: usize = 32;

/// Attempts that are to make way, with the reason.
pub(super) type Victims = BTreeMap<JobKey, String>;

/// Who must make way for the jobs that were not placed this round.
pub(super) fn victims(state: &State, now: Millis, jobs: &[OpenJob<'_>], unplaced: &[OpenJob<'_>]) -> Victims {
    let mut victims = Victims::new();
    if !state.options.preemption {
        return victims;
    }
    let Some(lowest) = jobs.iter().map(priority).min() else { return victims };
    // One that has just come may be placed with the next beat.
    let waited = |job: &OpenJob<'_>| now.since(job.chain.seen_at).0.saturating_sub(job.backoff.0);
    let patience = state.options.offer_timeout.0;
    let mut starving: Vec<&OpenJob<'_>> =
        unplaced.iter().filter(|j| priority(j) > lowest && waited(j) >= patience).collect();
    if starving.is_empty() {
        return victims;
    }
    let runs = jobs.iter().filter(|job| running(state, job).is_some());
    let runs: BTreeMap<JobId, &OpenJob<'_>> = runs.map(|j| (j.chain.record.job_id(j.phase), j)).collect();
    starving
        .sort_by_key(|j| (Reverse(priority(j)), j.chain.record.plan_created, j.chain.record.job_id(j.phase)));
    let fleet = Fleet::of(state, now);
    let mut claims: BTreeMap<usize, Vec<Want>> = BTreeMap::new();
    for job in starving.into_iter().take(STARVING_MAX) {
        let line = Line { job, runs: &runs, grace: state.options.yield_grace, victims: &victims };
        let Some((room, found)) = line.cheapest(&fleet, &claims, &declined(state, &job.key, now)) else {
            continue;
        };
        let want = fleet.rooms[room].want(&job.job.spec, fleet.kind_for(&job.job.spec));
        claims.entry(room).or_default().push(want);
        let name = job.chain.record.job_id(job.phase).name;
        for key in found {
            victims.insert(key, format!("makes way for {name}, whose priority is {}", priority(job)));
        }
    }
    victims
}

fn priority(job: &OpenJob<'_>) -> i32 {
    job.job.spec.priority
}

/// One starving job, and those that run.
struct Line<'a> {
    job: &'a OpenJob<'a>,
    runs: &'a BTreeMap<JobId, &'a OpenJob<'a>>,
    grace: Millis,
    /// Chosen for jobs before this one.
    victims: &'a Victims,
}

/// Highest priority that must go, how many, how much memory: less is better.
type Cost = (i32, usize, u64);

impl Line<'_> {
    /// The device whose running jobs are cheapest to ask, and which of them; none of them where room is coming
    /// anyway.
    fn cheapest(
        &self,
        fleet: &Fleet,
        claims: &BTreeMap<usize, Vec<Want>>,
        declined: &BTreeMap<NodeId, Blocker>,
    ) -> Option<(usize, Vec<JobKey>)> {
        let kind = fleet.kind_for(&self.job.job.spec);
        let mut best: Option<(Cost, usize, Vec<JobKey>)> = None;
        for (at, room) in fleet.rooms.iter().enumerate().filter(|(_, r)| !declined.contains_key(&r.node)) {
            let want = room.want(&self.job.job.spec, kind);
            let claimed = claims.get(&at).map(Vec::as_slice).unwrap_or_default();
            let Some((cost, keys)) = self.ask(room, &want, claimed) else { continue };
            if best.as_ref().is_none_or(|(known, ..)| cost < *known) {
                best = Some((cost, at, keys));
            }
        }
        best.map(|(_, at, keys)| (at, keys))
    }

    /// Who of this device must go for the job to fit; `None` when even all of lower priority are not enough.
    fn ask(&self, room: &Room, want: &Want, claimed: &[Want]) -> Option<(Cost, Vec<JobKey>)> {
        let stays = |h: &&Holder| !self.leaves(h);
        let mut left: Vec<&Holder> = room.holders.iter().filter(stays).collect();
        if fits(room, &left, want, claimed) {
            return Some(((i32::MIN, 0, 0), Vec::new()));
        }
        let may_go = |h: &&Holder| self.runs.get(&h.job).is_some_and(|j| priority(j) < priority(self.job));
        let mut goers: Vec<&Holder> = left.iter().copied().filter(may_go).collect();
        goers.sort_by_key(|h| (self.priority_of(h), Reverse(h.left_ms), h.job.clone()));
        let mut gone: Vec<&Holder> = Vec::new();
        for holder in goers {
            left.retain(|h| h.job != holder.job);
            gone.push(holder);
            if fits(room, &left, want, claimed) {
                break;
            }
        }
        if gone.is_empty() || !fits(room, &left, want, claimed) {
            return None;
        }
        // The last one may have made an earlier one needless.
        for holder in gone.clone().into_iter().rev() {
            left.push(holder);
            match fits(room, &left, want, claimed) {
                true => gone.retain(|h| h.job != holder.job),
                false => left.retain(|h| h.job != holder.job),
            }
        }
        let highest = gone.iter().map(|h| self.priority_of(h)).max().unwrap_or(i32::MIN);
        let cost = (highest, gone.len(), gone.iter().map(|h| h.mib.0).sum());
        Some((cost, gone.iter().filter_map(|h| Some(self.runs.get(&h.job)?.key)).collect()))
    }

    fn priority_of(&self, holder: &Holder) -> i32 {
        self.runs.get(&holder.job).map_or(i32::MIN, |job| priority(job))
    }

    /// On its way out: asked already, fenced, or near its end. An offer is not: somebody is about to take it.
    fn leaves(&self, holder: &Holder) -> bool {
        let chosen = self.runs.get(&holder.job).is_some_and(|job| self.victims.contains_key(&job.key));
        chosen || holder.yields || holder.left_ms.is_some_and(|ms| ms <= self.grace.0)
    }
}

fn fits(room: &Room, left: &[&Holder], want: &Want, claimed: &[Want]) -> bool {
    let reserved = left.iter().map(|h| h.mib).sum();
    let free = room.foreign_mib.map(|f| room.budget_mib.saturating_sub(reserved).saturating_sub(f));
    let mut space = Space {
        free_mib: free.unwrap_or_default(),
        jobs: u32::try_from(left.len()).unwrap_or(u32::MAX),
        kept_whole: left.iter().any(|h| h.exclusive),
        ..room.space()
    };
    claimed.iter().for_each(|earlier| space.take(earlier));
    space.obstacle(want).is_none()
}
