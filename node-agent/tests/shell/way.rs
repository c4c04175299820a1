//! From the offer to a verified result.

use crate::world::{World, is_gone, offer, signal};
use common::ids::{Attempt, DeviceId, Phase};
use common::registry::{CommittedRef, attempt_prefix};
use common::slot::{Cause, SlotState};
use common::units::Mib;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_ends_in_a_verified_result_and_leaves_nothing_behind() {
    let world = World::start().await;
    let job = offer(&world, "job", 1, json!({ "epochs": 4 }));
    world.offer(&job).await;
    let manifest = world.until_finished(&job).await;
    let names: Vec<&str> = manifest.files.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["best_teacher_model_d.pth", "metrics.json"]);
    assert_eq!((manifest.attempt, manifest.made.node.as_str()), (Attempt(1), "n1"));
    assert!(manifest.metrics.contains_key("fake.test.f1"));

    let free = world.beat("nothing reserved", |b| b.running.is_empty() && b.seq > 1).await;
    assert!(free.devices.iter().all(|d| d.reserved_mib == Mib(0)));
    let log = world.path("work/process_logs/p1/d.teacher.a1.log");
    assert!(std::fs::read_to_string(log).unwrap().contains("fake-trainer: d/teacher a1"));
    let scratch = std::fs::read_dir(world.path("work/scratch")).unwrap().count();
    assert_eq!(scratch, 0, "scratch is deleted with the attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parents_result_reaches_its_child_verified() {
    let world = World::start().await;
    let parent = offer(&world, "parent", 1, json!({}));
    world.offer(&parent).await;
    world.until_finished(&parent).await;
    let Some(SlotState::Finished { manifest, .. }) = world.slot(&parent.key).await.map(|s| s.state) else {
        panic!("it was finished");
    };
    let committed = CommittedRef { key: parent.key, attempt: parent.attempt, manifest };
    let mut child = offer(&world, "child", 1, json!({}));
    child.parents.insert(Phase::Teacher, committed.clone());
    world.offer(&child).await;
    let with_parent = world.until_finished(&child).await;
    let mut orphan = offer(&world, "orphan", 1, json!({}));
    world.offer(&orphan).await;
    assert_ne!(with_parent.files[0].sha256, world.until_finished(&orphan).await.files[0].sha256);

    // A parent whose file was changed behind our back is not built on.
    orphan = offer(&world, "other child", 1, json!({}));
    orphan.parents.insert(Phase::Teacher, committed);
    std::fs::remove_dir_all(world.path("work/cache/objects")).unwrap();
    world.store.put(&format!("{}/metrics.json", parent_prefix(&parent)), "forged").await.unwrap();
    world.offer(&orphan).await;
    let failure = world.until_failed(&orphan).await;
    assert_eq!(failure.cause, Cause::Infrastructure);
    assert!(failure.message.contains("damaged"), "{}", failure.message);
}

fn parent_prefix(parent: &common::messages::JobOffer) -> String {
    attempt_prefix(&parent.key, parent.attempt)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_attempt_resumes_and_ends_in_the_same_bytes() {
    let world = World::start().await;
    let script = json!({ "epochs": 5, "faults": { "1": { "oom_at_epoch": 4 } } });
    let first = offer(&world, "job", 1, script.clone());
    world.offer(&first).await;
    let failure = world.until_failed(&first).await;
    assert_eq!(failure.cause, Cause::OutOfMemory);
    assert!(failure.checkpointed && failure.message.contains("CUDA out of memory"), "{}", failure.message);

    let second = offer(&world, "job", 2, script.clone());
    world.offer(&second).await;
    let resumed = world.until_finished(&second).await;
    let log = std::fs::read_to_string(world.path("agent.log")).unwrap();
    // The same semantic configuration in one go: attempt 2 of another key has no fault and no checkpoint.
    let whole = offer(&world, "whole", 2, script);
    world.offer(&whole).await;
    assert_eq!(world.until_finished(&whole).await.files, resumed.files, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cards_of_a_script_are_told_reserved_and_refused() {
    let mut world = World::without_agent().await;
    let script = world.path("gpus.json");
    let card = |id: &str, used: u64| {
        json!({ "id": id, "kind": "gpu", "model": "NVIDIA GeForce RTX 4090", "total_mib": 24_564, "used_mib": used,
                "processes": [{ "pid": 42, "used_mib": used }] })
    };
    std::fs::write(&script, json!({ "devices": [card("GPU-a", 20_000), card("GPU-b", 0)] }).to_string())
        .unwrap();
    let mut command = world.command();
    command.env("COORD_SCRIPTED_GPUS", &script);
    world.start_command(command);
    let beat = world.beat("three devices", |b| b.devices.len() == 3).await;
    let full = beat.devices.iter().find(|d| d.id.as_str() == "GPU-a").unwrap();
    assert_eq!((full.foreign_mib, full.budget_mib), (Some(Mib(20_000)), Mib(22_107)));

    let mut job = offer(&world, "job", 1, json!({ "epochs": 1 }));
    job.place.device = DeviceId::new("GPU-a").unwrap();
    job.place.reserve_mib = Mib(8_192);
    world.offer(&job).await;
    let declined = world.until(&job.key, "declined", |s| matches!(s, SlotState::Declined { .. })).await;
    let SlotState::Declined { reason, .. } = declined else { panic!("just seen") };
    assert!(reason.contains("pid 42"), "{reason}");

    job.place.device = DeviceId::new("GPU-b").unwrap();
    job.offer = 2;
    world.offer(&job).await;
    world.until_finished(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_saves_a_checkpoint_and_gives_the_slot_back() {
    let mut world = World::start().await;
    let script = json!({ "epochs": 6, "epoch_ms": 300 });
    let job = offer(&world, "job", 1, script.clone());
    world.offer(&job).await;
    let trainer = world.training(&job).await;
    let agent = world.agent().id();
    signal(agent, nix::sys::signal::Signal::SIGTERM);
    let failure = world.until_failed(&job).await;
    assert_eq!((failure.cause, failure.message.as_str()), (Cause::Preemption, "agent stopping"));
    assert!(failure.checkpointed && is_gone(trainer));
    assert_eq!(world.agent().wait().unwrap().code(), Some(0));

    world.start_agent();
    let (second, whole) = (offer(&world, "job", 2, script.clone()), offer(&world, "whole", 1, script));
    world.offer(&second).await;
    let resumed = world.until_finished(&second).await;
    world.offer(&whole).await;
    assert_eq!(world.until_finished(&whole).await.files, resumed.files);
}
