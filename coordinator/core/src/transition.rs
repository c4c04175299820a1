//! A chain record into the next one. Each function returns the new record and what to tell about it; the
//! caller writes it against the revision it read, so a change is made whole or not at all.

use crate::effect::{Note, NoteKind};
use crate::options::Options;
use common::chain::{ChainRecord, JobRecord, JobState, PAST_MAX, PastAttempt};
use common::digest::Digest;
use common::ids::{Attempt, JobName, NodeId, Phase};
use common::job_key::{JobKey, ParentResult};
use common::registry::CommittedRef;
use common::slot::Cause;

/// Commit of a verified result and unlock of its dependents, in one record.
pub fn commit(
    record: &ChainRecord,
    phase: Phase,
    committed: CommittedRef,
    node: Option<NodeId>,
    duration_ms: u64,
) -> (ChainRecord, Vec<Note>) {
    let attempt = committed.attempt;
    let mut next = record.clone();
    let mut notes = Vec::new();
    if let Some(job) = next.jobs.get_mut(&phase) {
        let text = format!("manifest {}", committed.manifest.short());
        job.state = JobState::Committed { committed, duration_ms };
        notes.push(Note::of(record, phase, NoteKind::Committed, text).attempt(attempt).node(node));
    }
    settle(&mut next, &mut notes);
    (next, notes)
}

/// The very result exists already (another plan made it): nothing to run.
pub fn up_to_date(record: &ChainRecord, phase: Phase, committed: CommittedRef) -> (ChainRecord, Vec<Note>) {
    let mut next = record.clone();
    let mut notes = Vec::new();
    if let Some(job) = next.jobs.get_mut(&phase) {
        let text = format!("the same result was committed before, manifest {}", committed.manifest.short());
        job.state = JobState::UpToDate { committed };
        notes.push(Note::of(record, phase, NoteKind::UpToDate, text));
    }
    settle(&mut next, &mut notes);
    (next, notes)
}

/// How an attempt ended without a result.
pub struct Ended {
    pub cause: Cause,
    pub message: String,
    pub node: Option<NodeId>,
    /// It left a checkpoint that the next attempt goes on from.
    pub progress: bool,
}

/// Budgets that progress fills up again: each such attempt brought the job nearer to its end. Running out of
/// memory or diverging comes back at the same place, whatever was saved before.
const RESET_BY_PROGRESS: [Cause; 2] = [Cause::Infrastructure, Cause::Preemption];

/// The one way on after an attempt without a result, whoever noticed: the next attempt after a pause, or
/// the end of the job when the budget of this cause is spent.
pub fn retry(
    record: &ChainRecord,
    phase: Phase,
    ended: Ended,
    options: &Options,
) -> Option<(ChainRecord, Vec<Note>)> {
    let mut next = record.clone();
    let mut notes = Vec::new();
    let job = next.jobs.get_mut(&phase)?;
    let attempt = job.open_attempt()?;
    if ended.progress {
        job.retries.retain(|cause, _| !RESET_BY_PROGRESS.contains(cause));
    }
    let spent = job.retries.entry(ended.cause).or_insert(0);
    *spent = spent.saturating_add(1);
    let (spent, budget) = (*spent, options.budget(ended.cause));
    let too_many = attempt.0 >= options.attempts_max;
    remember(job, attempt, &ended);
    let cause = ended.cause.as_str();
    let kind = if spent > budget || too_many {
        let message = if too_many {
            format!("{} (attempt {} is the last one that may be made)", ended.message, attempt.0)
        } else if budget == 0 {
            ended.message.clone()
        } else {
            format!("{} ({cause}: {spent} attempts, budget {budget} retries)", ended.message)
        };
        job.state = JobState::Failed { cause: ended.cause, message };
        NoteKind::Failed
    } else {
        let backoff_ms = backoff_ms(options, spent, job.key(), attempt);
        job.state = JobState::Open { attempt: attempt.next(), backoff_ms };
        NoteKind::Retried
    };
    let text = format!("{cause}: {}", ended.message);
    notes.push(Note::of(record, phase, kind, text).attempt(attempt).node(ended.node));
    settle(&mut next, &mut notes);
    Some((next, notes))
}

