//! What operators do to nodes and jobs, with real processes: a bus, a coordinator, agents with scripted GPUs and
//! fake trainers.

use bus::server::{NatsServer, ServerOptions};
use harness::processes::{Running, program, wait_for};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(180);
/// Long enough to be met in the middle of a training.
const STEADY: &str = r#"{"epochs": 120, "epoch_ms": 300}"#;
/// A whole chain of it is waited for.
const SHORT: &str = r#"{"epochs": 30, "epoch_ms": 300}"#;
/// Each attempt dies soon after its start.
const BROKEN: &str = r#"{"fault": {"crash_signal": 9}}"#;
/// Short clocks: what is waited for is the order of things, not the length of a lease.
const CLOCKS: [&str; 10] = [
    "--set",
    "cluster.lease_s=15",
    "--set",
    "cluster.beat_s=2",
    "--set",
    "cluster.unreachable_s=6",
    "--set",
    "cluster.backoff_s=1",
    "--set",
    "cluster.offer_s=3",
];

struct Site {
    folder: TempDir,
    server: NatsServer,
    processes: Vec<Running>,
}

impl Site {
    /// A coordinator, and one agent with one card for each of these scripts: `node-0`, `node-1` …
    async fn start(datasets: &[&str], scripts: &[&str]) -> Site {
        let folder = tempfile::tempdir().expect("a temporary folder");
        datasets.iter().for_each(|name| captures(&folder.path().join("data").join(name), name));
        let started = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await;
        let server = started.unwrap_or_else(|e| panic!("{e} (make setup fetches one)"));
        let mut site = Site { folder, server, processes: Vec::new() };
        let mut serve = site.coord(&["serve"]);
        let log = site.path("serve.log");
        site.processes.push(Running::start(&mut serve, log));
        scripts.iter().enumerate().for_each(|(i, script)| site.agent(i, script));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn agent(&mut self, i: usize, script: &str) {
        let name = format!("node-{i}");
        let gpus = self.path(&format!("{name}.gpus.json"));
        // Room for one job of a phase's default need.
        let card = json!({"id": format!("GPU-{i}"), "kind": "gpu", "model": "NVIDIA GeForce RTX 3080",
            "total_mib": 12_288, "used_mib": 0, "processes": [], "utilization_percent": 0, "fault": null});
        std::fs::write(&gpus, json!({"devices": [card]}).to_string()).expect("writable");
        let mut command = Command::new(program("node-agent"));
        command
            .args(["--node", &name, "--cpu", "no"])
            .args(CLOCKS)
            .arg("--trainer")
            .arg(program("fake-trainer"))
            .arg("--work-dir")
            .arg(self.path(&name))
            .env("COORD_NATS_URL", self.server.url())
            .env("COORD_NATS_TOKEN", self.server.token())
            .env("COORD_STORE_URL", self.path("store"))
            .env("COORD_SCRIPTED_GPUS", gpus)
            .env("FAKE_TRAINER", script);
        let log = self.path(&format!("{name}.log"));
        self.processes.push(Running::start(&mut command, log));
    }

    fn coord(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("coord"));
        command
            .args(args)
            .args(CLOCKS)
            .current_dir(self.folder.path())
            .env("COORD_NATS_URL", self.server.url())
            .env("COORD_NATS_TOKEN", self.server.token())
            .env("COORD_STORE", self.path("store"))
            .env("COORD_DATA", self.path("data"));
        command
    }

    /// What it printed on stdout; it must end well.
    fn run(&self, line: &str) -> String {
        let args: Vec<&str> = line.split_whitespace().collect();
        let output = self.coord(&args).output().expect("coord starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn page(&self, line: &str) -> Value {
        let text = self.run(&format!("{line} -o json"));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// The job in the status of all plans, the newest that holds it.
    fn job(&self, name: &str) -> Value {
        let page = self.page("status all");
        let plans = page["plans"].as_array().expect("plans").iter().rev();
        let mut jobs = plans.flat_map(|plan| plan["jobs"].as_array().expect("jobs").iter());
        jobs.find(|job| job["job"] == name).unwrap_or_else(|| panic!("no {name}: {page}")).clone()
    }

    /// Waits until the job is as asked for.
    fn until(&self, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(what, LIMIT, || {
                last = self.job(name);
                is(&last).then(|| last.clone())
            })
        }));
        found.unwrap_or_else(|_| panic!("{name}: not {what}: {last}\n{}", self.logs()))
    }

    fn logs(&self) -> String {
        self.processes.iter().map(|p| format!("---- {}\n{}\n", p.log.display(), p.output())).collect()
    }

    fn kinds(&self) -> Vec<String> {
        let lines = self.run("events -o json");
        let kind = |line: &str| {
            let event: Value = serde_json::from_str(line).expect("an event a line");
            event["kind"].as_str().expect("a kind").to_owned()
        };
        lines.lines().map(kind).collect()
    }
}

/// A tiny dataset; another name is other content, or all would be the same job.
fn captures(folder: &Path, name: &str) {
    for part in ["train_01", "test_01"] {
        let rows = format!("1.0,0C9,{:02X},0\n1.1,0D1,00,0\n1.2,0C9,01,0\n", name.as_bytes()[0]);
        std::fs::create_dir_all(folder.join(part)).expect("writable");
        let text = format!("timestamp,arbitration_id,data_field,attack\n{rows}");
        std::fs::write(folder.join(part).join("a.csv"), text).expect("writable");
    }
}

