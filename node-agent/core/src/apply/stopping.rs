//! Attempts that are asked to end before they are done: the agent ends, or the coordinator wants the device.
//! Children save a checkpoint and yield; those alive at the end of their time are killed.

use super::{ending, slots};
use crate::attempt::{AttemptState, Child, Claim, Saves, StopWhy, Take};
use crate::event::{Change, Changed};
use crate::state::{Mode, RunId, State};
use common::slot::{Cause, Failure, Yield};
use common::units::Millis;

/// Brings everything to an end by `until`.
pub(super) fn shutdown(state: &mut State, now: Millis, until: Millis) -> Changed {
    let until = match state.mode {
        Mode::Stopping { until: sooner } => until.min(sooner),
        Mode::Open | Mode::Closed { .. } => until,
    };
    state.mode = Mode::Stopping { until };
    let mut changed = Changed::nothing();
    let ids: Vec<RunId> = state.runs.keys().copied().collect();
    for id in ids {
        changed.add(match state.runs.get(&id).map(|run| &run.state) {
            // A write that may have been stored is not walked away from: it is adopted and failed, or times out.
            Some(AttemptState::Taking(Take::Hold { .. } | Take::Read { reserved: true, .. })) => {
                Changed::nothing()
            }
            Some(AttemptState::Taking(_)) => slots::drop_offer(state, id, "the agent is stopping".to_owned()),
            _ => wind_down(state, now, id, until, StopWhy::Shutdown),
        });
    }
    changed
}

/// What the slot says about making way. Said once: a second reading of the same changes nothing.
pub(super) fn asked(state: &mut State, now: Millis, id: RunId, yields: Option<Yield>) -> Changed {
    let Some(order) = yields else { return Changed::nothing() };
    let Some(claim) = state.runs.get_mut(&id).and_then(|run| run.state.claim_mut()) else {
        return Changed::nothing();
    };
    if claim.yields.is_some() {
        return Changed::nothing();
    }
    claim.yields = Some(order.clone());
    let until = now.plus(Millis(order.grace_ms));
    wind_down(state, now, id, until, StopWhy::Asked { because: order.because })
}

/// What trains is stopped by `until`; what is stored already is stored to its end.
fn wind_down(state: &mut State, now: Millis, id: RunId, until: Millis, why: StopWhy) -> Changed {
    let Some(run) = state.runs.get_mut(&id) else { return Changed::nothing() };
    let told = Changed::one(Change::Stopping { run: id, why: why.to_string() });
    match run.take_state() {
        AttemptState::Fetching { claim, .. } => {
            let failure = Failure::new(Cause::Preemption, yielded(&why));
            ending::fail(&mut state.ledger, run, claim, Saves::default(), failure, now, now)
        }
        AttemptState::Starting { claim, .. } => {
            run.state = stopping(claim, None, Saves::default(), why, now);
            told
        }
        AttemptState::Running { claim, child, saves } => {
            run.state = stopping(claim, Some(child), saves, why, until);
            told
        }
        AttemptState::Stopping { claim, child, saves, why, asked, kill_at } => {
            let kill_at = kill_at.min(until);
            run.state = AttemptState::Stopping { claim, child, saves, why, asked, kill_at };
            Changed::nothing()
        }
        other => {
            run.state = other;
            Changed::nothing()
        }
    }
}

/// Of an attempt that ended because it was asked to.
pub(super) fn yielded(why: &StopWhy) -> String {
    match why {
        StopWhy::Shutdown => "agent stopping".to_owned(),
        other => other.to_string(),
    }
}

fn stopping(claim: Claim, child: Option<Child>, saves: Saves, why: StopWhy, kill_at: Millis) -> AttemptState {
    AttemptState::Stopping { claim: Some(claim), child, saves, why, asked: false, kill_at }
}
