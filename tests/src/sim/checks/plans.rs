//! The planner's promises, at each plan that is made.

use super::super::admin;
use crate::sim::World;
use common::ids::{JobName, Phase};
use common::plan::{Decision, Plan, RunReason};
use coordinator_core::planner::{Base, Request, plan};
use std::collections::BTreeSet;

pub fn made(w: &mut World, request: &Request, base: &Base, made: &Plan) {
    // I8
    let again = plan(request, base).ok();
    let bytes = |p: &Plan| common::wire::encode(p).ok();
    if again.as_ref().and_then(bytes) != bytes(made) {
        w.violated("I8 the same inputs give the same plan", &made.id);
    }
    forced(w, request, made);
    order(w, made);
}

/// I10: exactly what the selectors name is forced, and what depends on it when that was asked for. Selectors
/// are read here by another way than the planner's.
fn forced(w: &mut World, request: &Request, made: &Plan) {
    let mut wanted: BTreeSet<JobName> = BTreeSet::new();
    for name in admin::names(request) {
        let named =
            |p: Phase| request.options.force.iter().any(|f| f.split(',').any(|s| matches(s, &name, p)));
        let above = Phase::ALL.into_iter().filter(|p| *p < name.phase).any(named);
        if named(name.phase) || (request.options.downstream && above) {
            wanted.insert(name);
        }
    }
    let blocked = |j: &&common::plan::PlannedJob| matches!(j.decision, Decision::Blocked { .. });
    let is: BTreeSet<JobName> = made
        .jobs
        .iter()
        .filter(|j| match &j.decision {
            Decision::Run { reasons } | Decision::Excluded { reasons, .. } => {
                reasons.iter().any(|r| matches!(r, RunReason::Forced { .. }))
            }
            _ => false,
        })
        .map(|j| j.spec.name.clone())
        .collect();
    for name in made.jobs.iter().filter(blocked).map(|j| &j.spec.name) {
        wanted.remove(name);
    }
    if is != wanted {
        w.violated("I10 exactly what was named is forced", format!("{is:?} instead of {wanted:?}"));
    }
}

fn matches(selector: &str, name: &JobName, phase: Phase) -> bool {
    match selector {
        "all" => true,
        "student" => phase == Phase::Student,
        "hcrl_sa/teacher" => name.dataset.as_str() == "hcrl_sa" && phase == Phase::Teacher,
        "hcrl_sa/student" => name.dataset.as_str() == "hcrl_sa" && phase == Phase::Student,
        "*/fusion" => phase == Phase::Fusion,
        _ => false,
    }
}

/// Parents come before the jobs that build on them.
fn order(w: &mut World, made: &Plan) {
    let mut seen = BTreeSet::new();
    for job in &made.jobs {
        for parent in job.spec.inputs.parents.keys() {
            if !seen.contains(&JobName::new(job.spec.name.dataset.clone(), *parent)) {
                w.violated("parents are planned first", &job.spec.name);
            }
        }
        seen.insert(job.spec.name.clone());
    }
}
