//! One attempt over the protocol: frames in on stdin, frames out on stdout, logs on stderr.
//!
//! ```text
//! waiting --Start--> running --+--> Done            exit 0
//!    |                         +--> Yielded         exit 22 (Stop)
//!    |                         +--> Failed          exit 20, out of memory 21
//!    +--- stdin closes at any time -> exit 23, at once: the agent is gone
//! ```
//! A thread of its own reads stdin, so that a stop or the agent's end is noticed in the middle of a step.

mod reporter;

use std::io::{Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use common::trainer_protocol::{
    Done, FailureKind, FrameError, FromTrainer, PROTOCOL_VERSION, Start, ToTrainer, exit_code, read_frame,
    write_frame,
};
use common::units::Mib;

use crate::fit::StopRequest;
use crate::fit::error::panic_text;
use crate::memory::Memory;
use crate::phase::{self, Job, Outcome, PhaseError};
use reporter::{Reporter, memory_now, peak_memory};

/// What the reading thread has heard.
type Mailbox = Arc<Mutex<Option<StopRequest>>>;

/// Serves one attempt and gives the exit code of the process.
///
/// `orphaned` is called from the reading thread when the input ends; it should end the process.
pub fn serve(
    mut input: impl Read + Send + 'static,
    mut output: impl Write,
    parent: Option<&str>,
    orphaned: impl FnOnce() + Send + 'static,
) -> i32 {
    let start = match read_frame::<ToTrainer>(&mut input) {
        Ok(ToTrainer::Start(start)) => *start,
        Ok(ToTrainer::Stop { .. }) => return tell(&mut output, &FromTrainer::Yielded, exit_code::YIELDED),
        Err(FrameError::Closed) => return exit_code::ORPHANED,
        Err(error) => return fail(&mut output, FailureKind::Internal, format!("the first frame: {error}")),
    };
    if start.protocol != PROTOCOL_VERSION {
        let theirs = start.protocol;
        let message = format!(
            "the agent speaks protocol {theirs}, this trainer {PROTOCOL_VERSION}; install both from one release"
        );
        return fail(&mut output, FailureKind::Internal, message);
    }
    let mailbox = Mailbox::default();
    let reader = listen(input, Arc::clone(&mailbox), orphaned);
    if let Err(error) = reader {
        return fail(&mut output, FailureKind::Internal, format!("cannot start a thread: {error}"));
    }
    let span = tracing::info_span!(
        "attempt",
        dataset = %start.dataset,
        phase = %start.phase,
        attempt = start.attempt.0,
    );
    telemetry::set_parent(&span, start.traceparent.as_deref().or(parent));
    let _entered = span.entered();
    run(&start, &mailbox, &mut output)
}

fn listen(
    mut input: impl Read + Send + 'static,
    mailbox: Mailbox,
    orphaned: impl FnOnce() + Send + 'static,
) -> std::io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        loop {
            match read_frame::<ToTrainer>(&mut input) {
                Ok(ToTrainer::Stop { reason, checkpoint }) => {
                    let mut slot = mailbox.lock().unwrap_or_else(PoisonError::into_inner);
                    *slot = Some(StopRequest { reason, checkpoint });
                }
                Ok(ToTrainer::Start(_)) => {
                    tracing::warn!("a second start is ignored: one attempt per process")
                }
                Err(_) => {
                    orphaned();
                    return;
                }
            }
        }
    })
}

fn run(start: &Start, mailbox: &Mailbox, output: &mut impl Write) -> i32 {
    let mut reporter = Reporter::new(output, mailbox);
    reporter.send(&FromTrainer::Ready {
        protocol: PROTOCOL_VERSION,
        pid: std::process::id(),
        versions: versions(),
    });
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attempt(start, &mut reporter)));
    reporter.flush();
    match outcome {
        Ok(Ok(outcome)) => {
            let done = FromTrainer::Done(done(outcome, reporter.device_peak()));
            reporter.send(&done);
            exit_code::DONE
        }
        Ok(Err(error)) => finish_badly(&mut reporter, &error),
        Err(panic) => {
            let text = panic_text(&*panic);
            finish_badly(&mut reporter, &PhaseError::Fit(crate::fit::FitError::from_torch_text(&text, 0)))
        }
    }
}

fn attempt(start: &Start, reporter: &mut Reporter<'_, impl Write>) -> Result<Outcome, PhaseError> {
    crate::runtime::init();
    crate::runtime::set_threads(start.tuning.threads);
    let job = Job::from_start(start)?;
    reporter.watch(Memory::of(job.device, job.tuning.memory_budget_mib));
    tracing::info!(device = ?job.device, threads = start.tuning.threads, "attempt begins");
    phase::run(&job, reporter)
}

fn finish_badly(reporter: &mut Reporter<'_, impl Write>, error: &PhaseError) -> i32 {
    if let Some(reason) = error.stopped() {
        tracing::info!(reason, "stopped on request");
        reporter.send(&FromTrainer::Yielded);
        return exit_code::YIELDED;
    }
    let (kind, message) = (error.kind(), error.to_string());
    tracing::error!(?kind, "{message}");
    reporter.send(&FromTrainer::Failed { kind, message });
    if kind == FailureKind::OutOfMemory { exit_code::OUT_OF_MEMORY } else { exit_code::FAILED }
}

fn done(outcome: Outcome, device_peak: Option<Mib>) -> Done {
    let peak = device_peak.or_else(peak_memory).or_else(memory_now);
    Done {
        files: outcome.files,
        metrics: outcome.metrics,
        tuning_used: outcome.tuning_used,
        peak_memory_mib: peak,
    }
}

fn versions() -> std::collections::BTreeMap<String, String> {
    let cuda = format!("{:?}", crate::runtime::init());
    [
        ("trainer", env!("CARGO_PKG_VERSION").to_owned()),
        ("libtorch", "2.11.0".to_owned()),
        ("cuda_library", cuda),
    ]
    .map(|(name, version)| (name.to_owned(), version))
    .into()
}

fn fail(output: &mut impl Write, kind: FailureKind, message: String) -> i32 {
    tracing::error!(?kind, "{message}");
    tell(output, &FromTrainer::Failed { kind, message }, exit_code::FAILED)
}

fn tell(output: &mut impl Write, message: &FromTrainer, code: i32) -> i32 {
    match write_frame(output, message) {
        Ok(()) => code,
        Err(error) => {
            tracing::error!(%error, "the agent does not read any more");
            exit_code::ORPHANED
        }
    }
}