/// A job that found no place within its time: over, whatever is left of its budgets.
pub fn give_up(record: &ChainRecord, phase: Phase, message: String) -> Option<(ChainRecord, Vec<Note>)> {
    let mut next = record.clone();
    let job = next.jobs.get_mut(&phase)?;
    let attempt = job.open_attempt()?;
    let mut notes = vec![Note::of(record, phase, NoteKind::Failed, message.clone()).attempt(attempt)];
    job.state = JobState::Failed { cause: Cause::Infrastructure, message };
    settle(&mut next, &mut notes);
    Some((next, notes))
}

/// A higher attempt number without a failure: slot or store have seen higher ones (an earlier plan's, or
/// those of a record whose newest writes the bus has lost).
pub fn raise_attempt(
    record: &ChainRecord,
    phase: Phase,
    attempt: Attempt,
) -> Option<(ChainRecord, Vec<Note>)> {
    let mut next = record.clone();
    let job = next.jobs.get_mut(&phase)?;
    job.open_attempt()?;
    job.state = JobState::Open { attempt, backoff_ms: 0 };
    let text = "an earlier attempt of the same job is known";
    let note = Note::of(record, phase, NoteKind::AttemptRaised, text).attempt(attempt);
    Some((next, vec![note]))
}

/// Ends every job of `phases` (and what depends on them) that is not over. `None` when there is nothing to
/// end.
pub fn cancel(record: &ChainRecord, phases: &[Phase], reason: &str) -> Option<(ChainRecord, Vec<Note>)> {
    let mut next = record.clone();
    let mut notes = Vec::new();
    for phase in phases {
        if let Some(job) = next.jobs.get_mut(phase)
            && !job.state.is_terminal()
        {
            job.state = JobState::Cancelled { reason: reason.to_owned() };
            notes.push(Note::of(record, *phase, NoteKind::Cancelled, reason));
        }
    }
    settle(&mut next, &mut notes);
    (next != *record).then_some((next, notes))
}

/// Brings blocked jobs in line with their parents: unlocked when all have results, skipped when one never
/// will. Run after every change, so that no record ever holds a job that waits for nothing.
pub fn settle(record: &mut ChainRecord, notes: &mut Vec<Note>) {
    for phase in Phase::ALL {
        let Some(job) = record.jobs.get(&phase) else { continue };
        if job.state != JobState::Blocked {
            continue;
        }
        let parents: Vec<Phase> = job.spec.inputs.parents.keys().copied().collect();
        let mut inputs = job.spec.inputs.clone();
        let mut lost = None;
        for parent in parents {
            let Some(parent_job) = record.jobs.get(&parent) else { continue };
            match parent_job.state.result() {
                Some(result) => inputs = inputs.with_parent(parent, result.manifest),
                None if parent_job.state.is_terminal() => lost = lost.or(Some(parent)),
                None => {}
            }
        }
        let pending = inputs.parents.values().any(|p| *p == ParentResult::Pending);
        let because = lost.map(|parent| JobName::new(record.id.dataset.clone(), parent));
        let Some(job) = record.jobs.get_mut(&phase) else { continue };
        job.spec.inputs = inputs;
        let (kind, text) = match because {
            Some(because) => {
                let text = format!("{because} has no result");
                job.state = JobState::Skipped { because };
                (NoteKind::Skipped, text)
            }
            None if !pending => {
                job.state = JobState::Open { attempt: Attempt::FIRST, backoff_ms: 0 };
                (NoteKind::Unlocked, "all parents have results".to_owned())
            }
            None => continue,
        };
        notes.push(Note::of(record, phase, kind, text));
    }
}

fn remember(job: &mut JobRecord, attempt: Attempt, ended: &Ended) {
    job.past.push(PastAttempt {
        attempt,
        node: ended.node.clone(),
        cause: ended.cause,
        message: ended.message.clone(),
    });
    let beyond = job.past.len().saturating_sub(PAST_MAX);
    job.past.drain(..beyond);
}

/// Doubling pause with a jitter of up to a quarter. This room knows no randomness: the jitter is drawn from job
/// key and attempt, so that jobs which failed together part, and a restarted coordinator draws the same.
fn backoff_ms(options: &Options, spent: u32, key: Option<JobKey>, attempt: Attempt) -> u64 {
    let doubled = options.backoff_base.0.saturating_mul(1u64 << spent.saturating_sub(1).min(20));
    let capped = doubled.min(options.backoff_max.0);
    let seed = format!("{} {attempt}", key.map(|key| key.to_string()).unwrap_or_default());
    let jitter = u64::from_str_radix(&Digest::of(seed.as_bytes()).short()[..2], 16).unwrap_or(0); // 0 to 255
    capped + capped / 4 * jitter / 256
}
