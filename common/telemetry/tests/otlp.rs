//! Three processes and a real OTLP/gRPC receiver: one trace across them, metrics, and what happens when
//! nobody listens.

use fake_opentelemetry_collector::{ExportedSpan, FakeCollectorServer};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the probe printed: its own `traceparent`, if any.
fn probe(role: &str, endpoint: Option<&str>, log_dir: &Path, parent: Option<&str>) -> Option<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_telemetry-probe"));
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy();
        if ours.starts_with("OTEL_") || ours == "COORD_LOG" || ours == "RUST_LOG" {
            command.env_remove(&name);
        }
    }
    if let Some(endpoint) = endpoint {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    }
    let output = command.arg(role).arg(log_dir).args(parent).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{role}: {}", output.status);
    let printed = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    (printed != "none").then_some(printed)
}

fn log_lines(dir: &Path, role: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join(format!("{role}.probe_1.log"))).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// (version, trace id, span id, flags)
fn parts(traceparent: &str) -> Vec<&str> {
    traceparent.split('-').collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_across_three_processes() {
    let mut collector = FakeCollectorServer::start().await.unwrap();
    let endpoint = collector.endpoint();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_owned();
    let printed = tokio::task::spawn_blocking(move || {
        let mut parent: Option<String> = None;
        let mut printed = Vec::new();
        for role in ["coord", "coord-agent", "coord-trainer"] {
            parent = probe(role, Some(&endpoint), &folder, parent.as_deref());
            printed.push(parent.clone().expect("a traceparent while spans are exported"));
        }
        printed
    })
    .await
    .unwrap();

    let spans = collector.exported_spans(3, Duration::from_secs(10)).await;
    let names: Vec<_> = spans.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["work coord", "work coord-agent", "work coord-trainer"]);
    assert_eq!(spans[0].parent_span_id, "");
    for (span, printed) in spans.iter().zip(&printed) {
        assert_eq!(parts(printed)[1..3], [span.trace_id.as_str(), span.span_id.as_str()]);
        assert_eq!(span.attributes["attempt"], attribute_of(&spans[0], "attempt"));
    }
    for (parent, child) in spans.iter().zip(&spans[1..]) {
        assert_eq!((&child.trace_id, &child.parent_span_id), (&parent.trace_id, &parent.span_id));
    }

    let line = log_lines(dir.path(), "coord-trainer").remove(0);
    assert_eq!(line["trace_id"], spans[2].trace_id);
    assert_eq!(line["span_id"], spans[2].span_id);

    let metrics = collector.exported_metrics(3, Duration::from_secs(10)).await;
    let one: Vec<_> = metrics[0].metrics.iter().map(|m| (m.name.as_str(), m.unit.as_str())).collect();
    for known in [("coord.commit", "{commit}"), ("coord.leader", "1"), ("coord.phase.duration", "s")] {
        assert!(one.contains(&known), "{known:?} is missing in {one:?}");
    }
}

fn attribute_of(span: &ExportedSpan, name: &str) -> String {
    span.attributes.get(name).cloned().unwrap_or_else(|| panic!("{span:?} lacks {name}"))
}

#[test]
fn nobody_listening_costs_seconds_at_most_and_one_warning_a_signal() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // closed again at once
    bounded(&format!("http://{free}"));
}

#[test]
fn a_receiver_that_never_answers_costs_seconds_at_most() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap(); // the kernel accepts, nobody reads
    bounded(&format!("http://{}", silent.local_addr().unwrap()));
}

fn bounded(endpoint: &str) {
    for role in ["coord", "coord-trainer"] {
        let dir = tempfile::tempdir().unwrap();
        let began = Instant::now();
        assert!(probe(role, Some(endpoint), dir.path(), None).is_some());
        assert!(began.elapsed() < Duration::from_secs(3), "{role} took {:?}", began.elapsed());
        let warnings: Vec<_> =
            log_lines(dir.path(), role).into_iter().filter(|line| line["level"] == "WARN").collect();
        assert!((1..=2).contains(&warnings.len()), "{warnings:?}");
    }
}

#[test]
fn an_unusable_endpoint_is_a_warning_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(probe("coord", Some("not a url"), dir.path(), None), None);
    let lines = log_lines(dir.path(), "coord");
    let warning = lines.iter().find(|line| line["level"] == "WARN").expect("a warning");
    assert!(warning["msg"].as_str().unwrap().contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{warning}");
}

#[test]
fn off_means_logs_only() {
    let dir = tempfile::tempdir().unwrap();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(probe("coord", None, dir.path(), Some(parent)), None);
    let lines = log_lines(dir.path(), "coord");
    assert_eq!(lines.len(), 1, "one line at info, none at debug: {lines:?}");
    let line = &lines[0];
    assert_eq!((&line["msg"], &line["level"]), (&"a line of coord".into(), &"INFO".into()));
    assert_eq!((&line["epoch"], &line["attempt"], &line["span"]), (&7.into(), &3.into(), &"work".into()));
    assert!(line["ts"].as_str().unwrap().ends_with('Z') && line.get("trace_id").is_none(), "{line}");
}

#[test]
fn a_log_folder_that_cannot_be_is_told_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_telemetry-probe"));
    let output = command.arg("coord").arg(file.join("logs")).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("LogFile"), "{told}");
}
