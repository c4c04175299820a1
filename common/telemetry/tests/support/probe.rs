//! One process of the OTLP suite. `telemetry-probe ROLE [LOG_DIR] [TRACEPARENT]`:
//! `coord` and `coord-agent` run inside a tokio runtime, `coord-trainer` without one. It opens a span under
//! the parent given, prints its own `traceparent` (or `none`), counts something, logs a line and ends.

use std::error::Error;
use std::path::PathBuf;
use telemetry::{LogConfig, LogFormat, Service, metrics};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let role = arguments.next().ok_or("which role?")?;
    let log_dir = arguments.next().filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let parent = arguments.next();
    let (name, with_runtime) = match role.as_str() {
        "coord" => ("coord", true),
        "coord-agent" => ("coord-agent", true),
        "coord-trainer" => ("coord-trainer", false),
        other => return Err(format!("unknown role {other}").into()),
    };
    let service = Service { name, instance: "probe/1".to_owned() };
    let config = LogConfig { dir: log_dir, format: LogFormat::Json, stderr: false, ..LogConfig::default() };
    match with_runtime {
        true => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(async { work(service, config, parent.as_deref()) }),
        false => work(service, config, parent.as_deref()),
    }
}

fn work(service: Service, config: LogConfig, parent: Option<&str>) -> Result<(), Box<dyn Error>> {
    let name = service.name;
    let guard = telemetry::init(service, config)?;
    let span = tracing::info_span!("work", otel.name = format!("work {name}"), attempt = 3);
    telemetry::set_parent(&span, parent);
    span.in_scope(|| {
        println!("{}", telemetry::current_traceparent().as_deref().unwrap_or("none"));
        metrics::COMMIT.add(2, &[("outcome", "won")]);
        metrics::LEADER.record(1.0, &[]);
        metrics::PHASE_DURATION.record(0.5, &[("phase", "teacher")]);
        tracing::info!(epoch = 7, "a line of {name}");
        tracing::debug!("not at this level");
        tracing::info_span!(target: "tonic::transport", "never exported").in_scope(|| ());
    });
    drop(span);
    guard.shutdown();
    Ok(())
}
