//! Lost slots, dead trainers, dead agents, a restarted bus.

use crate::world::{LEASE, World, offer, signal, until_gone};
use common::registry::attempt_prefix;
use common::slot::{Cause, SlotState};
use common::units::Mib;
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

fn endless() -> serde_json::Value {
    json!({ "epochs": 100_000, "epoch_ms": 100 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_trainer_is_killed_and_its_memory_is_free() {
    let world = World::start().await;
    let job = offer(&world, "job", 1, endless());
    world.offer(&job).await;
    let trainer = world.training(&job).await;
    world.write_slot(&job, SlotState::Closed { because: "cancelled".into() }).await;
    // Seen at the next renewal, a third of the lease; then at most 5 s.
    until_gone(trainer, LEASE / 3 + Duration::from_secs(5)).await;
    let free = world.beat("nothing running", |b| b.running.is_empty()).await;
    assert!(free.devices.iter().all(|d| d.reserved_mib == Mib(0)));
    let slot = world.slot(&job.key).await.unwrap();
    assert!(matches!(slot.state, SlotState::Closed { .. }), "a fenced agent writes nothing");
    let manifest = format!("{}/manifest.json", attempt_prefix(&job.key, job.attempt));
    assert_eq!(world.store.head(&manifest).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_trainer_is_a_failure_of_the_infrastructure() {
    let world = World::start().await;
    let job = offer(&world, "job", 1, endless());
    world.offer(&job).await;
    signal(world.training(&job).await, Signal::SIGKILL);
    let failure = world.until_failed(&job).await;
    assert_eq!(failure.cause, Cause::Infrastructure);
    assert!(failure.message.contains("signal 9") && failure.checkpointed, "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scripted_end_is_told_with_its_cause() {
    let world = World::start().await;
    let ends = [
        (json!({ "nan_at_epoch": 2 }), Cause::Diverged, "loss is NaN in epoch 2"),
        (json!({ "user_error": true }), Cause::UserError, "wrong captures"),
        (json!({ "exit0_without_output": true }), Cause::Infrastructure, "exit 0 without output"),
        (json!({ "done_without_output": true }), Cause::Infrastructure, "missing best_teacher_model_d.pth"),
        (json!({ "garbage_frame": true, "hang_at_epoch": 1 }), Cause::Infrastructure, "no frame"),
        (json!({ "crash_signal": 11 }), Cause::Infrastructure, "raising signal 11"),
    ];
    for (at, (fault, cause, message)) in ends.into_iter().enumerate() {
        let job = offer(&world, &format!("job {at}"), 1, json!({ "fault": fault }));
        world.offer(&job).await;
        let failure = world.until_failed(&job).await;
        assert_eq!(failure.cause, cause, "{failure:?}");
        assert!(failure.message.contains(message), "{failure:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_captures_are_told_with_the_folder() {
    let world = World::start().await;
    let mut job = offer(&world, "job", 1, json!({}));
    job.data_url = "/nonexistent".into();
    world.offer(&job).await;
    let failure = world.until_failed(&job).await;
    // Of this node: another one may have them.
    assert_eq!(failure.cause, Cause::Infrastructure);
    assert!(failure.message.contains("/nonexistent/d"), "{failure:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_children_die_with_it_and_the_next_life_says_so() {
    let mut world = World::start().await;
    let job = offer(&world, "job", 1, endless());
    world.offer(&job).await;
    let trainer = world.training(&job).await;
    world.stop_agent();
    until_gone(trainer, Duration::from_secs(5)).await;
    assert!(matches!(world.slot(&job.key).await.unwrap().state, SlotState::Held { .. }));
    world.start_agent();
    let started = Instant::now();
    let failure = world.until_failed(&job).await;
    assert_eq!((failure.cause, failure.message.as_str()), (Cause::Infrastructure, "agent restarted"));
    assert!(started.elapsed() < LEASE, "nobody waits for the lease");
}

#[tokio::test(flavor = "multi_thread")]
async fn training_goes_on_while_the_bus_is_restarted() {
    let mut world = World::start().await;
    let job = offer(&world, "job", 1, json!({ "epochs": 40, "epoch_ms": 200 }));
    world.offer(&job).await;
    world.training(&job).await;
    signal(world.server.pid(), Signal::SIGKILL);
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.server.restart().await.unwrap();
    let manifest = world.until_finished(&job).await;
    assert_eq!(manifest.attempt.0, 1, "the same attempt");
    let next = offer(&world, "next", 1, json!({}));
    world.offer(&next).await;
    world.until_finished(&next).await;
}
