//! `coord local run` with real processes and a scripted trainer: whoever is killed with -9 in the middle, the
//! run ends with the same committed results.

use harness::processes::{Process, Running, descendants, is_alive, kill_9, program, signal, wait_for};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A whole run, restarts and leases that must run out included.
const RUN_LIMIT: Duration = Duration::from_secs(180);
const START_LIMIT: Duration = Duration::from_secs(60);

/// Long enough to be hit in the middle, short enough for a test: 12 epochs of 150 ms a phase.
const SCRIPT: &str = r#"{"epochs": 12, "epoch_ms": 150}"#;

struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Site {
        let site = Site { folder: tempfile::tempdir().expect("a temporary folder") };
        let made = Command::new(program("coord"))
            .args(["data", "sample", "--seed", "3", "--minutes", "0.2"])
            .arg(site.data())
            .output()
            .expect("coord starts");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        site
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("captures")
    }

    fn outputs(&self) -> PathBuf {
        self.folder.path().join("outputs")
    }

    fn coord(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("coord"));
        command
            .args(args)
            .arg("--home")
            .arg(self.folder.path().join("home"))
            .arg("--data")
            .arg(self.data())
            .arg("--output-dir")
            .arg(self.outputs())
            .env("COORD_TRAINER", program("fake-trainer"))
            .env("FAKE_TRAINER", SCRIPT)
            // Short clocks: what is waited for is the order of things, not the length of a lease.
            .args(["--set", "cluster.lease_s=15", "--set", "cluster.beat_s=2"])
            .args(["--set", "cluster.unreachable_s=6", "--set", "cluster.backoff_s=1"]);
        command
    }

    fn start(&self, log: &str) -> Running {
        Running::start(&mut self.coord(&["local", "run"]), self.folder.path().join(log))
    }

    /// How many trainers of a phase were started: each has a log.
    fn trained(&self, phase: &str) -> usize {
        let logs = self.outputs().join("process_logs");
        let plans = std::fs::read_dir(&logs).unwrap_or_else(|e| panic!("{}: {e}", logs.display()));
        let of_plan = |plan: std::fs::DirEntry| std::fs::read_dir(plan.path()).expect("a folder of logs");
        let names =
            plans.flat_map(|plan| of_plan(plan.expect("entry"))).map(|f| f.expect("entry").file_name());
        names.filter(|name| name.to_string_lossy().contains(&format!(".{phase}."))).count()
    }

    /// SHA-256 of every model file that the run delivered.
    fn models(&self) -> BTreeMap<String, Vec<u8>> {
        let folder = self.outputs().join("saved_models");
        let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let read = |path: PathBuf| {
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            (name, std::fs::read(path).expect("readable"))
        };
        files.map(|f| read(f.expect("entry").path())).collect()
    }
}

/// What an undisturbed run delivers.
fn undisturbed() -> BTreeMap<String, Vec<u8>> {
    let site = Site::new();
    let mut run = site.start("run.log");
    assert!(run.wait(RUN_LIMIT).success(), "{}", run.output());
    let models = site.models();
    assert_eq!(models.len(), 3, "{:?}", models.keys());
    models
}

fn find(root: u32, is: fn(&Process) -> bool) -> Option<u32> {
    descendants(root).into_iter().find(is).map(|p| p.pid)
}

fn is_trainer(p: &Process) -> bool {
    p.command.contains("fake-trainer run") || p.command.ends_with("fake-trainer")
}

fn program_of(p: &Process) -> &str {
    let first = p.command.split(' ').next().unwrap_or_default();
    Path::new(first).file_name().and_then(|n| n.to_str()).unwrap_or_default()
}

