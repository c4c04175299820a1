//! What belongs to an attempt at hand beside its state: its spans, and the token that stops its work.

use agent_core::{Change, ChildExit, RunId, State, Verdict};
use std::collections::HashMap;
use tokio_util::sync::CancellationToken;
use tracing::Span;

pub struct Handle {
    /// `phase <phase>`, child of the offer's span.
    pub span: Span,
    train: Option<Span>,
    pub stop: CancellationToken,
}

#[derive(Default)]
pub struct Runs {
    handles: HashMap<RunId, Handle>,
}

impl Runs {
    pub fn get(&self, run: &RunId) -> Option<&Handle> {
        self.handles.get(run)
    }

    /// Span and trace context for the child: it runs inside `train`.
    pub fn begin_training(&mut self, run: &RunId) -> Option<String> {
        let handle = self.handles.get_mut(run)?;
        let train = tracing::info_span!(parent: &handle.span, "train");
        let traceparent = telemetry::traceparent_of(&train);
        handle.train = Some(train);
        traceparent
    }

    /// Keeps the handles in step with the state, and logs the news.
    pub fn tell(&mut self, state: &State, change: Change) {
        match change {
            Change::Took { run } => {
                tracing::info!(%run, "taken");
                if let Some(at_hand) = state.runs.get(&run) {
                    self.handles.insert(run, begin(&at_hand.offer));
                }
            }
            Change::Declined { run, reason } => tracing::info!(%run, reason, "declined"),
            Change::Dropped { run, why } => tracing::info!(%run, why, "offer dropped"),
            Change::ChildStarted { run, pid } => {
                self.within(&run, || tracing::info!(%run, pid, "trainer started"))
            }
            Change::FoundFinished { run } => self.within(
                &run,
                || tracing::info!(%run, "finished before on this machine: stored without training again"),
            ),
            Change::ChildEnded { run, exit } => self.child_ended(run, exit),
            Change::Stopping { run, why } => {
                self.within(&run, || tracing::warn!(%run, why, "stopping the trainer"))
            }
            Change::Fenced { run, by } => {
                self.within(&run, || tracing::warn!(%run, by, "fenced: the slot is not ours any more"));
                self.stop(&run);
            }
            Change::Ended { run, verdict } => self.ended(run, &verdict),
            Change::Told { run } => self.within(&run, || tracing::info!(%run, "the slot knows")),
            Change::Gone { run } => {
                self.stop(&run);
                self.handles.remove(&run);
                tracing::debug!(%run, "gone");
            }
            Change::OrphanFound { key } => tracing::warn!(%key, "held by an earlier life of this agent"),
            Change::Trouble { run, message } => {
                self.within(&run, || tracing::warn!(%run, message, "trouble"))
            }
        }
    }

    /// Stops whatever is under way for the attempt.
    pub fn stop(&self, run: &RunId) {
        if let Some(handle) = self.handles.get(run) {
            handle.stop.cancel();
        }
    }

    fn child_ended(&mut self, run: RunId, exit: ChildExit) {
        self.within(&run, || tracing::info!(%run, %exit, "trainer ended"));
        if let Some(handle) = self.handles.get_mut(&run) {
            handle.train = None;
        }
    }

    fn ended(&self, run: RunId, verdict: &Verdict) {
        let (result, error) = match verdict {
            Verdict::Finished { .. } => ("finished", ""),
            Verdict::Failed(failure) => (failure.cause.as_str(), failure.message.as_str()),
        };
        if let Some(handle) = self.handles.get(&run) {
            handle.span.record("coord.result", result);
            if let Verdict::Failed(failure) = verdict {
                handle.span.record("otel.status_code", "ERROR");
                handle.span.record("otel.status_description", failure.message.as_str());
            }
        }
        self.within(&run, || match verdict {
            Verdict::Finished { .. } => tracing::info!(%run, result, "attempt ended"),
            Verdict::Failed(_) => tracing::warn!(%run, result, error, "attempt ended"),
        });
    }

    fn within(&self, run: &RunId, log: impl FnOnce()) {
        match self.handles.get(run) {
            Some(handle) => handle.span.in_scope(log),
            None => log(),
        }
    }
}

fn begin(offer: &common::messages::JobOffer) -> Handle {
    let name = &offer.job.name;
    let span = tracing::info_span!(
        parent: None,
        "phase",
        otel.name = format!("phase {}", name.phase),
        coord.dataset = %name.dataset,
        coord.phase = %name.phase,
        coord.attempt = offer.attempt.0,
        coord.plan = %offer.job.plan,
        coord.device = %offer.place.device,
        coord.result = tracing::field::Empty,
        otel.status_code = tracing::field::Empty,
        otel.status_description = tracing::field::Empty,
    );
    telemetry::set_parent(&span, offer.traceparent.as_deref());
    // A span is exported at its end: this one tells at once that the slot was taken.
    drop(tracing::info_span!(parent: &span, "lease", coord.offer = offer.offer));
    Handle { span, train: None, stop: CancellationToken::new() }
}
