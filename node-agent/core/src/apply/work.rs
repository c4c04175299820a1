//! Inputs, checkpoints and results: what was fetched and stored.

use super::{ending, run_mut};
use crate::attempt::{AttemptState, FinishedChild, Inputs, Saves, Verdict};
use crate::event::{Change, Changed, Refused};
use crate::state::{RunId, State};
use crate::tries::{Nature, Problem, Tries};
use common::digest::Digest;
use common::slot::{Cause, Failure};
use common::units::Millis;

pub(super) fn fetched(state: &mut State, id: RunId, inputs: Inputs) -> Result<Changed, Refused> {
    let run = run_mut(&mut state.runs, id)?;
    match run.take_state() {
        AttemptState::Fetching { claim, .. } => {
            run.state = AttemptState::Starting { claim, inputs };
            Ok(Changed::nothing())
        }
        other => {
            run.state = other;
            Err(Refused::OutOfTurn { run: id, what: "its inputs" })
        }
    }
}

/// Nothing is trained twice: what an earlier attempt finished on this machine is stored now.
pub(super) fn found_finished(
    state: &mut State,
    now: Millis,
    id: RunId,
    result: FinishedChild,
) -> Result<Changed, Refused> {
    let run = run_mut(&mut state.runs, id)?;
    let AttemptState::Fetching { claim, .. } = &run.state else {
        return Err(Refused::OutOfTurn { run: id, what: "a finished result" });
    };
    let claim = claim.clone();
    let (saves, tries) = (Saves::default(), Tries::new(now));
    run.state = AttemptState::Uploading { claim, result, saves, since: now, tries };
    state.ledger.release(&id);
    Ok(Changed::one(Change::FoundFinished { run: id }))
}

pub(super) fn fetch_failed(
    state: &mut State,
    now: Millis,
    id: RunId,
    problem: Problem,
) -> Result<Changed, Refused> {
    let (first, patience) = (state.options.retry_after, Some(state.options.refused_timeout));
    let run = run_mut(&mut state.runs, id)?;
    let AttemptState::Fetching { claim, tries, .. } = &mut run.state else {
        return Err(Refused::OutOfTurn { run: id, what: "its inputs" });
    };
    if problem.nature != Nature::Final {
        tries.fail(now, first, patience, problem.clone());
        return Ok(Changed::one(Change::Trouble { run: id, message: problem.message }));
    }
    let claim = claim.clone();
    let failure = Failure::new(problem.cause, problem.message);
    let run = state.runs.get_mut(&id).ok_or(Refused::UnknownRun(id))?;
    Ok(ending::fail(&mut state.ledger, run, claim, Saves::default(), failure, now, now))
}

pub(super) fn checkpoint_stored(
    state: &mut State,
    now: Millis,
    id: RunId,
    seq: u32,
) -> Result<Changed, Refused> {
    let run = run_mut(&mut state.runs, id)?;
    let saves = run.state.saves_mut().ok_or(Refused::OutOfTurn { run: id, what: "a checkpoint" })?;
    saves.stored = saves.stored.max(Some(seq));
    saves.tries = Tries::new(now);
    Ok(saved(state, now, id, false))
}

pub(super) fn checkpoint_failed(
    state: &mut State,
    now: Millis,
    id: RunId,
    seq: u32,
    problem: Problem,
) -> Result<Changed, Refused> {
    // A checkpoint is a convenience: slower than results, so that a struggling store is left in peace.
    let first = Millis(state.options.retry_after.0.saturating_mul(4));
    let run = run_mut(&mut state.runs, id)?;
    let saves = run.state.saves_mut().ok_or(Refused::OutOfTurn { run: id, what: "a checkpoint" })?;
    let message = format!("checkpoint {seq} is not stored yet: {}", problem.message);
    saves.tries.fail(now, first, None, problem);
    Ok(Changed::one(Change::Trouble { run: id, message }))
}

/// Ends the saving of a last checkpoint when it is stored, or when `give_up`.
pub(super) fn saved(state: &mut State, now: Millis, id: RunId, give_up: bool) -> Changed {
    let Some(run) = state.runs.get_mut(&id) else { return Changed::nothing() };
    let AttemptState::Saving { claim, saves, failure, .. } = &run.state else { return Changed::nothing() };
    if saves.unsaved().is_some() && !give_up {
        return Changed::nothing();
    }
    let claim = claim.clone();
    let mut failure = failure.clone();
    failure.checkpointed = saves.stored.is_some();
    ending::close(run, claim, Verdict::Failed(failure), now)
}

pub(super) fn result_stored(
    state: &mut State,
    now: Millis,
    id: RunId,
    manifest: Digest,
) -> Result<Changed, Refused> {
    let run = run_mut(&mut state.runs, id)?;
    let AttemptState::Uploading { claim, .. } = &run.state else {
        return Err(Refused::OutOfTurn { run: id, what: "its result" });
    };
    let claim = claim.clone();
    let duration_ms = now.since(claim.held_since).0;
    Ok(ending::close(run, claim, Verdict::Finished { manifest, duration_ms }, now))
}

pub(super) fn result_failed(
    state: &mut State,
    now: Millis,
    id: RunId,
    problem: Problem,
) -> Result<Changed, Refused> {
    let (first, patience) = (state.options.retry_after, Some(state.options.refused_timeout));
    let run = run_mut(&mut state.runs, id)?;
    let AttemptState::Uploading { tries, .. } = &mut run.state else {
        return Err(Refused::OutOfTurn { run: id, what: "its result" });
    };
    if problem.nature != Nature::Final {
        tries.fail(now, first, patience, problem.clone());
        let message = format!("the result is not stored yet: {}", problem.message);
        return Ok(Changed::one(Change::Trouble { run: id, message }));
    }
    Ok(result_lost(state, now, id, problem.cause, problem.message))
}

/// The result can not be stored, and that is given up.
pub(super) fn result_lost(
    state: &mut State,
    now: Millis,
    id: RunId,
    cause: Cause,
    message: String,
) -> Changed {
    let Some(run) = state.runs.get_mut(&id) else { return Changed::nothing() };
    let AttemptState::Uploading { claim, saves, .. } = &run.state else { return Changed::nothing() };
    let (claim, checkpointed) = (claim.clone(), saves.stored.is_some());
    let failure = Failure { checkpointed, ..Failure::new(cause, message) };
    ending::fail(&mut state.ledger, run, claim, Saves::default(), failure, now, now)
}
