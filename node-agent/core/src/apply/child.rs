//! The trainer child: started, speaking, ended.

use super::{ending, run_mut};
use crate::attempt::{AttemptState, Child, FinishedChild, LastWord, LocalCheckpoint, Saves, StopWhy};
use crate::event::{Change, Changed, ChildExit, Refused};
use crate::pace::Pace;
use crate::state::{Mode, RunId, State};
use crate::tries::Tries;
use common::manifest::CEILING_USED;
use common::slot::{Cause, Failure};
use common::trainer_protocol::{FailureKind, FromTrainer, PROTOCOL_VERSION, Stage};
use common::units::{Millis, UnixMs};

pub(super) fn spawned(
    state: &mut State,
    now: Millis,
    id: RunId,
    pid: u32,
    at: UnixMs,
    resumed_from_epoch: Option<u32>,
) -> Result<Changed, Refused> {
    let started = Child {
        pid,
        started: now,
        started_at: at,
        last_frame: now,
        ready: false,
        pace: Pace::default(),
        stage: Stage::Preparing,
        progress: None,
        used_mib: None,
        resumed_from_epoch,
        last_word: None,
        out_of_memory: None,
        ceiling: None,
    };
    let run = run_mut(&mut state.runs, id)?;
    match run.take_state() {
        AttemptState::Starting { claim, .. } => {
            run.state = AttemptState::Running { claim, child: started, saves: Saves::default() };
        }
        AttemptState::Stopping { claim, child: None, saves, why, asked, kill_at } => {
            run.state = AttemptState::Stopping { claim, child: Some(started), saves, why, asked, kill_at };
        }
        other => {
            run.state = other;
            return Err(Refused::OutOfTurn { run: id, what: "a child" });
        }
    }
    state.ledger.child_started(&id, pid);
    Ok(Changed::one(Change::ChildStarted { run: id, pid }))
}

pub(super) fn spawn_failed(
    state: &mut State,
    now: Millis,
    id: RunId,
    message: String,
) -> Result<Changed, Refused> {
    let run = run_mut(&mut state.runs, id)?;
    match &run.state {
        AttemptState::Starting { claim, .. } => {
            let claim = claim.clone();
            let failure = Failure { trained_ms: Some(0), ..Failure::new(Cause::Infrastructure, message) };
            Ok(ending::fail(&mut state.ledger, run, claim, Saves::default(), failure, now, now))
        }
        AttemptState::Stopping { child: None, .. } => {
            exited(state, now, id, ChildExit::NeverStarted, &message, &[])
        }
        _ => Err(Refused::OutOfTurn { run: id, what: "a child" }),
    }
}

pub(super) fn frame(
    state: &mut State,
    now: Millis,
    id: RunId,
    frame: FromTrainer,
) -> Result<Changed, Refused> {
    let model = model_of(state, &id);
    let run = run_mut(&mut state.runs, id)?;
    let child = run.state.child_mut().ok_or(Refused::OutOfTurn { run: id, what: "a frame" })?;
    child.last_frame = now;
    child.ready = true;
    if let FromTrainer::OutOfMemory { micro_batch, .. } = &frame {
        let left = state.ceilings.ran_out(&run.offer, &model, *micro_batch);
        child.ceiling = Some(child.ceiling.map_or(left, |known| known.min(left)));
    }
    match frame {
        FromTrainer::Ready { protocol, .. } if protocol != PROTOCOL_VERSION => {
            let message = format!(
                "the trainer speaks protocol {protocol}, this agent {PROTOCOL_VERSION}: install both from one release"
            );
            return Ok(stop(state, now, id, StopWhy::Foreign { message }));
        }
        FromTrainer::Ready { .. } => {}
        FromTrainer::Stage(stage) => {
            child.stage = stage;
            child.pace.pause();
        }
        FromTrainer::Epoch(report) => {
            if child.stage == Stage::Training {
                child.pace.hear(now, &report);
            }
            child.progress = Some(report);
        }
        FromTrainer::Memory { reserved_mib, .. } => child.used_mib = Some(reserved_mib),
        FromTrainer::BatchAdjusted { from, to, reason, .. } => {
            let message = format!("micro-batch {from} -> {to}: {reason}");
            return Ok(Changed::one(Change::Trouble { run: id, message }));
        }
        FromTrainer::OutOfMemory { recovered: true, message, .. } => {
            return Ok(Changed::one(Change::Trouble { run: id, message }));
        }
        FromTrainer::OutOfMemory { recovered: false, message, .. } => child.out_of_memory = Some(message),
        FromTrainer::Done(done) => child.last_word = Some(LastWord::Done(done)),
        FromTrainer::Yielded => child.last_word = Some(LastWord::Yielded),
        FromTrainer::Failed { kind, message } => child.last_word = Some(LastWord::Failed { kind, message }),
        FromTrainer::Checkpoint { dir, model, epoch } => {
            let Some(saves) = run.state.saves_mut() else { return Ok(Changed::nothing()) };
            let seq = saves.local.as_ref().map_or(0, |c| c.seq).saturating_add(1);
            saves.local = Some(LocalCheckpoint { seq, dir, model, epoch });
        }
    }
    Ok(Changed::nothing())
}