/// Kills one process as soon as a trainer works, and expects the same results.
fn survives(victim: fn(&Process) -> bool) {
    let expected = undisturbed();
    let site = Site::new();
    let mut run = site.start("run.log");
    let root = run.pid();
    wait_for("a trainer", START_LIMIT, || find(root, is_trainer));
    std::thread::sleep(Duration::from_millis(500));
    let pid = wait_for("the victim", START_LIMIT, || find(root, victim));
    kill_9(pid);
    let status = run.wait(RUN_LIMIT);
    assert!(status.success(), "{}", run.output());
    assert!(!is_alive(pid), "it was killed");
    let models = site.models();
    assert_eq!(models.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(models == expected, "other bytes than the undisturbed run");
}

#[test]
fn the_trainer_is_killed() {
    survives(is_trainer);
}

#[test]
fn the_agent_is_killed() {
    survives(|p| program_of(p) == "node-agent");
}

#[test]
fn the_coordinator_is_killed() {
    survives(|p| program_of(p) == "coord" && p.command.contains(" serve"));
}

#[test]
fn the_nats_server_is_killed() {
    survives(|p| program_of(p) == "nats-server");
}

/// Longer than the lease of [`Site::coord`].
const STANDSTILL: Duration = Duration::from_secs(18);

/// Stops the processes for longer than a lease in the middle of an attempt, and expects that no attempt is
/// ended by it: silence of a time in which one did not run oneself proves nothing.
fn outlives_a_standstill(script: &str, stopped: fn(&Process) -> bool, stopped_longer: fn(&Process) -> bool) {
    let site = Site::new();
    let mut command = site.coord(&["local", "run", "--only", "teacher"]);
    let mut run = Running::start(command.env("FAKE_TRAINER", script), site.folder.path().join("run.log"));
    let root = run.pid();
    wait_for("a trainer", START_LIMIT, || find(root, is_trainer));
    std::thread::sleep(Duration::from_millis(500));
    let victims: Vec<Process> = descendants(root).into_iter().filter(stopped).collect();
    assert!(!victims.is_empty(), "nobody to stop");
    victims.iter().for_each(|p| signal("-STOP", p.pid));
    std::thread::sleep(STANDSTILL);
    let (late, soon): (Vec<Process>, Vec<Process>) = victims.into_iter().partition(stopped_longer);
    soon.iter().for_each(|p| signal("-CONT", p.pid));
    // Long enough for a decision on what was known before.
    std::thread::sleep(Duration::from_secs(1));
    late.iter().for_each(|p| signal("-CONT", p.pid));
    assert!(run.wait(RUN_LIMIT).success(), "{}", run.output());
    let events = site.coord(&["events", "-o", "json"]).output().expect("runs");
    let events = String::from_utf8_lossy(&events.stdout).into_owned();
    assert!(events.contains("committed"), "{events}");
    for ended in ["retried", "failed", "fenced", "attempt_raised"] {
        assert!(!events.contains(&format!("\"{ended}\"")), "an attempt was ended:\n{events}");
    }
}

#[test]
fn the_coordinator_stands_still_for_longer_than_a_lease() {
    let long = r#"{"epochs": 160, "epoch_ms": 150}"#;
    outlives_a_standstill(long, |p| program_of(p) == "coord", |_| false);
}

/// A laptop that slept: when it wakes, the coordinator is there before the agent has renewed anything.
#[test]
fn the_whole_machine_stands_still_for_longer_than_a_lease() {
    outlives_a_standstill(SCRIPT, |_| true, |p| program_of(p) == "node-agent");
}

#[test]
fn everything_is_killed_at_once_and_the_next_run_goes_on() {
    let expected = undisturbed();
    let site = Site::new();
    let run = site.start("first.log");
    let root = run.pid();
    wait_for("a trainer", START_LIMIT, || find(root, is_trainer));
    std::thread::sleep(Duration::from_millis(500));
    let children = descendants(root);
    kill_9(root);
    for child in children {
        wait_for("children of a killed run end", START_LIMIT, || (!is_alive(child.pid)).then_some(()));
    }
    drop(run);
    let mut again = site.start("second.log");
    assert!(again.wait(RUN_LIMIT).success(), "{}", again.output());
    assert!(site.models() == expected, "other bytes than the undisturbed run");
}

#[test]
fn a_store_that_refuses_ends_the_run_with_the_reason_and_the_next_run_trains_nothing_twice() {
    let expected = undisturbed();
    let site = Site::new();
    let (store, away) = (site.folder.path().join("store"), site.folder.path().join("away"));
    let start = |log: &str| {
        let mut command = site.coord(&["local", "run"]);
        command.arg("--store").arg(&store).args(["--set", "agent.store_refused_s=18"]);
        Running::start(&mut command, site.folder.path().join(log))
    };
    let mut first = start("first.log");
    wait_for("a trainer", START_LIMIT, || find(first.pid(), is_trainer));
    // Refused to everybody, root too: a file stands where the folder was.
    std::fs::rename(&store, &away).expect("the store's folder is there");
    std::fs::write(&store, "in the way").expect("writable");
    let status = first.wait(RUN_LIMIT);
    let output = first.output();
    assert!(!status.success(), "{output}");
    let path = store.display().to_string();
    for told in ["upload waits", "kept on this node", "run again", &path] {
        assert!(output.contains(told), "no {told:?} in {output}");
    }
    std::fs::remove_file(&store).expect("ours");
    std::fs::rename(&away, &store).expect("ours");
    let mut second = start("second.log");
    assert!(second.wait(RUN_LIMIT).success(), "{}", second.output());
    assert!(site.models() == expected, "other bytes than the undisturbed run");
    assert_eq!(site.trained("teacher"), 1, "what was finished is stored, not trained again");
}

#[test]
fn a_hung_trainer_is_ended_and_the_run_goes_on_from_its_checkpoint() {
    let run = |script: &str| {
        let site = Site::new();
        let mut command = site.coord(&["local", "run", "--only", "teacher", "--set", "agent.stall_s=4"]);
        let mut run = Running::start(command.env("FAKE_TRAINER", script), site.folder.path().join("run.log"));
        assert!(run.wait(RUN_LIMIT).success(), "{}", run.output());
        let events = site.coord(&["events", "-o", "json"]).output().expect("runs");
        (site.models(), String::from_utf8_lossy(&events.stdout).into_owned())
    };
    let (expected, quiet) = run(r#"{"epochs": 130, "epoch_ms": 50}"#);
    assert!(!quiet.contains("retried"), "{quiet}");
    let (models, events) = run(r#"{"epochs": 130, "epoch_ms": 50, "faults": {"1": {"hang_at_epoch": 110}}}"#);
    assert!(events.contains("hung: for 4 s"), "{events}");
    assert!(models == expected, "other bytes than the undisturbed run");
}

#[test]
fn a_second_run_finds_everything_up_to_date() {
    let site = Site::new();
    let mut first = site.start("first.log");
    assert!(first.wait(RUN_LIMIT).success(), "{}", first.output());
    let mut second = site.start("second.log");
    assert!(second.wait(RUN_LIMIT).success(), "{}", second.output());
    assert!(second.output().contains("up to date"), "{}", second.output());

    let plan = site.coord(&["plan", "-o", "json", "--set", "student.gat.lr=0.0123"]).output().expect("runs");
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    let plan: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(text.contains("0.0123"), "the reason names the value: {text}");
    assert!(plan["schema"].as_str().is_some_and(|s| s.starts_with("coord.v1.")), "{text}");
}
