//! Export over OTLP/gRPC, configured by the standard variables only: `OTEL_EXPORTER_OTLP_ENDPOINT` (or
//! `..._TRACES_ENDPOINT`, `..._METRICS_ENDPOINT`), `..._HEADERS`, `..._TIMEOUT`, `OTEL_TRACES_SAMPLER`,
//! `OTEL_BSP_*`, `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_SDK_DISABLED`. Off when no endpoint is set.

mod patient;

use crate::logs::Sink;
use crate::metrics;
use crate::resource::Service;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithTonicConfig};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use patient::Patient;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;

/// The exporter's own transport: traced, it would export its exports for ever.
const NEVER_TRACED: [&str; 7] =
    ["h2", "hyper", "hyper_util", "tonic", "tower", "opentelemetry", "opentelemetry_sdk"];

pub(crate) struct Otlp {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    /// tonic needs a reactor. Ours lives apart from the program's: the trainer has none, and a busy or ended
    /// one would stall the export.
    reactor: Reactor,
    given_up: GivenUp,
}

/// Set when shutdown stops waiting: exports that fail because of it are not told as an absent receiver.
type GivenUp = Arc<AtomicBool>;

/// Ends in the background: a plain drop of a runtime panics inside an async context and waits for open
/// connections.
struct Reactor(Option<Runtime>);

impl Drop for Reactor {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Otlp {
    /// `None` when no endpoint is set; a text when one is set that cannot be used.
    pub(crate) fn from_env(service: &Service) -> Result<Option<Otlp>, String> {
        let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let [traces, metrics] = ["TRACES", "METRICS"].map(endpoint_of);
        if disabled || (traces.is_none() && metrics.is_none()) {
            return Ok(None);
        }
        let unusable = |what: &str, e: &dyn std::fmt::Display| {
            format!("{what} are not exported: {e}; check OTEL_EXPORTER_OTLP_ENDPOINT (http://host:4317)")
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp")
            .enable_all()
            .build()
            .map_err(|e| unusable("traces and metrics", &e))?;
        let handle = runtime.handle().clone();
        let reactor = Reactor(Some(runtime));
        let given_up = GivenUp::default();
        let _inside = handle.enter(); // channels find their reactor through the context they are made in
        let traces = traces
            .map(|to| traces_to(service, to, given_up.clone()))
            .transpose()
            .map_err(|e| unusable("traces", &e))?;
        let metrics = metrics
            .map(|to| metrics_to(service, to, given_up.clone()))
            .transpose()
            .map_err(|e| unusable("metrics", &e))?;
        Ok(Some(Otlp { traces, metrics, reactor, given_up }))
    }

    /// Where spans go: all of `info` and above but the exporter's own.
    pub(crate) fn sink(&self) -> Option<Sink> {
        let tracer = self.traces.as_ref()?.tracer("coord");
        let passes = Targets::new()
            .with_default(LevelFilter::INFO)
            .with_targets(NEVER_TRACED.map(|target| (target, LevelFilter::OFF)));
        Some(
            tracing_opentelemetry::layer()
                .with_tracer(tracer)
                .with_threads(false)
                .with_filter(passes)
                .boxed(),
        )
    }

    /// Makes the metric handles work.
    pub(crate) fn install(&self) {
        if let Some(provider) = &self.metrics {
            opentelemetry::global::set_meter_provider(provider.clone());
            metrics::switch_on();
        }
    }

    /// Sends what is pending for at most `limit`. The providers' own limits do not hold while a connection
    /// hangs, so they run on a thread that is left behind when it does.
    pub(crate) fn shutdown(self, limit: Duration) {
        let Otlp { traces, metrics, reactor, given_up } = self;
        let (done, finished) = mpsc::sync_channel(2);
        let mut waiting = 0;
        let mut end = |work: Box<dyn FnOnce() + Send>| {
            let done = done.clone();
            let spawned = std::thread::Builder::new().name("otlp-end".to_owned()).spawn(move || {
                work();
                let _nobody_waits = done.send(());
            });
            waiting += usize::from(spawned.is_ok());
        };
        if let Some(traces) = traces {
            end(Box::new(move || drop(traces.shutdown_with_timeout(limit))));
        }
        if let Some(metrics) = metrics {
            end(Box::new(move || drop(metrics.shutdown_with_timeout(limit))));
        }
        let until = std::time::Instant::now() + limit;
        for _ in 0..waiting {
            let left = until.saturating_duration_since(std::time::Instant::now());
            if finished.recv_timeout(left).is_err() {
                tracing::warn!("the OTLP receiver did not take the last spans or metrics in time");
                break;
            }
        }
        given_up.store(true, Ordering::Release);
        drop(reactor); // only now: the last exports ran on it
    }
}

fn traces_to(service: &Service, endpoint: String, given_up: GivenUp) -> Result<SdkTracerProvider, String> {
    let mut builder = SpanExporter::builder().with_tonic();
    if endpoint.starts_with("https://") {
        builder = builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    let exporter = builder.build().map_err(|e| e.to_string())?;
    let exporter = Patient::new(exporter, "traces", endpoint, given_up);
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(service.resource()).build())
}

fn metrics_to(service: &Service, endpoint: String, given_up: GivenUp) -> Result<SdkMeterProvider, String> {
    let mut builder = MetricExporter::builder().with_tonic();
    if endpoint.starts_with("https://") {
        builder = builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    let exporter = builder.build().map_err(|e| e.to_string())?;
    let exporter = Patient::new(exporter, "metrics", endpoint, given_up);
    Ok(SdkMeterProvider::builder().with_periodic_exporter(exporter).with_resource(service.resource()).build())
}

/// Endpoint of a signal (`TRACES`, `METRICS`), unless that signal's exporter is set to `none`.
fn endpoint_of(signal: &str) -> Option<String> {
    if variable(&format!("OTEL_{signal}_EXPORTER")).as_deref() == Some("none") {
        return None;
    }
    variable(&format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"))
        .or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}