pub(super) fn garbage(
    state: &mut State,
    now: Millis,
    id: RunId,
    message: String,
) -> Result<Changed, Refused> {
    let run = run_mut(&mut state.runs, id)?;
    if !matches!(run.state, AttemptState::Running { .. } | AttemptState::Stopping { .. }) {
        return Err(Refused::OutOfTurn { run: id, what: "bytes of a child" });
    }
    let message = format!("the trainer wrote something on its stdout that is no frame: {message}");
    Ok(stop(state, now, id, StopWhy::Foreign { message }))
}

/// Kills the child of a running attempt that we still hold. One that is being stopped already is only killed
/// sooner.
pub(super) fn stop(state: &mut State, now: Millis, id: RunId, why: StopWhy) -> Changed {
    let Some(run) = state.runs.get_mut(&id) else { return Changed::nothing() };
    match run.take_state() {
        AttemptState::Running { claim, child, saves } => {
            let text = why.to_string();
            run.state = AttemptState::Stopping {
                claim: Some(claim),
                child: Some(child),
                saves,
                why,
                asked: true,
                kill_at: now,
            };
            Changed::one(Change::Stopping { run: id, why: text })
        }
        mut other => {
            if let AttemptState::Stopping { kill_at, .. } = &mut other {
                *kill_at = now;
            }
            run.state = other;
            Changed::nothing()
        }
    }
}

pub(super) fn stop_asked(state: &mut State, id: RunId) -> Result<Changed, Refused> {
    match &mut run_mut(&mut state.runs, id)?.state {
        AttemptState::Stopping { asked, .. } => {
            *asked = true;
            Ok(Changed::nothing())
        }
        _ => Err(Refused::OutOfTurn { run: id, what: "a request to stop" }),
    }
}

pub(super) fn exited(
    state: &mut State,
    now: Millis,
    id: RunId,
    exit: ChildExit,
    tail: &str,
    missing: &[String],
) -> Result<Changed, Refused> {
    let until = save_until(state, now);
    let model = model_of(state, &id);
    let run = run_mut(&mut state.runs, id)?;
    let (claim, child, saves, why) = match run.take_state() {
        AttemptState::Running { claim, child, saves } => (Some(claim), Some(child), saves, None),
        AttemptState::Stopping { claim, child, saves, why, .. } => (claim, child, saves, Some(why)),
        other => {
            run.state = other;
            return Err(Refused::OutOfTurn { run: id, what: "the end of a child" });
        }
    };
    state.ledger.child_reaped(&id, now);
    if let Some(LastWord::Failed { kind: FailureKind::Device, message }) =
        child.as_ref().and_then(|child| child.last_word.as_ref())
    {
        state.ledger.unfit(&run.offer.place.device, message, now);
    }
    let mut changed = Changed::one(Change::ChildEnded { run: id, exit });
    let Some(claim) = claim else {
        state.ledger.release(&id);
        return Ok(changed);
    };
    match ending::judge_exit(child.as_ref(), why.as_ref(), exit, tail, missing) {
        Ok((child, mut done)) => {
            if let Some(ceiling) = child.ceiling {
                done.tuning_used.insert(CEILING_USED.to_owned(), ceiling.to_string());
            }
            let (started, duration_ms) = (child.started_at, now.since(child.started).0);
            let result = FinishedChild { done, started, duration_ms, device_model: model };
            state.ledger.release(&id);
            run.state = AttemptState::Uploading { claim, result, saves, since: now, tries: Tries::new(now) };
        }
        Err(mut failure) => {
            failure.trained_ms = child.as_ref().map(|child| now.since(child.started).0);
            changed.add(ending::fail(&mut state.ledger, run, claim, saves, failure, until, now));
        }
    }
    Ok(changed)
}

fn model_of(state: &State, id: &RunId) -> String {
    let device = state.runs.get(id).and_then(|run| state.ledger.device(&run.offer.place.device));
    device.map_or_else(|| "unknown".to_owned(), |d| d.facts().model.clone())
}

/// How long a last checkpoint may take.
fn save_until(state: &State, now: Millis) -> Millis {
    let usual = now.plus(state.options.save_timeout);
    match state.mode {
        Mode::Stopping { until } => usual.min(until),
        Mode::Open | Mode::Closed { .. } => usual,
    }
}
