//! The admin: plans, applies them at once or too late, cancels. Checks the planner's promises (I8, I10) on
//! the way.

use super::World;
use super::bus;
use super::checks;
use super::queue::Ev;
use super::scenario::{DATASETS, NEED_CPU_MIB, PlanSpec};
use common::config::{Config, Tuning};
use common::digest::Digest;
use common::ids::{ChainId, DatasetId, JobName, Phase};
use common::plan::{Decision, MemoryNeed, Plan, PlanOptions};
use common::units::{Mib, UnixMs};
use coordinator_core::planner::{Base, DatasetRequest, PhaseRequest, Request, plan};
use coordinator_core::{by_hand, transition};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

#[derive(Debug)]
pub enum AdminEv {
    Plan { spec: usize, tries: u32 },
    Apply { spec: usize, plan: Arc<Plan>, tries: u32 },
    Cancel,
    Pause,
    Resume,
    Retry,
}

#[derive(Default)]
pub struct Admin {
    /// Plans that are still to be made or applied.
    pub open: usize,
    /// What was last asked for, for the questions at the end.
    pub applied: Vec<Request>,
    /// What is over may be opened again, by the write under way.
    pub reopening: bool,
}

pub fn schedule(w: &mut World) {
    for spec in 0..w.scenario.plans.len() {
        w.admin.open += 1;
        let at = w.scenario.plans[spec].at;
        w.after(at, Ev::Admin(AdminEv::Plan { spec, tries: 0 }));
    }
    for at in w.scenario.cancels_at.clone() {
        w.after(at, Ev::Admin(AdminEv::Cancel));
    }
    for at in w.scenario.pauses_at.clone() {
        w.after(at, Ev::Admin(AdminEv::Pause));
    }
    if let Some(at) = w.scenario.retry_at {
        w.admin.open += 1;
        w.after(at, Ev::Admin(AdminEv::Retry));
    }
}

pub fn depends_on() -> BTreeMap<Phase, Vec<Phase>> {
    BTreeMap::from([
        (Phase::Teacher, vec![]),
        (Phase::Student, vec![Phase::Teacher]),
        (Phase::Fusion, vec![Phase::Student]),
    ])
}

fn tuning() -> Tuning {
    static BUILT_IN: OnceLock<Tuning> = OnceLock::new();
    BUILT_IN.get_or_init(|| Config::built_in().tuning(Phase::Teacher)).clone()
}

pub fn request(w: &World, spec: &PlanSpec) -> Request {
    let phase = |(i, phase): (usize, Phase)| {
        let asked = PhaseRequest {
            semantic: serde_json::json!({ "lr": spec.config_version[i] }),
            tuning: tuning(),
            need: MemoryNeed::flat(Mib(w.scenario.need_gpu_mib[i]), Mib(NEED_CPU_MIB), "simulated"),
            expected_ms: [45, 35, 60][i] * 60_000,
            expected_basis: "simulated".into(),
        };
        (phase, asked)
    };
    let dataset = |d: &usize| DatasetRequest {
        id: DATASETS[*d].parse().expect("clean names"),
        digest: Ok(Digest::of(format!("{} {}", DATASETS[*d], spec.data_version).as_bytes())),
        priority: spec.priority,
        phases: Phase::ALL.into_iter().enumerate().map(phase).collect(),
    };
    Request {
        created: UnixMs(w.now),
        datasets: spec.datasets.iter().map(dataset).collect(),
        depends_on: depends_on(),
        options: PlanOptions {
            only: spec.only.iter().map(|i| Phase::ALL[*i]).collect(),
            force: spec.force.clone(),
            downstream: spec.downstream,
            ..PlanOptions::default()
        },
        data_url: "file:///captures".into(),
        missing: BTreeMap::new(),
        traceparent: None,
    }
}

/// What is committed and running, as the buckets say now.
pub fn base(w: &World) -> Base {
    let mut base = Base::default();
    for (_, entry) in w.bus.registry.values() {
        base.committed.insert(entry.committed.key, entry.committed.clone());
        base.registry.insert(entry.name.clone(), entry.as_ref().clone());
    }
    for (id, (_, record)) in &w.bus.chains {
        for job in record.jobs.values() {
            if let (Some(key), Some(result)) = (job.key(), job.state.result())
                && result.key == key
            {
                base.committed.insert(key, result.clone());
            }
        }
        if !record.is_finished() {
            base.running.insert(id.dataset.clone(), id.plan.clone());
        }
    }
    for (_, plan) in w.bus.plans.values() {
        for (dataset, jobs) in plan.by_dataset() {
            let id = ChainId { plan: plan.id.clone(), dataset: dataset.clone() };
            let runs = jobs.values().any(|j| matches!(j.decision, Decision::Run { .. }));
            if runs && !w.bus.chains.contains_key(&id) {
                base.running.insert(dataset.clone(), plan.id.clone());
            }
        }
    }
    base
}

pub fn happen(w: &mut World, ev: AdminEv) {
    match ev {
        AdminEv::Plan { spec, tries } => make_plan(w, spec, tries),
        AdminEv::Apply { spec, plan, tries } => apply_plan(w, spec, plan, tries),
        AdminEv::Cancel => cancel(w),
        AdminEv::Pause => pause(w),
        AdminEv::Resume => resume(w),
        AdminEv::Retry => retry(w),
    }
}

