//! When and where each job of a plan would run: the placement rules played forward over the fleet as it is.

use crate::planner::chain_ms;
use common::config::DeviceChoice;
use common::ids::{JobName, Phase};
use common::messages::DeviceKind;
use common::plan::{Decision, Plan, PlannedJob};
use common::units::Mib;
use serde::Serialize;
use std::collections::BTreeMap;

/// A device that jobs may be placed on, as far as prediction needs to know it.
#[derive(Debug, Clone)]
pub struct Machine {
    pub name: String,
    pub kind: DeviceKind,
    pub budget_mib: Mib,
    pub max_jobs: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Forecast {
    pub jobs: BTreeMap<String, Expected>,
    pub makespan_ms: u64,
    /// No fleet can be quicker than the longest chain.
    pub critical_path: Vec<String>,
    pub critical_path_ms: u64,
    /// Jobs that no device of the fleet will ever take, with the nearest fit.
    pub impossible: Vec<Impossible>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Expected {
    pub place: String,
    pub start_ms: u64,
    pub end_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Impossible {
    pub job: String,
    pub kind: DeviceKind,
    pub need_mib: Mib,
    pub nearest: Option<(String, Mib)>,
}

/// Plays the plan on idle machines. Without machines only the critical path is told.
pub fn forecast(plan: &Plan, machines: &[Machine], depends_on: &BTreeMap<Phase, Vec<Phase>>) -> Forecast {
    let ahead = chain_ms(&plan.jobs, depends_on);
    let mut left: Vec<&PlannedJob> = plan.to_run().collect();
    left.sort_by_key(|j| {
        let chain = ahead.get(&j.spec.name).copied().unwrap_or(0);
        (std::cmp::Reverse(j.spec.priority), std::cmp::Reverse(chain), j.spec.name.clone())
    });
    let mut impossible = Vec::new();
    if !machines.is_empty() {
        impossible = left.iter().filter_map(|j| never_fits(j, machines)).collect();
        left.retain(|j| never_fits(j, machines).is_none());
    }
    let jobs = play(left, plan, machines, depends_on);
    let (critical_path, critical_path_ms) = critical_path(plan, &ahead, depends_on);
    Forecast {
        makespan_ms: jobs.values().map(|e| e.end_ms).max().unwrap_or(0),
        jobs,
        critical_path,
        critical_path_ms,
        impossible,
    }
}

/// Kind of device and memory a job would use on these machines.
fn ask(job: &PlannedJob, machines: &[Machine]) -> (DeviceKind, Mib) {
    let need = &job.spec.need;
    let gpu_fits = machines.iter().any(|m| m.kind == DeviceKind::Gpu && m.budget_mib >= need.gpu_mib);
    match job.spec.tuning.device {
        DeviceChoice::Cpu => (DeviceKind::Cpu, need.cpu_mib),
        DeviceChoice::Cuda => (DeviceKind::Gpu, need.gpu_mib),
        DeviceChoice::Auto if gpu_fits => (DeviceKind::Gpu, need.gpu_mib),
        DeviceChoice::Auto => (DeviceKind::Cpu, need.cpu_mib),
    }
}

fn never_fits(job: &PlannedJob, machines: &[Machine]) -> Option<Impossible> {
    let (kind, need_mib) = ask(job, machines);
    let of_kind = || machines.iter().filter(|m| m.kind == kind);
    if of_kind().any(|m| m.budget_mib >= need_mib) {
        return None;
    }
    let nearest = of_kind().max_by_key(|m| m.budget_mib).map(|m| (m.name.clone(), m.budget_mib));
    Some(Impossible { job: job.spec.name.to_string(), kind, need_mib, nearest })
}

struct Running {
    name: JobName,
    machine: usize,
    mib: Mib,
    end_ms: u64,
}

fn play(
    mut left: Vec<&PlannedJob>,
    plan: &Plan,
    machines: &[Machine],
    depends_on: &BTreeMap<Phase, Vec<Phase>>,
) -> BTreeMap<String, Expected> {
    let to_run = |name: &JobName| plan.job(name).is_some_and(|j| matches!(j.decision, Decision::Run { .. }));
    let mut done: BTreeMap<JobName, u64> = BTreeMap::new();
    let mut running: Vec<Running> = Vec::new();
    let mut expected = BTreeMap::new();
    let mut now = 0;
    while !machines.is_empty() && !left.is_empty() {
        let mut kept = Vec::new();
        for job in left {
            let name = &job.spec.name;
            let parents = depends_on.get(&name.phase).cloned().unwrap_or_default();
            let parents = parents.into_iter().map(|p| JobName::new(name.dataset.clone(), p));
            let ready = parents.filter(|p| to_run(p)).all(|p| done.contains_key(&p));
            match ready.then(|| choose(job, machines, &running)).flatten() {
                Some((machine, mib)) => {
                    let end_ms = now + job.expected_ms;
                    running.push(Running { name: name.clone(), machine, mib, end_ms });
                    let place = machines[machine].name.clone();
                    expected.insert(name.to_string(), Expected { place, start_ms: now, end_ms });
                }
                None => kept.push(job),
            }
        }
        left = kept;
        let Some(next) = running.iter().map(|r| r.end_ms).min() else { break };
        now = next;
        running.retain(|r| {
            let over = r.end_ms <= now;
            if over {
                done.insert(r.name.clone(), r.end_ms);
            }
            !over
        });
    }
    expected
}

/// Fewest jobs, then the tightest fit: the rule of [`crate::placement`].
fn choose(job: &PlannedJob, machines: &[Machine], running: &[Running]) -> Option<(usize, Mib)> {
    let (kind, need) = ask(job, machines);
    let room = |i: usize, m: &Machine| {
        let here: Vec<&Running> = running.iter().filter(|r| r.machine == i).collect();
        let free = m.budget_mib.saturating_sub(here.iter().map(|r| r.mib).sum());
        (m.kind == kind && free >= need && (here.len() as u32) < m.max_jobs).then_some((here.len(), free))
    };
    let fits = machines.iter().enumerate().filter_map(|(i, m)| Some((room(i, m)?, i)));
    fits.min().map(|(_, i)| (i, need))
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
