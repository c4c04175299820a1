//! Small lists: events, captures, configuration, version.

use super::{schema, words};
use common::job_key::KEY_SCHEMA;
use common::messages::Event;
use serde_json::{Value, json};

pub fn event_json(event: &Event) -> Value {
    schema(
        "event",
        json!({
            "at": event.at.to_string(),
            "kind": event.kind,
            "plan": event.job.as_ref().map(|j| &j.plan),
            "job": event.job.as_ref().map(|j| j.name.to_string()),
            "attempt": event.attempt,
            "node": event.node,
            "text": event.text,
            "traceparent": event.traceparent,
        }),
    )
}

/// `2026-11-23T20:45:44Z p12 sample/teacher a1 committed n1 manifest 0123`.
pub fn event(event: &Event) -> String {
    let (plan, job) = match &event.job {
        Some(job) => (job.plan.to_string(), job.name.to_string()),
        None => (words::dash(), words::dash()),
    };
    let attempt = event.attempt.map_or_else(words::dash, |a| a.to_string());
    let node = event.node.as_ref().map_or_else(words::dash, ToString::to_string);
    format!("{} {plan} {job} {attempt} {} {node} {}", event.at, event.kind, event.text)
}

pub fn version_json() -> Value {
    schema(
        "version",
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "key_schema": KEY_SCHEMA,
            "wire": common::wire::WRITTEN,
            "nats_server_min": bus::server::MINIMUM_VERSION.to_string(),
        }),
    )
}

pub fn version() -> String {
    format!(
        "coord {}   key schema {KEY_SCHEMA}   wire {}   needs nats-server {} or newer\n",
        env!("CARGO_PKG_VERSION"),
        common::wire::WRITTEN,
        bus::server::MINIMUM_VERSION
    )
}

/// Captures of one dataset.
pub fn scan_json(dataset: &str, captures: &[dataset::CaptureScan]) -> Value {
    schema("data.scan", json!({"dataset": dataset, "captures": captures}))
}

pub fn scan(dataset: &str, captures: &[dataset::CaptureScan]) -> String {
    let row = |c: &dataset::CaptureScan| {
        vec![
            dataset.to_owned(),
            c.folder.clone(),
            c.name.clone(),
            words::count(c.read.rows),
            words::count(c.read.attack_rows),
            c.ids.to_string(),
            format!("{:.1}", c.duration_s),
            format!("{:.0}", c.rate_per_s),
            words::count(c.windows),
            words::count(c.attack_windows),
            if c.read.has_labels { "yes".into() } else { "no".into() },
        ]
    };
    let headers = [
        "DATASET",
        "FOLDER",
        "CAPTURE",
        ">ROWS",
        ">ATTACK ROWS",
        ">IDS",
        ">SECONDS",
        ">ROWS/S",
        ">WINDOWS",
        ">ATTACK WINDOWS",
        "LABELS",
    ];
    super::table::render(&headers, &captures.iter().map(row).collect::<Vec<_>>())
}

pub fn check_json(report: &dataset::CheckReport) -> Value {
    schema("data.check", json!({"ok": !report.has_errors(), "report": report}))
}

pub fn check(report: &dataset::CheckReport) -> String {
    let verdict = if report.has_errors() { "can not be trained on" } else { "can be trained on" };
    let (captures, rows) = (words::plural(report.captures as usize, "capture"), words::count(report.rows));
    let mut text = format!("{}: {captures}, {rows} messages, {verdict}\n", report.dataset);
    for finding in &report.findings {
        let severity = match finding.severity {
            dataset::Severity::Error => "error",
            dataset::Severity::Warning => "warning",
            dataset::Severity::Note => "note",
        };
        let capture = finding.capture.as_ref().map_or_else(String::new, |c| format!("{c}: "));
        text += &format!("  {severity:<7}  {capture}{}\n", finding.text);
    }
    text
}

pub fn sample_json(report: &dataset::SampleReport) -> Value {
    schema(
        "data.sample",
        json!({"folder": report.folder, "up_to_date": report.up_to_date, "captures": report.captures}),
    )
}

pub fn sample(report: &dataset::SampleReport) -> String {
    let rows: u64 = report.captures.iter().map(|c| c.rows).sum();
    let verb = if report.up_to_date { "was there already" } else { "written" };
    let captures = words::plural(report.captures.len(), "capture");
    format!("{}: {captures}, {} messages, {verb}\n", report.folder.display(), words::count(rows))
}