fn make_plan(w: &mut World, spec: usize, tries: u32) {
    let asked = w.scenario.plans[spec].clone();
    let request = request(w, &asked);
    let base = base(w);
    let made = match plan(&request, &base) {
        Ok(made) => made,
        // A selector that names a dataset outside of this plan.
        Err(_) => return w.admin.open -= 1,
    };
    checks::plans::made(w, &request, &base, &made);
    let blocked = made.jobs.iter().any(|j| matches!(j.decision, Decision::Blocked { .. }));
    if blocked && tries < 30 && !asked.careless {
        let again = w.rng.range(3_000, 15_000);
        return w.after(again, Ev::Admin(AdminEv::Plan { spec, tries: tries + 1 }));
    }
    w.admin.applied.push(request);
    let delay = w.rng.range(10, 3_000);
    w.after(delay, Ev::Admin(AdminEv::Apply { spec, plan: Arc::new(made), tries: 0 }));
}

fn apply_plan(w: &mut World, spec: usize, plan: Arc<Plan>, tries: u32) {
    if !w.bus.is_up(w.now) && tries < 100 {
        return w.after(2_000, Ev::Admin(AdminEv::Apply { spec, plan, tries: tries + 1 }));
    }
    let datasets: Vec<DatasetId> =
        w.scenario.plans[spec].datasets.iter().map(|d| DATASETS[*d].parse().expect("clean names")).collect();
    let moved = base(w).revision(&datasets) != plan.base_revision;
    if moved && !w.scenario.plans[spec].careless {
        w.trace(|| format!("admin: plan {} is stale", plan.id));
        return w.after(1, Ev::Admin(AdminEv::Plan { spec, tries: 30 }));
    }
    w.admin.open -= 1;
    let plan = rerun(w, plan);
    let fresh = bus::create_plan(w, plan.clone());
    w.trace(|| format!("admin: applied {} ({} to run), new: {fresh}", plan.id, plan.to_run().count()));
}

/// The same content again, after the plan of that id is over (it failed or was cancelled): a number behind
/// the id, as `coord apply` gives it.
fn rerun(w: &mut World, plan: Arc<Plan>) -> Arc<Plan> {
    let mut next = plan.as_ref().clone();
    for number in 2..9 {
        let of = |id: &&ChainId| id.plan == next.id;
        let chains: Vec<&ChainId> = w.bus.chains.keys().filter(of).collect();
        let over = chains.iter().all(|id| w.bus.chains[*id].1.is_finished());
        if !w.bus.plans.contains_key(&next.id) || chains.is_empty() || !over {
            break;
        }
        w.history.mark("the same plan was run again");
        next.id = format!("{}-{number}", plan.id).parse().expect("a short clean name");
    }
    Arc::new(next)
}

/// Cancels some phases of a chain that is not over.
fn cancel(w: &mut World) {
    let running: Vec<ChainId> =
        w.bus.chains.iter().filter(|(_, (_, r))| !r.is_finished()).map(|(id, _)| id.clone()).collect();
    if running.is_empty() || !w.bus.is_up(w.now) {
        return;
    }
    let id = w.rng.pick(&running).clone();
    let from = w.rng.index(3);
    let (revision, record) = w.bus.chains[&id].clone();
    if let Some((cancelled, _)) = transition::cancel(&record, &Phase::ALL[from..], "by hand") {
        w.trace(|| format!("admin: cancels {id} from {}", Phase::ALL[from]));
        bus::replace_chain(w, Arc::new(cancelled), revision);
    }
}

/// Pauses some phases of a chain that is not over; later everything is resumed.
fn pause(w: &mut World) {
    let running: Vec<ChainId> =
        w.bus.chains.iter().filter(|(_, (_, r))| !r.is_finished()).map(|(id, _)| id.clone()).collect();
    if running.is_empty() || !w.bus.is_up(w.now) {
        return;
    }
    let id = w.rng.pick(&running).clone();
    let phases = &Phase::ALL[w.rng.index(3)..];
    let (revision, record) = w.bus.chains[&id].clone();
    if let Some((paused, _)) = by_hand::pause(&record, phases, "by hand") {
        w.trace(|| format!("admin: pauses {id} {phases:?}"));
        w.history.mark("jobs were paused");
        bus::replace_chain(w, Arc::new(paused), revision);
        w.admin.open += 1;
        let later = w.rng.range(1_000, 60_000);
        w.after(later, Ev::Admin(AdminEv::Resume));
    }
}

fn resume(w: &mut World) {
    if !w.bus.is_up(w.now) {
        return w.after(2_000, Ev::Admin(AdminEv::Resume));
    }
    w.admin.open -= 1;
    resume_all(w);
}

/// A bus that forgot may have forgotten that something was resumed.
pub fn resume_all(w: &mut World) {
    for (id, (revision, record)) in w.bus.chains.clone() {
        if let Some((resumed, _)) = by_hand::resume(&record, &Phase::ALL) {
            w.trace(|| format!("admin: resumes {id}"));
            bus::replace_chain(w, Arc::new(resumed), revision);
        }
    }
}

/// Everything that ended without a result is tried again, once.
fn retry(w: &mut World) {
    if !w.bus.is_up(w.now) {
        return w.after(2_000, Ev::Admin(AdminEv::Retry));
    }
    w.admin.open -= 1;
    w.admin.reopening = true;
    for (id, (revision, record)) in w.bus.chains.clone() {
        if let Ok(Some((reopened, _))) = by_hand::reopen(&record, &Phase::ALL) {
            w.trace(|| format!("admin: tries {id} again"));
            w.history.mark("what was over was tried again by hand");
            bus::replace_chain(w, Arc::new(reopened), revision);
        }
    }
    w.admin.reopening = false;
}

/// Names of all jobs of a request.
pub fn names(request: &Request) -> Vec<JobName> {
    let of = |d: &DatasetRequest| d.phases.keys().map(|p| JobName::new(d.id.clone(), *p)).collect::<Vec<_>>();
    request.datasets.iter().flat_map(of).collect()
}
