//! Changes of a chain record that an operator asks for, besides [`cancel`](crate::transition::cancel): pause,
//! resume, and another try of what is over without a result.

use crate::effect::{Note, NoteKind};
use crate::transition::settle;
use common::chain::{ChainRecord, JobState};
use common::ids::{Attempt, JobName, Phase};

/// No job of `phases` is offered from now on, until it is resumed; a holder is asked to save and yield. `None`
/// when there is nothing to pause.
pub fn pause(record: &ChainRecord, phases: &[Phase], reason: &str) -> Option<(ChainRecord, Vec<Note>)> {
    let may = |record: &ChainRecord, phase: &Phase| {
        record.jobs.get(phase).is_some_and(|job| !job.state.is_terminal() && job.paused.is_none())
    };
    set_paused(record, phases, may, Some(reason), (NoteKind::Paused, reason))
}

/// Paused jobs of `phases` go on.
pub fn resume(record: &ChainRecord, phases: &[Phase]) -> Option<(ChainRecord, Vec<Note>)> {
    let may = |record: &ChainRecord, phase: &Phase| {
        record.jobs.get(phase).is_some_and(|job| !job.state.is_terminal() && job.paused.is_some())
    };
    set_paused(record, phases, may, None, (NoteKind::Resumed, "by hand"))
}

fn set_paused(
    record: &ChainRecord,
    phases: &[Phase],
    may: impl Fn(&ChainRecord, &Phase) -> bool,
    paused: Option<&str>,
    (kind, text): (NoteKind, &str),
) -> Option<(ChainRecord, Vec<Note>)> {
    let mut next = record.clone();
    let mut notes = Vec::new();
    for phase in phases.iter().filter(|phase| may(record, phase)) {
        let Some(job) = next.jobs.get_mut(phase) else { continue };
        job.paused = paused.map(str::to_owned);
        notes.push(Note::of(record, *phase, kind, text));
    }
    (!notes.is_empty()).then_some((next, notes))
}

/// A job can not be tried again without the one it builds on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{job} builds on {parent}, which has no result")]
pub struct NeedsParent {
    pub job: JobName,
    pub parent: JobName,
}

/// Another try of what failed, was cancelled or skipped: jobs of `phases`, and those that were skipped because of
/// them. Budgets begin anew, attempt numbers go on. `None` when there is nothing to try again.
pub fn reopen(
    record: &ChainRecord,
    phases: &[Phase],
) -> Result<Option<(ChainRecord, Vec<Note>)>, NeedsParent> {
    let mut next = record.clone();
    let mut reopened: Vec<Phase> = Vec::new();
    // Parents come before their dependents.
    for phase in Phase::ALL {
        let Some(job) = next.jobs.get_mut(&phase).filter(|job| is_lost(&job.state)) else { continue };
        let skipped = matches!(job.state, JobState::Skipped { .. });
        let follows = skipped && job.spec.inputs.parents.keys().any(|parent| reopened.contains(parent));
        if phases.contains(&phase) || follows {
            job.state = JobState::Blocked;
            job.paused = None;
            job.retries.clear();
            reopened.push(phase);
        }
    }
    // What becomes of them is told below.
    settle(&mut next, &mut Vec::new());
    let mut notes = Vec::new();
    for phase in reopened {
        let Some(job) = next.jobs.get_mut(&phase) else { continue };
        let next_attempt = job.past.last().map_or(Attempt::FIRST, |past| past.attempt.next());
        match &mut job.state {
            JobState::Open { attempt, .. } => *attempt = next_attempt,
            JobState::Skipped { because } => {
                return Err(NeedsParent { job: record.job_id(phase).name, parent: because.clone() });
            }
            _ => {}
        }
        notes.push(Note::of(record, phase, NoteKind::Reopened, "another try, by hand"));
    }
    Ok((!notes.is_empty()).then_some((next, notes)))
}

/// Over, and without a result.
pub fn is_lost(state: &JobState) -> bool {
    state.is_terminal() && state.result().is_none()
}
