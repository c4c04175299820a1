//! W3C trace context (`traceparent`, `tracestate`) over headers, command lines and stored records. Names are
//! lower case: NATS keeps the case of header names and they are read exactly.
//!
//! When spans are not exported there is no context of our own: [`inject`] writes nothing,
//! [`current_traceparent`] is `None`, [`set_parent`] does nothing. A stored or received `traceparent` is then
//! handed on by whoever holds it.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use std::collections::BTreeMap;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";

/// Writes the current span's context into headers; leaves them alone when there is none.
pub fn inject(headers: &mut BTreeMap<String, String>) {
    inject_context(&Context::current(), headers);
}

/// `traceparent` of the span this thread is in.
pub fn current_traceparent() -> Option<String> {
    traceparent(&Context::current())
}

/// `traceparent` of a span that may not be entered.
pub fn traceparent_of(span: &Span) -> Option<String> {
    traceparent(&span.context())
}

/// Makes `span` a child of the span that `traceparent` names. Call it before the span is entered: an OTLP
/// parent cannot change later. What is no `traceparent` is ignored: a broken header may not stop a job.
pub fn set_parent(span: &Span, traceparent: Option<&str>) {
    if let Some(traceparent) = traceparent {
        adopt(span, &OneHeader(traceparent));
    }
}

/// The same from headers, `tracestate` included.
pub fn set_parent_from(span: &Span, headers: &BTreeMap<String, String>) {
    adopt(span, &Headers(headers));
}

/// Links `span` to another one without nesting: a retry to the attempt before it, an attempt to its plan.
pub fn add_link(span: &Span, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent else { return };
    let linked = extract(&OneHeader(traceparent));
    let ids = linked.span().span_context().clone();
    if ids.is_valid() {
        span.add_link(ids);
    }
}

fn adopt(span: &Span, headers: &dyn Extractor) {
    let parent = extract(headers);
    if !parent.span().span_context().is_valid() {
        return;
    }
    if let Err(error) = span.set_parent(parent) {
        // Off or filtered out is ordinary; the message helps whoever enters a span too early.
        tracing::trace!(%error, "span keeps its parent");
    }
}

fn extract(headers: &dyn Extractor) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), headers)
}

fn traceparent(context: &Context) -> Option<String> {
    let mut headers = BTreeMap::new();
    inject_context(context, &mut headers);
    headers.remove(TRACEPARENT)
}

fn inject_context(context: &Context, headers: &mut BTreeMap<String, String>) {
    if !context.span().span_context().is_valid() {
        return;
    }
    let mut written = std::collections::HashMap::new();
    TraceContextPropagator::new().inject_context(context, &mut written);
    // An empty tracestate says nothing; some parsers stumble over it.
    headers.extend(written.into_iter().filter(|(_, value): &(String, String)| !value.is_empty()));
}

struct OneHeader<'h>(&'h str);

impl Extractor for OneHeader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

struct Headers<'h>(&'h BTreeMap<String, String>);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn without_export_nothing_is_written_and_nothing_breaks() {
        let span = tracing::info_span!("off");
        set_parent(&span, Some(PARENT));
        set_parent(&span, Some("nonsense"));
        set_parent(&span, None);
        let _entered = span.enter();
        let mut headers = BTreeMap::from([("kept".to_owned(), "x".to_owned())]);
        inject(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(current_traceparent(), None);
    }

    #[test]
    fn a_remote_context_survives_the_round_trip() {
        let context = extract(&OneHeader(PARENT));
        assert_eq!(traceparent(&context).as_deref(), Some(PARENT));
        for bad in ["", "00-x-y-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01"] {
            assert_eq!(traceparent(&extract(&OneHeader(bad))), None, "{bad:?} was accepted");
        }
    }
}
