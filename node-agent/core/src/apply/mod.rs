//! [`apply`]: one fact in, the state changed (or the fact refused).
//!
//! | file | facts |
//! |--|--|
//! | `offer` | an invitation |
//! | `slots` | a slot was read, written, or found at start |
//! | `work` | inputs fetched, checkpoints and results stored, scratch cleaned |
//! | `child` | the trainer started, spoke, ended |
//! | `time` | time passed, cordon |
//! | `stopping` | the agent ends, or the coordinator wants a device back |
//! | `ending` | how an attempt is lost or brought to its end |

mod child;
mod ending;
mod offer;
mod slots;
mod stopping;
mod time;
mod work;

use crate::attempt::Run;
use crate::event::{Change, Changed, Event, Refused};
use crate::invariants;
use crate::state::{RunId, State};
use common::units::Millis;
use std::collections::BTreeMap;

/// Tells the state a fact. `now` is this process's own clock and never goes back.
///
/// Errors: [`Refused`] for a fact that does not fit (late, doubled, for somebody else); then nothing changed.
pub fn apply(state: &mut State, now: Millis, event: Event) -> Result<Changed, Refused> {
    let outcome = dispatch(state, now, event);
    if cfg!(debug_assertions)
        && let Err(broken) = invariants::check(state)
    {
        panic!("invariant of the agent core broken: {broken}");
    }
    outcome
}

fn dispatch(state: &mut State, now: Millis, event: Event) -> Result<Changed, Refused> {
    match event {
        Event::Tick => Ok(time::tick(state, now)),
        Event::Cordon(because) => Ok(time::cordon(state, because)),
        Event::Shutdown => {
            let grace = state.options.stop_grace;
            Ok(stopping::shutdown(state, now, now.plus(grace)))
        }
        Event::ShutdownNow => Ok(stopping::shutdown(state, now, now)),
        Event::Devices { taken_at, devices } => {
            state.ledger.observe(taken_at, devices);
            Ok(Changed::nothing())
        }
        Event::DevicesUnknown { message } => {
            state.ledger.observe_failure(&message);
            Ok(Changed::nothing())
        }
        Event::SlotsAtStart(slots) => Ok(slots::at_start(state, now, slots)),
        Event::Offer(offer) => offer::invited(state, now, *offer),
        Event::SlotRead { key, outcome } => slots::read(state, now, key, outcome),
        Event::SlotWritten { key, wrote, outcome } => slots::written(state, now, key, &wrote, outcome),
        Event::Fetched { run, inputs } => work::fetched(state, run, inputs),
        Event::FoundFinished { run, result } => work::found_finished(state, now, run, result),
        Event::FetchFailed { run, problem } => work::fetch_failed(state, now, run, problem),
        Event::CheckpointStored { run, seq } => work::checkpoint_stored(state, now, run, seq),
        Event::CheckpointFailed { run, seq, problem } => {
            work::checkpoint_failed(state, now, run, seq, problem)
        }
        Event::ResultStored { run, manifest } => work::result_stored(state, now, run, manifest),
        Event::ResultFailed { run, problem } => work::result_failed(state, now, run, problem),
        Event::Cleaned { run } => cleaned(state, run),
        Event::Spawned { run, pid, at, resumed_from_epoch } => {
            child::spawned(state, now, run, pid, at, resumed_from_epoch)
        }
        Event::SpawnFailed { run, message } => child::spawn_failed(state, now, run, message),
        Event::Frame { run, frame } => child::frame(state, now, run, frame),
        Event::Garbage { run, message } => child::garbage(state, now, run, message),
        Event::StopAsked { run } => child::stop_asked(state, run),
        Event::Exited { run, exit, stderr_tail, missing } => {
            child::exited(state, now, run, exit, &stderr_tail, &missing)
        }
    }
}

fn cleaned(state: &mut State, id: RunId) -> Result<Changed, Refused> {
    let run = run_mut(&mut state.runs, id)?;
    if !matches!(run.state, crate::attempt::AttemptState::Cleaning { .. }) {
        return Err(Refused::OutOfTurn { run: id, what: "the end of cleaning" });
    }
    state.runs.remove(&id);
    state.ledger.release(&id);
    Ok(Changed::one(Change::Gone { run: id }))
}

fn run_mut(runs: &mut BTreeMap<RunId, Run>, id: RunId) -> Result<&mut Run, Refused> {
    runs.get_mut(&id).ok_or(Refused::UnknownRun(id))
}
