//! Logs, traces and metrics of the three processes.
//!
//! | module | holds |
//! |--|--|
//! | (here) | [`init`] and the [`Guard`] whose end flushes everything |
//! | [`logs`] | filter, log file, human and JSON lines |
//! | [`otlp`] | export by the standard `OTEL_*` variables, on a runtime of its own |
//! | [`context`] | W3C trace context in and out of headers and arguments |
//! | [`metrics`] | every metric name in one table |
//! | [`resource`] | who is speaking: `service.*`, `host.*`, `k8s.*` |
//!
//! Rules of the room:
//! - Observing never holds up or fails a job: queues are bounded and drop, an absent receiver is one
//!   warning, shutdown ends within [`SHUTDOWN_TIMEOUT`].
//! - No decision is ever read back from here.
//! - Works without a tokio runtime (the trainer has none): the exporter brings its own.

pub mod context;
pub mod logs;
pub mod metrics;
pub mod otlp;
pub mod resource;

pub use context::{add_link, current_traceparent, inject, set_parent, set_parent_from, traceparent_of};
pub use logs::{LogConfig, LogFormat};
pub use resource::Service;

use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Longest time that [`Guard::shutdown`] spends on spans and metrics not yet sent.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error(
        "cannot write the log file {}: {source}; choose another log folder or mend its owner and mode",
        .path.display()
    )]
    LogFile { path: PathBuf, source: std::io::Error },
    #[error("telemetry was set up twice in one process")]
    Twice,
}

/// Keeps logging and export alive. Its end (or [`Guard::shutdown`]) sends and writes what is pending.
#[must_use = "logs and spans are lost when the guard is dropped at once"]
pub struct Guard {
    otlp: Option<otlp::Otlp>,
    log: Option<logs::LogFile>,
}

/// Sets up logs, and OTLP export when `OTEL_EXPORTER_OTLP_ENDPOINT` (or a per-signal one) is set. Once per
/// process, before the first span. Fails only for a log file that cannot be written.
pub fn init(service: Service, config: LogConfig) -> Result<Guard, TelemetryError> {
    let log = config.dir.as_deref().map(|dir| logs::LogFile::open(dir, &service)).transpose()?;
    let (filter, filter_problem) = logs::filter_from_env(&config.level);
    let (otlp, otlp_problem) = match otlp::Otlp::from_env(&service) {
        Ok(otlp) => (otlp, None),
        Err(problem) => (None, Some(problem)),
    };
    let mut sinks: Vec<logs::Sink> = Vec::new();
    sinks.extend(otlp.as_ref().and_then(otlp::Otlp::sink));
    sinks.extend(log.as_ref().map(|log| logs::sink(config.format, &filter, log.writer())));
    if config.stderr {
        sinks.push(logs::sink(config.format, &filter, std::io::stderr));
    }
    tracing_subscriber::registry().with(sinks).try_init().map_err(|_| TelemetryError::Twice)?;
    if let Some(otlp) = &otlp {
        otlp.install();
    }
    for problem in [filter_problem, otlp_problem].into_iter().flatten() {
        tracing::warn!("{problem}");
    }
    Ok(Guard { otlp, log })
}

impl Guard {
    /// File that this process logs to.
    pub fn log_file(&self) -> Option<&Path> {
        self.log.as_ref().map(|log| log.path())
    }

    /// Are spans being exported?
    pub fn exports(&self) -> bool {
        self.otlp.is_some()
    }

    /// Sends and writes what is pending, for at most [`SHUTDOWN_TIMEOUT`] (and a second for the log file).
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The exporter first: what it has to say still reaches the log file.
        if let Some(otlp) = self.otlp.take() {
            otlp.shutdown(SHUTDOWN_TIMEOUT);
        }
        drop(self.log.take());
    }
}
