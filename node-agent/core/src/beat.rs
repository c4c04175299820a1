//! State to the beat of the node: the whole inventory each time, so that one beat is enough.

use crate::attempt::{AttemptState, Run};
use crate::options::Options;
use crate::state::State;
use common::messages::{NodeBeat, RunningReport, Waits, WaitsFor};
use common::units::Millis;

/// The beat number `seq`.
pub fn beat(state: &State, now: Millis, seq: u64) -> NodeBeat {
    // Fenced ones too, while their child lives: it still holds memory.
    let held = state.runs.values().filter(|run| run.state.claim().is_some() || run.state.child().is_some());
    NodeBeat {
        node: state.options.node.clone(),
        incarnation: state.options.incarnation,
        seq,
        agent_version: state.options.agent_version.clone(),
        closed_because: state.closed_because(),
        devices: state.ledger.devices().map(|d| d.report()).collect(),
        running: held.map(|run| report(&state.options, run, now)).collect(),
        ceilings: state.ceilings.list(),
    }
}

fn report(options: &Options, run: &Run, now: Millis) -> RunningReport {
    let child = run.state.child();
    let progress = child.and_then(|c| c.progress.as_ref());
    RunningReport {
        job: run.offer.job.clone(),
        key: run.id.key,
        attempt: run.id.attempt,
        place: run.offer.place.clone(),
        pid: child.map(|c| c.pid),
        stage: run.state.stage(),
        progress: told(run),
        fraction: progress.map(|p| share(p.epoch, p.epochs, p.fraction)),
        loss: progress.and_then(|p| p.loss),
        graphs_per_s: progress.map(|p| p.graphs_per_s),
        eta_ms: progress.and_then(|p| p.eta_ms),
        used_mib: child.and_then(|c| c.used_mib),
        resumed_from_epoch: child.and_then(|c| c.resumed_from_epoch),
        waits: waits(options, run, now),
    }
}

fn told(run: &Run) -> Option<String> {
    match &run.state {
        AttemptState::Running { child, .. } => {
            child.progress.as_ref().map(|p| format!("{} {}/{}", p.model, p.epoch, p.epochs))
        }
        AttemptState::Stopping { claim: None, .. } => Some("fenced, stopping".to_owned()),
        AttemptState::Stopping { .. } => Some("stopping".to_owned()),
        AttemptState::Saving { .. } => Some("saving the last checkpoint".to_owned()),
        AttemptState::Closing { .. } => Some("reporting".to_owned()),
        _ => None,
    }
}

/// What is tried again at this moment.
fn waits(options: &Options, run: &Run, now: Millis) -> Option<Waits> {
    let refused = Some(options.refused_timeout);
    match &run.state {
        AttemptState::Fetching { tries, .. } => tries.waits(WaitsFor::Inputs, now, refused),
        AttemptState::Uploading { tries, .. } => tries.waits(WaitsFor::Upload, now, refused),
        AttemptState::Running { saves, .. } | AttemptState::Saving { saves, .. } => {
            saves.tries.waits(WaitsFor::Checkpoint, now, None)
        }
        _ => None,
    }
}

/// Part of a model's epochs that is done: those before this one, and the part of this one.
fn share(epoch: u32, epochs: u32, fraction: f64) -> f64 {
    let done = f64::from(epoch.saturating_sub(1)) + fraction.clamp(0.0, 1.0);
    (done / f64::from(epochs.max(1))).clamp(0.0, 1.0)
}