/// It has stored something that another attempt can go on from.
fn trains(job: &Value) -> bool {
    job["state"] == "training" && job["progress"].as_str().is_some_and(|p| !p.contains(" 1/"))
}

fn node_of(job: &Value) -> &str {
    job["place"]["node"].as_str().expect("a place")
}

fn committed(job: &Value) -> bool {
    job["state"] == "committed"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_hands_its_work_over_and_takes_jobs_again_after() {
    let site = Site::start(&["car"], &[STEADY, STEADY]).await;
    site.run("run --detach --only teacher");
    let first = site.until("car/teacher", "training", trains);
    let node = node_of(&first).to_owned();
    let unknown = site.coord(&["node", "cordon", "node-9"]).output().expect("coord starts");
    assert!(!unknown.status.success() && String::from_utf8_lossy(&unknown.stderr).contains("node-0, node-1"));

    let mut drain = site.coord(&["node", "drain", &node, "--reason", "new driver"]);
    let told = String::from_utf8(drain.output().expect("coord starts").stdout).expect("text");
    assert!(told.contains("asked to save a checkpoint and move: car/teacher a1"), "{told}");
    let moved = site.until("car/teacher", "moved", |job| trains(job) && node_of(job) != node);
    assert_eq!(moved["attempt"], 2);
    let why = site.page("explain car/teacher");
    assert_eq!(why["past"][0]["cause"], "preemption");
    assert_eq!(why["past"][0]["message"], format!("asked to yield: {node} is draining: new driver"));
    let nodes = site.run("nodes");
    assert!(nodes.contains("new driver (nothing is left there)"), "{nodes}");

    site.run(&format!("node uncordon {node}"));
    assert!(!site.run("nodes").contains("new driver"));
    site.until("car/teacher", "committed", committed);
    let kinds = site.kinds();
    for kind in ["draining", "asked_to_yield", "retried", "uncordoned", "committed"] {
        assert!(kinds.iter().any(|k| k == kind), "{kind}: {kinds:?}");
    }
    assert!(!kinds.iter().any(|k| k == "fenced"), "it was asked, not cut off: {kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_job_saves_and_waits_and_a_cancelled_one_is_tried_again() {
    let site = Site::start(&["car"], &[SHORT]).await;
    site.run("run --detach");
    site.until("car/teacher", "training", trains);
    let dry = site.run("pause car/teacher --dry-run");
    assert!(dry.starts_with("would pause car/student"), "dependents first: {dry}");
    site.run("pause car/teacher --reason lunch");
    let paused = site.until("car/teacher", "paused", |job| job["state"] == "paused");
    assert!(paused["reasons"].to_string().contains("lunch"), "{paused}");
    site.run("resume car");
    let again = site.until("car/teacher", "training again", trains);
    assert_eq!(again["attempt"], 2);

    site.run("cancel car/teacher --yes");
    site.until("car/student", "skipped", |job| job["state"] == "skipped");
    let refused = site.coord(&["retry", "car/student"]).output().expect("coord starts");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("retry car/teacher"), "{told}");
    let retried = site.page("retry car/teacher");
    assert_eq!(retried["retried"][0]["dependents"], json!(["car/student", "car/fusion"]));
    site.until("car/fusion", "committed", committed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_fails_everything_is_quarantined_and_the_others_do_its_work() {
    // While the sound node works, the others meet the broken one.
    let sound = r#"{"epochs": 5, "epoch_ms": 800}"#;
    let datasets = ["car", "van", "bus", "tram", "lorry"];
    let site = Site::start(&datasets, &[BROKEN, sound]).await;
    site.run("run --detach --only teacher");
    for dataset in datasets {
        site.until(&format!("{dataset}/teacher"), "committed", committed);
    }
    let nodes = site.page("nodes");
    let decided = &nodes["decided"]["node-0"];
    assert_eq!(
        (&decided["standing"], &decided["by"]),
        (&json!("quarantined"), &json!("coordinator")),
        "{nodes}"
    );
    let reason = decided["reason"].as_str().expect("a reason");
    assert!(reason.contains("3 jobs in a row") && reason.contains("signal 9"), "{reason}");
    site.run("node uncordon node-0");
    assert!(!site.run("nodes").contains("quarantined"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_higher_priority_takes_the_only_card_and_gives_it_back() {
    let site = Site::start(&["car", "van"], &[STEADY]).await;
    site.run("run --detach --only teacher -d car");
    site.until("car/teacher", "training", trains);
    site.run("run --detach --only teacher -d van --priority-datasets van");
    site.until("van/teacher", "training", trains);
    let waits = site.job("car/teacher");
    assert_eq!(waits["state"], "ready", "{waits}");
    site.until("van/teacher", "committed", committed);
    site.until("car/teacher", "committed", committed);
    let why = site.page("explain car/teacher");
    let message = why["past"][0]["message"].as_str().expect("an attempt before").to_owned();
    assert!(message.contains("makes way for van/teacher"), "{message}");
}
