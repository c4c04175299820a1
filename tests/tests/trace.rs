//! One trace over three processes, seen by a real OTLP receiver: plan -> apply -> offer -> lease -> stages of
//! the real trainer -> commit.

use fake_opentelemetry_collector::{ExportedSpan, FakeCollectorServer};
use harness::processes::{Running, program};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Spans of coordinator and command line, of the agent, and of the trainer: no two processes share a name.
const WANTED: [&str; 12] = [
    "plan",
    "apply",
    "send coord.jobs",
    "verify",
    "chain.write",
    "phase teacher",
    "lease",
    "fetch",
    "train",
    "upload",
    "attempt",
    "preparing",
];

/// A whole teacher on few captures, with few epochs.
fn retrain(folder: PathBuf, endpoint: String) {
    let made = Command::new(program("coord"))
        .args(["data", "sample", "--seed", "5", "--minutes", "0.2"])
        .arg(folder.join("captures"))
        .output()
        .expect("coord starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut command = Command::new(program("coord"));
    command
        .args(["local", "run", "--only", "teacher", "--set", "epochs=1"])
        .arg("--home")
        .arg(folder.join("home"))
        .arg("--data")
        .arg(folder.join("captures"))
        .arg("--output-dir")
        .arg(folder.join("outputs"))
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
    let mut run = Running::start(&mut command, folder.join("run.log"));
    let status = run.wait(Duration::from_secs(300));
    assert!(status.success(), "{}", run.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phase_is_one_trace_from_plan_to_commit() {
    let mut collector = FakeCollectorServer::start().await.expect("a receiver");
    let endpoint = collector.endpoint();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_owned();
    tokio::task::spawn_blocking(move || retrain(path, endpoint)).await.expect("the run ends well");

    // More come than are waited for; the last ones are flushed at the end of each process.
    let spans = collector.exported_spans(WANTED.len() + 1000, Duration::from_secs(5)).await;
    let offer = spans.iter().find(|s| s.name == "send coord.jobs").expect("an offer");
    let ours: Vec<&ExportedSpan> = spans.iter().filter(|s| s.trace_id == offer.trace_id).collect();
    let told: BTreeSet<&str> = ours.iter().map(|s| s.name.as_str()).collect();
    for name in WANTED {
        assert!(told.contains(name), "{name} is missing in {told:?}");
    }
    let ids: BTreeMap<&str, &ExportedSpan> = ours.iter().map(|s| (s.span_id.as_str(), *s)).collect();
    let ancestors = |span: &ExportedSpan| {
        let mut names = Vec::new();
        let mut at = Some(span);
        while let Some(span) = at {
            names.push(span.name.clone());
            at = ids.get(span.parent_span_id.as_str()).copied();
        }
        names
    };
    let trainer = ours.iter().find(|s| s.name == "attempt").expect("the trainer's span");
    assert_eq!(ancestors(trainer), ["attempt", "train", "phase teacher", "send coord.jobs", "apply", "plan"]);
}
