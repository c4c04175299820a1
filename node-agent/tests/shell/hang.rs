//! A trainer that hangs: told with what it hangs in, killed, and free to be tried again.

use crate::world::{World, offer, until_gone};
use common::slot::Cause;
use common::units::Mib;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_trainer_is_killed_with_its_last_lines_and_its_threads_told() {
    let mut world = World::without_agent().await;
    let mut command = world.command();
    command.args(["--set", "agent.stall_s=4"]);
    world.start_command(command);
    let script = json!({ "epochs": 100_000, "epoch_ms": 50, "fault": { "hang_at_epoch": 120 } });
    let job = offer(&world, "job", 1, script);
    world.offer(&job).await;
    let trainer = world.training(&job).await;
    let failure = world.until_failed(&job).await;
    assert_eq!(failure.cause, Cause::Infrastructure);
    assert!(failure.checkpointed, "the next attempt goes on from there");
    for told in ["hung: for 4 s", "hanging in epoch 120", &format!("thread {trainer}: fake-trainer, state S")]
    {
        assert!(failure.message.contains(told), "no {told:?} in {}", failure.message);
    }
    until_gone(trainer, Duration::from_secs(1)).await;
    let free = world.beat("nothing running", |beat| beat.running.is_empty()).await;
    assert!(free.devices.iter().all(|device| device.reserved_mib == Mib(0)));
}
