//! Time passed, and the agent's own opening and closing.

use super::{child, ending, slots, work};
use crate::attempt::{AttemptState, Child, Saves, StopWhy, Take};
use crate::event::Changed;
use crate::options::{Options, PhaseLimits};
use crate::state::{Mode, RunId, State};
use common::slot::{Cause, Failure};
use common::trainer_protocol::Stage;
use common::units::Millis;

/// What becomes of a result that is given up.
const KEPT: &str =
    ". Its files are kept on this node: mend the store and run again, nothing is trained twice";

pub(super) fn tick(state: &mut State, now: Millis) -> Changed {
    let mut changed = Changed::nothing();
    let ids: Vec<RunId> = state.runs.keys().copied().collect();
    for id in ids {
        changed.add(tick_run(state, now, id));
    }
    changed
}

fn tick_run(state: &mut State, now: Millis, id: RunId) -> Changed {
    let over = matches!(state.mode, Mode::Stopping { until } if now >= until);
    let Some(run) = state.runs.get(&id) else { return Changed::nothing() };
    let options = &state.options;
    let passed = |since: Millis, limit: Millis| now.since(since) >= limit;
    match &run.state {
        // A write whose outcome is unknown may have made the slot ours: it is not walked away from.
        AttemptState::Taking(Take::Hold { .. } | Take::Read { reserved: true, .. }) if !over => {
            Changed::nothing()
        }
        AttemptState::Taking(_) if over || passed(run.since, options.take_timeout) => {
            slots::drop_offer(state, id, "the slot could not be read and written in time".to_owned())
        }
        AttemptState::Fetching { since, .. } if passed(*since, options.fetch_timeout) => {
            let message = format!("inputs were not here within {}", options.fetch_timeout);
            fail_childless(state, now, id, Cause::Infrastructure, message)
        }
        AttemptState::Fetching { tries, .. } => match tries.refused_for(options.refused_timeout) {
            Some(problem) => {
                let (cause, waited) = (problem.cause, options.refused_timeout);
                let message = format!("{} (so for {waited})", problem.message);
                fail_childless(state, now, id, cause, message)
            }
            None => Changed::nothing(),
        },
        AttemptState::Running { .. } => watch(state, now, id),
        AttemptState::Saving { until, .. } if over || now >= *until => work::saved(state, now, id, true),
        AttemptState::Uploading { since, .. } if passed(*since, options.upload_timeout) => {
            let message = format!("the result could not be stored within {}{KEPT}", options.upload_timeout);
            work::result_lost(state, now, id, Cause::Store, message)
        }
        AttemptState::Uploading { .. } if over => {
            let message = "agent stopping before the result was stored".to_owned();
            work::result_lost(state, now, id, Cause::Preemption, message)
        }
        AttemptState::Uploading { tries, .. } => match tries.refused_for(options.refused_timeout) {
            Some(problem) => {
                let (cause, waited) = (problem.cause, options.refused_timeout);
                let message =
                    format!("the result could not be stored for {waited}: {}{KEPT}", problem.message);
                work::result_lost(state, now, id, cause, message)
            }
            None => Changed::nothing(),
        },
        _ => Changed::nothing(),
    }
}

/// The watchdog.
fn watch(state: &mut State, now: Millis, id: RunId) -> Changed {
    let (options, Some(run)) = (&state.options, state.runs.get_mut(&id)) else { return Changed::nothing() };
    let limits = options.limits_of(run.offer.job.name.phase);
    let Some(child) = run.state.child_mut() else { return Changed::nothing() };
    child.pace.tick(now, options.stall_for);
    match stuck(options, limits, child, now) {
        Some(message) => child::stop(state, now, id, StopWhy::Stuck { message }),
        None => Changed::nothing(),
    }
}

/// What a running child exceeded, if anything.
fn stuck(options: &Options, limits: PhaseLimits, child: &Child, now: Millis) -> Option<String> {
    let (since_start, since_frame) = (now.since(child.started), now.since(child.last_frame));
    if !child.ready && since_start >= options.start_timeout {
        return Some(format!("the trainer said nothing for {} after its start", options.start_timeout));
    }
    let silence = match child.stage {
        Stage::Fetching | Stage::Preparing => limits.no_progress_preparing,
        Stage::Training | Stage::Evaluating | Stage::Uploading => limits.no_progress,
    };
    if since_frame >= silence {
        return Some(format!("no progress for {silence} while {}", child.stage.as_str()));
    }
    if since_start >= limits.total {
        return Some(format!("it ran for {}, longer than the phase may", limits.total));
    }
    let watched = options.stall_for > Millis(0) && child.stage == Stage::Training;
    let percent = child.pace.stalled(options.stall_percent).filter(|_| watched)?;
    let (stall_for, floor) = (options.stall_for, options.stall_percent);
    Some(format!(
        "hung: for {stall_for} its training went at {percent:.0} % of its own median rate (the floor is {floor} %)"
    ))
}

fn fail_childless(state: &mut State, now: Millis, id: RunId, cause: Cause, message: String) -> Changed {
    let Some(run) = state.runs.get_mut(&id) else { return Changed::nothing() };
    let Some(claim) = run.state.claim().cloned() else { return Changed::nothing() };
    let failure = Failure::new(cause, message);
    ending::fail(&mut state.ledger, run, claim, Saves::default(), failure, now, now)
}

pub(super) fn cordon(state: &mut State, because: Option<String>) -> Changed {
    state.mode = match (&state.mode, because) {
        (Mode::Stopping { until }, _) => Mode::Stopping { until: *until },
        (_, Some(because)) => Mode::Closed { because },
        (_, None) => Mode::Open,
    };
    Changed::nothing()
}
