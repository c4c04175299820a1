//! `coord logs` with real processes: no line is missed or doubled, whoever is killed in the middle, and the
//! archive says the same when everything is over.

use harness::processes::{Running, descendants, kill_9, program, wait_for};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const RUN_LIMIT: Duration = Duration::from_secs(180);
const START_LIMIT: Duration = Duration::from_secs(60);
const EPOCHS: u32 = 60;

fn coord(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program("coord"));
    // The first attempt dies in its tenth epoch, after nine checkpoints.
    let script = format!(
        r#"{{"epochs": {EPOCHS}, "epoch_ms": 120, "faults": {{"1": {{"crash_signal": 9, "crash_at_epoch": 10}}}}}}"#
    );
    command
        .args(args)
        .arg("--home")
        .arg(folder.join("home"))
        .arg("--data")
        .arg(folder.join("captures"))
        .arg("--output-dir")
        .arg(folder.join("outputs"))
        .env("COORD_TRAINER", program("fake-trainer"))
        .env("FAKE_TRAINER", script)
        .args(["--set", "cluster.lease_s=15", "--set", "cluster.beat_s=2", "--set", "cluster.backoff_s=1"]);
    command
}

/// The epochs that a log tells of, in its order.
fn epochs(log: &str) -> Vec<u32> {
    let told = log.lines().filter_map(|line| line.strip_prefix("fake-trainer: epoch "));
    told.map(|line| line.split(' ').next().and_then(|n| n.parse().ok()).expect("a number")).collect()
}

fn victim(root: u32, name: &str) -> Option<u32> {
    let is = |command: &str| command.split(' ').next().is_some_and(|first| first.ends_with(name));
    descendants(root).into_iter().find(|p| is(&p.command)).map(|p| p.pid)
}

#[test]
fn every_line_is_read_once_over_a_dead_trainer_and_a_killed_bus_and_again_from_the_archive() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = Command::new(program("coord"))
        .args(["data", "sample", "--seed", "3", "--minutes", "0.2"])
        .arg(folder.path().join("captures"))
        .output()
        .expect("coord starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut run = Running::start(
        &mut coord(folder.path(), &["local", "run", "--only", "teacher"]),
        folder.path().join("run.log"),
    );
    wait_for("a trainer", START_LIMIT, || victim(run.pid(), "fake-trainer"));
    let reading = folder.path().join("reading.log");
    let mut reader = Running::start(&mut coord(folder.path(), &["logs", "sample/teacher", "-f"]), reading);
    // In the second attempt, while lines are read.
    wait_for("line 20", RUN_LIMIT, || epochs(&reader.output()).contains(&20).then_some(()));
    kill_9(victim(run.pid(), "nats-server").expect("the bus of the run"));
    assert!(reader.wait(RUN_LIMIT).success(), "{}", reader.output());
    assert!(run.wait(RUN_LIMIT).success(), "{}", run.output());

    // The tenth epoch was begun and not told by the first attempt; its checkpoint of the ninth is gone on from.
    let expected: Vec<u32> = (1..=EPOCHS).collect();
    let followed = reader.output();
    assert_eq!(epochs(&followed), expected, "{followed}");
    let told =
        ["sample/teacher attempt 1", "raising signal 9", "attempt 1 ended: infrastructure", "attempt 2"];
    for told in told {
        assert!(followed.contains(told), "no {told:?} in {followed}");
    }
    // No cluster is left: this comes from the store.
    let stored = coord(folder.path(), &["logs", "sample/teacher"]).output().expect("coord runs");
    let text = String::from_utf8_lossy(&stored.stdout).into_owned();
    assert_eq!(epochs(&text), expected, "{text}{}", String::from_utf8_lossy(&stored.stderr));
    let second =
        coord(folder.path(), &["logs", "sample/teacher", "--attempt", "2"]).output().expect("coord runs");
    let text = String::from_utf8_lossy(&second.stdout).into_owned();
    assert_eq!(epochs(&text), (10..=EPOCHS).collect::<Vec<u32>>(), "{text}");
}
