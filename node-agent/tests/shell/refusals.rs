//! Bad surroundings: the agent does not start, says which, and ends with a code.

use crate::world::{World, is_gone, offer};
use common::slot::SlotState;
use serde_json::json;
use std::process::{Command, Output};

fn ended(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_names_the_thing_and_the_way_out() {
    let world = World::without_agent().await;
    let (code, told) = ended(world.command().arg("--set=cluster.lease_s=1"));
    assert_eq!(code, Some(1));
    assert!(told.contains("cluster.lease_s"), "{told}");

    let mut command = bare(&world);
    command
        .args(["--nats", "nats://127.0.0.1:1", "--connect-timeout", "1", "--store"])
        .arg(world.path("store"));
    let (code, told) = ended(&mut command);
    assert_eq!(code, Some(6), "{told}");
    assert!(told.contains("nats://127.0.0.1:1") && told.contains("Is it running"), "{told}");

    let mut command = bare(&world);
    command
        .args(["--nats", &world.server.url(), "--nats-token", "wrong", "--store"])
        .arg(world.path("store"));
    let (code, told) = ended(&mut command);
    assert_eq!(code, Some(6), "{told}");
    assert!(told.contains("token"), "{told}");

    let mut command = bare(&world);
    command.args(["--store", "/dev/null/store"]);
    let (code, told) = ended(&mut command);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("object store") && told.contains("/dev/null"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_trainer_and_a_second_agent_are_refused() {
    let mut world = World::start().await;
    world.beat("life", |_| true).await;
    let (code, told) = ended(&mut world.command());
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("another node-agent") && told.contains(&world.agent().id().to_string()), "{told}");

    let mut command = Command::new(env!("CARGO_BIN_EXE_node-agent"));
    command.args([
        "--node",
        "n2",
        "--trainer",
        "/nonexistent/trainer",
        "--store",
        "/tmp",
        "--work-dir",
        "/tmp",
    ]);
    let (code, told) = ended(&mut command);
    assert_eq!(code, Some(1));
    assert!(told.contains("/nonexistent/trainer") && told.contains("--trainer"), "{told}");
}

fn bare(world: &World) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_node-agent"));
    command.args(["--node", "n1", "--work-dir"]).arg(world.path("work"));
    command.arg("--trainer").arg(crate::world::fake_trainer());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_of_the_same_name_does_not_start_and_harms_nobody() {
    let mut world = World::start().await;
    let job = offer(&world, "job", 1, json!({ "epochs": 100_000, "epoch_ms": 100 }));
    world.offer(&job).await;
    let trainer = world.training(&job).await;
    // A folder of its own, so that only the name is the same.
    let (code, told) = ended(&mut world.command_in("work2"));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("another agent named n1") && told.contains("--node"), "{told}");
    assert!(!is_gone(trainer));
    assert!(matches!(world.slot(&job.key).await.unwrap().state, SlotState::Held { .. }));
    // After a kill -9 the name is free at once.
    world.stop_agent();
    world.start_agent();
    assert_eq!(world.until_failed(&job).await.message, "agent restarted");
}
