//! An exporter whose receiver may be absent: one warning when it goes, one line when it is back, and never an
//! error every few seconds.

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Patient<E> {
    inner: E,
    signal: &'static str,
    endpoint: String,
    absent: AtomicBool,
    /// The program is done waiting: what fails from here on was told already.
    given_up: Arc<AtomicBool>,
}

impl<E> Patient<E> {
    pub(super) fn new(inner: E, signal: &'static str, endpoint: String, given_up: Arc<AtomicBool>) -> Self {
        Patient { inner, signal, endpoint, absent: AtomicBool::new(false), given_up }
    }

    fn tell(&self, sent: OTelSdkResult) -> OTelSdkResult {
        let (signal, endpoint) = (self.signal, &self.endpoint);
        match sent {
            Ok(()) => {
                if self.absent.swap(false, Ordering::Relaxed) {
                    tracing::info!(signal, endpoint, "the OTLP receiver is back");
                }
            }
            Err(error) => {
                if !self.absent.swap(true, Ordering::Relaxed) && !self.given_up.load(Ordering::Acquire) {
                    tracing::warn!(signal, endpoint, %error, "no OTLP receiver; what it misses is dropped");
                }
            }
        }
        Ok(()) // told above: the SDK would tell it again at every export
    }
}

impl<E: SpanExporter> SpanExporter for Patient<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.tell(self.inner.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for Patient<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.tell(self.inner.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.inner.temporality()
    }
}
