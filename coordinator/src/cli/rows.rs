//! A job as a line of `status` and `follow`: record, slot and the node's news together.

use common::ids::{Attempt, ChainId, JobId, JobName, PlanId};
use common::messages::RunningReport;
use common::plan::{Decision, Plan};
use common::slot::Place;
use common::units::{Mib, Millis};
use coordinator_core::explain::Reason;
use coordinator_core::view::JobView;
use coordinator_core::{State, explain};
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobRow {
    pub plan: PlanId,
    #[serde(serialize_with = "crate::output::as_text")]
    pub job: JobName,
    /// One word: `ready`, `training`, `committed` …
    pub state: &'static str,
    /// The state will not change any more.
    pub over: bool,
    /// It ended without a result.
    pub failed: bool,
    /// It could run and does not.
    pub waiting: bool,
    pub place: Option<Place>,
    pub device: Option<String>,
    pub attempt: Option<Attempt>,
    /// `gat 3/10`
    pub progress: Option<String>,
    pub fraction: Option<f64>,
    pub loss: Option<f64>,
    pub graphs_per_s: Option<f64>,
    pub eta_ms: Option<u64>,
    pub used_mib: Option<Mib>,
    pub duration_ms: Option<u64>,
    /// Why it is where it is, when the state does not say all.
    pub message: Option<String>,
    pub reasons: Vec<Reason>,
}

impl JobRow {
    /// A job of which no more than its state is known.
    pub fn new(plan: &PlanId, job: &JobName, state: &'static str) -> JobRow {
        JobRow {
            plan: plan.clone(),
            job: job.clone(),
            state,
            over: false,
            failed: false,
            waiting: false,
            place: None,
            device: None,
            attempt: None,
            progress: None,
            fraction: None,
            loss: None,
            graphs_per_s: None,
            eta_ms: None,
            used_mib: None,
            duration_ms: None,
            message: None,
            reasons: Vec::new(),
        }
    }
}

/// The jobs of a plan, in its order.
pub fn rows(state: &State, now: Millis, plan: &Plan) -> Vec<JobRow> {
    plan.jobs.iter().map(|job| row(state, now, plan, &job.spec.name, &job.decision)).collect()
}

fn row(state: &State, now: Millis, plan: &Plan, name: &JobName, decision: &Decision) -> JobRow {
    let id = JobId { plan: plan.id.clone(), name: name.clone() };
    let view = coordinator_core::view::view(state, &id);
    let mut row = JobRow {
        over: view.as_ref().map_or(!matches!(decision, Decision::Run { .. }), is_over),
        waiting: view.is_none() && matches!(decision, Decision::Run { .. }),
        message: message_of(decision),
        ..JobRow::new(&plan.id, name, view.as_ref().map_or_else(|| word_of(decision), JobView::word))
    };
    if row.waiting {
        row.message = Some("no coordinator has taken up the plan yet: is `coord serve` running?".into());
    }
    if let Some(view) = view {
        row.message = None;
        fill(&mut row, state, now, &id, view);
    }
    row
}

fn is_over(view: &JobView) -> bool {
    use JobView::*;
    matches!(view, Committed { .. } | UpToDate { .. } | Failed { .. } | Skipped { .. } | Cancelled { .. })
}

fn word_of(decision: &Decision) -> &'static str {
    match decision {
        Decision::Run { .. } => "applied",
        Decision::UpToDate { .. } => "up to date",
        Decision::Excluded { .. } => "excluded",
        Decision::Blocked { .. } => "blocked",
    }
}

fn message_of(decision: &Decision) -> Option<String> {
    match decision {
        Decision::Blocked { reason } => Some(reason.to_string()),
        Decision::Excluded { .. } => Some("left out by --only".into()),
        Decision::Run { .. } | Decision::UpToDate { .. } => None,
    }
}

fn fill(row: &mut JobRow, state: &State, now: Millis, id: &JobId, view: JobView) {
    match view {
        JobView::Ready { attempt } => (row.attempt, row.waiting) = (Some(attempt), true),
        JobView::Verifying { attempt } => row.attempt = Some(attempt),
        JobView::Offered { attempt, place } => (row.attempt, row.place) = (Some(attempt), Some(place)),
        JobView::Running { attempt, place, .. } => {
            (row.attempt, row.place) = (Some(attempt), Some(place));
            news(row, state, id, attempt);
        }
        JobView::Retrying { attempt, message } => {
            (row.attempt, row.message, row.waiting) = (Some(attempt), Some(message), true);
        }
        JobView::Committed { committed, duration_ms } => {
            (row.attempt, row.duration_ms) = (Some(committed.attempt), Some(duration_ms));
        }
        JobView::UpToDate { .. } | JobView::Blocked | JobView::Paused { .. } => {}
        JobView::Failed { cause, message } => {
            (row.failed, row.message) = (true, Some(format!("{}: {message}", cause.as_str())));
        }
        JobView::Skipped { because } => {
            (row.failed, row.message) = (true, Some(format!("{because} has no result")));
        }
        JobView::Cancelled { reason } => (row.failed, row.message) = (true, Some(reason)),
    }
    if let Some(place) = &row.place {
        row.device = Some(place.device.to_string());
    }
    if !row.over
        && let Some(why) = explain(state, now, id)
    {
        row.reasons = why.reasons;
    }
    if row.message.is_none() {
        row.message = last_failure(state, id);
    }
}

/// What the node said of it last.
fn news(row: &mut JobRow, state: &State, id: &JobId, attempt: Attempt) {
    let reports = state.nodes.values().flat_map(|n| &n.beat.running);
    let mut ours = reports.filter(|r| r.job == *id && r.attempt == attempt);
    let Some(report) = ours.next() else { return };
    let RunningReport { stage, progress, fraction, loss, graphs_per_s, eta_ms, used_mib, .. } = report;
    // Fresher than the slot, which is written with each renewal only.
    row.state = stage.as_str();
    row.progress = progress.clone();
    row.waiting = report.waits.is_some();
    (row.fraction, row.loss, row.graphs_per_s) = (*fraction, *loss, *graphs_per_s);
    (row.eta_ms, row.used_mib) = (*eta_ms, *used_mib);
}

/// Why the attempt before this one ended, while the job is not over.
fn last_failure(state: &State, id: &JobId) -> Option<String> {
    let chain = ChainId { plan: id.plan.clone(), dataset: id.name.dataset.clone() };
    let job = state.chains.get(&chain)?.record.jobs.get(&id.name.phase)?;
    let past = job.past.last().filter(|_| !job.state.is_terminal())?;
    let first_line = past.message.lines().next().unwrap_or_default();
    Some(format!("{} ended: {}: {first_line}", past.attempt, past.cause.as_str()))
}
