//! When and where each job of a plan would run: the coordinator's own rounds of placement played forward over
//! the fleet as it is, with lengths from the history of manifests.

mod line;
mod luck;
mod what_if;

use crate::placement::Fleet;
use crate::placement::bound::lower_bound;
use crate::placement::decide::LookAhead;
use crate::placement::play::{Stretch, play};
use crate::planner::chain_ms;
use crate::planner::history::History;
use common::ids::{JobName, Phase};
use common::messages::DeviceKind;
use common::plan::{Plan, PlannedJob};
use common::units::Mib;
use line::Line;
use luck::Luck;
use serde::Serialize;
use std::collections::BTreeMap;

pub use luck::DRAWS;
pub use what_if::{Change, WhatIf, utilization, what_if};

/// What a forecast is made of.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    pub plan: &'a Plan,
    /// With what runs there now.
    pub fleet: &'a Fleet,
    pub depends_on: &'a BTreeMap<Phase, Vec<Phase>>,
    pub history: &'a History,
    /// `None`: every job takes its usual length. Else one possible future.
    pub seed: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    pub jobs: BTreeMap<String, Expected>,
    /// With the usual length of each job.
    pub makespan_ms: u64,
    /// Over many possible futures; `None` while nothing was run twice, so that nobody knows how lengths vary.
    pub makespan: Option<Quantiles>,
    /// No placement on this fleet could be quicker; `None` without devices, or when a job fits none.
    pub lower_bound_ms: Option<u64>,
    /// No fleet can be quicker than the longest chain.
    pub critical_path: Vec<String>,
    pub critical_path_ms: u64,
    /// Jobs that no device of the fleet will ever take, with the nearest fit.
    pub impossible: Vec<Impossible>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expected {
    /// Node and device.
    pub place: String,
    pub start_ms: u64,
    pub end_ms: u64,
    pub end: Option<Quantiles>,
    /// Memory asked there.
    pub need_mib: Mib,
    pub need_basis: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    pub p50_ms: u64,
    pub p90_ms: u64,
    /// Measured lengths they rest on.
    pub samples: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Impossible {
    pub job: String,
    pub kind: DeviceKind,
    pub need_mib: Mib,
    pub nearest: Option<(String, Mib)>,
}

/// Plays the plan on the fleet. Without devices only the critical path is told.
pub fn forecast(question: &Question<'_>) -> Forecast {
    let Question { plan, fleet, depends_on, history, seed } = question;
    let ahead = chain_ms(&plan.jobs, depends_on);
    let mut jobs: Vec<&PlannedJob> = plan.to_run().collect();
    jobs.sort_by_key(|j| j.spec.name.phase);
    let impossible = match fleet.rooms.is_empty() {
        true => Vec::new(),
        false => jobs.iter().filter_map(|j| never_fits(j, fleet)).collect(),
    };
    let line = Line::of(fleet, plan, &jobs, depends_on, history);
    let usual = run(&line, |at, room| line.length_ms(at, room));
    let spread = history.spread();
    let drawn = |draw: u64| {
        let luck = Luck::new(&spread, draw);
        run(&line, |at, room| luck.of(at, line.length_ms(at, room)))
    };
    let shown = seed.filter(|_| !spread.is_empty()).map(drawn);
    let futures: Vec<Vec<Option<Stretch>>> = match spread.is_empty() || jobs.is_empty() {
        true => Vec::new(),
        false => (0..luck::draws(line.items.len())).map(drawn).collect(),
    };
    let told = shown.as_ref().unwrap_or(&usual);
    let (critical_path, critical_path_ms) = critical_path(plan, &ahead, depends_on);
    Forecast {
        jobs: expected(&line, fleet, &jobs, told, &futures, spread.len()),
        makespan_ms: makespan(told),
        makespan: luck::quantiles(futures.iter().map(|f| makespan(f)).collect(), spread.len()),
        lower_bound_ms: lower_bound(&line.idle_board(), &line.items[..jobs.len()]),
        critical_path,
        critical_path_ms,
        impossible,
    }
}

fn run(line: &Line<'_>, length: impl Fn(usize, usize) -> u64) -> Vec<Option<Stretch>> {
    let (mut board, mut items) = (line.board.clone(), line.items.clone());
    play(&mut board, &mut items, &LookAhead, &length)
}

fn makespan(stretches: &[Option<Stretch>]) -> u64 {
    stretches.iter().flatten().map(|s| s.end_ms).max().unwrap_or(0)
}

fn expected(
    line: &Line<'_>,
    fleet: &Fleet,
    jobs: &[&PlannedJob],
    told: &[Option<Stretch>],
    futures: &[Vec<Option<Stretch>>],
    samples: usize,
) -> BTreeMap<String, Expected> {
    let one = |(at, job): (usize, &&PlannedJob)| {
        let Stretch { room, start_ms, end_ms } = told[at]?;
        let ends = futures.iter().filter_map(|f| Some(f[at]?.end_ms)).collect();
        let device = &fleet.rooms[room];
        let (_, basis) = job.spec.need.on_device(device.kind, &device.model);
        let expected = Expected {
            place: device.name(),
            start_ms,
            end_ms,
            end: luck::quantiles(ends, samples),
            need_mib: line.board.want_at(line.items[at].class, room)?.mib,
            need_basis: basis.to_owned(),
        };
        Some((job.spec.name.to_string(), expected))
    };
    jobs.iter().enumerate().filter_map(one).collect()
}

fn never_fits(job: &PlannedJob, fleet: &Fleet) -> Option<Impossible> {
    if fleet.ever_fits(&job.spec) {
        return None;
    }
    let (kind, need_mib, nearest) = fleet.nearest(&job.spec);
    Some(Impossible { job: job.spec.name.to_string(), kind, need_mib, nearest })
}

fn critical_path(
    plan: &Plan,
    ahead: &BTreeMap<JobName, u64>,
    depends_on: &BTreeMap<Phase, Vec<Phase>>,
) -> (Vec<String>, u64) {
    let longest = |names: Vec<JobName>| {
        names.into_iter().filter_map(|n| Some((*ahead.get(&n)?, n))).max().filter(|(ms, _)| *ms > 0)
    };
    let mut path = Vec::new();
    let all = plan.to_run().map(|j| j.spec.name.clone()).collect();
    let Some((total, mut name)) = longest(all) else { return (path, 0) };
    loop {
        path.push(name.to_string());
        let behind = depends_on
            .iter()
            .filter(|(_, parents)| parents.contains(&name.phase))
            .map(|(phase, _)| JobName::new(name.dataset.clone(), *phase))
            .collect();
        match longest(behind) {
            Some((_, next)) => name = next,
            None => return (path, total),
        }
    }
}
