//! Cards in trouble, cards that others use, cards that are not free yet, and what runs out of memory: all told in
//! the beat.

use crate::world::{LEASE, World, offer, until_gone};
use common::ids::DeviceId;
use common::job_key::shape_of;
use common::messages::{DeviceReport, JobOffer, NodeBeat};
use common::slot::{Cause, SlotState};
use common::units::Mib;
use serde_json::{Value, json};
use std::time::Duration;

/// Cards of a machine, changed while the agent runs.
fn show(world: &World, cards: &Value) {
    let (path, temp) = (world.path("gpus.json"), world.path("gpus.part"));
    std::fs::write(&temp, cards.to_string()).unwrap();
    std::fs::rename(temp, path).unwrap();
}

/// One card with these processes.
fn card(processes: &[(u32, u64)]) -> Value {
    let used: u64 = processes.iter().map(|(_, mib)| mib).sum();
    let listed: Vec<Value> =
        processes.iter().map(|(pid, mib)| json!({ "pid": pid, "used_mib": mib })).collect();
    json!({ "devices": [{ "id": "GPU-a", "kind": "gpu", "model": "NVIDIA RTX 3090", "total_mib": 24_576,
        "used_mib": used, "processes": listed }] })
}

async fn world_with(cards: &Value) -> World {
    let mut world = World::without_agent().await;
    show(&world, cards);
    let mut command = world.command();
    command.env("COORD_SCRIPTED_GPUS", world.path("gpus.json"));
    world.start_command(command);
    world
}

fn on_card(world: &World, name: &str, attempt: u32, script: Value) -> JobOffer {
    let mut job = offer(world, name, attempt, script);
    job.place.device = DeviceId::new("GPU-a").unwrap();
    job.place.reserve_mib = Mib(8_192);
    job
}

fn gpu(beat: &NodeBeat) -> &DeviceReport {
    beat.devices.iter().find(|device| device.id.as_str() == "GPU-a").expect("the card is always told")
}

async fn until_declined(world: &World, job: &JobOffer) -> String {
    let declined = |state: &SlotState| matches!(state, SlotState::Declined { .. });
    match world.until(&job.key, "declined", declined).await {
        SlotState::Declined { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_trainers_card_is_free_when_the_driver_shows_so() {
    let world = world_with(&card(&[])).await;
    let job = on_card(&world, "job", 1, json!({ "epochs": 100_000, "epoch_ms": 100 }));
    world.offer(&job).await;
    let trainer = world.training(&job).await;
    show(&world, &card(&[(trainer, 8_000), (4_242, 1_500)]));
    let beat = world.beat("the foreign process", |beat| !gpu(beat).foreign.is_empty()).await;
    let foreign: Vec<u32> = gpu(&beat).foreign.iter().map(|process| process.pid).collect();
    assert_eq!((foreign, gpu(&beat).foreign_mib), (vec![4_242], Some(Mib(1_500))));

    world.write_slot(&job, SlotState::Closed { because: "cancelled".into() }).await;
    // Seen at the next renewal, a third of the lease; then at most 5 s.
    until_gone(trainer, LEASE / 3 + Duration::from_secs(5)).await;
    let seq = world.beat("nothing running", |beat| beat.running.is_empty()).await.seq;
    // The driver shows the dead process a little longer: its memory is not given away.
    let shown = world.beat("a later look", |beat| beat.seq >= seq + 4).await;
    assert_eq!(gpu(&shown).reserved_mib, Mib(8_192));
    show(&world, &card(&[]));
    world.beat("a free card", |beat| gpu(beat).reserved_mib == Mib(0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_or_card_in_trouble_is_told_and_takes_nothing() {
    let world = world_with(&card(&[])).await;
    let told = |beat: &NodeBeat| beat.devices.iter().find(|d| d.id.as_str() == "GPU-a").cloned();
    // A driver that is in trouble from the start has no card to tell of.
    world.beat("the card", |beat| told(beat).is_some()).await;
    show(&world, &json!({ "error": "NVML: Driver/library version mismatch" }));
    let fault = |beat: &NodeBeat| told(beat).and_then(|card| card.fault);
    let beat = world.beat("a fault", |beat| fault(beat).is_some()).await;
    assert!(fault(&beat).unwrap().contains("version mismatch"));
    let mut job = on_card(&world, "job", 1, json!({ "epochs": 1 }));
    world.offer(&job).await;
    assert!(until_declined(&world, &job).await.contains("version mismatch"));
    show(&world, &card(&[]));
    world.beat("no fault", |beat| told(beat).is_some_and(|card| card.fault.is_none())).await;

    // A card that answers and on which nothing can be allocated: found by the first trainer.
    let broken = on_card(&world, "broken", 1, json!({ "fault": { "device_broken": true } }));
    world.offer(&broken).await;
    let failure = world.until_failed(&broken).await;
    assert_eq!(failure.cause, Cause::Infrastructure, "another device may do");
    let beat = world.beat("a fault", |beat| fault(beat).is_some()).await;
    assert!(fault(&beat).unwrap().contains("a first allocation failed: the script says: CUDA error 999"));
    job.offer = 2;
    world.offer(&job).await;
    assert!(until_declined(&world, &job).await.contains("a first allocation failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_out_of_memory_is_remembered_for_the_next_attempt_and_the_next_life() {
    let mut world = world_with(&card(&[])).await;
    let recovers = json!({ "epochs": 3, "fault": { "oom_at_epoch": 2, "oom_recovers": true } });
    let first = on_card(&world, "first", 1, recovers);
    world.offer(&first).await;
    let manifest = world.until_finished(&first).await;
    let used = |name: &str, manifest: &common::manifest::Manifest| manifest.made.tuning_used[name].clone();
    assert_eq!(used("micro_batch", &manifest), "4096", "as the card's profile says");
    assert_eq!(used("micro_batch_ceiling", &manifest), "32", "half of what ran out");
    let beat = world.beat("a ceiling", |beat| !beat.ceilings.is_empty()).await;
    let ceiling = &beat.ceilings[0];
    assert_eq!((ceiling.micro_batch, ceiling.device_model.as_str()), (32, "NVIDIA RTX 3090"));
    assert_eq!(ceiling.shape, shape_of(&first.spec.inputs.semantic));

    world.stop_agent();
    let mut command = world.command();
    command.env("COORD_SCRIPTED_GPUS", world.path("gpus.json"));
    world.start_command(command);
    let second = on_card(&world, "second", 1, json!({ "epochs": 1 }));
    world.offer(&second).await;
    let manifest = world.until_finished(&second).await;
    assert_eq!(used("micro_batch", &manifest), "32");
    // What others found out comes with the offer.
    let mut third = on_card(&world, "third", 1, json!({ "epochs": 1 }));
    third.micro_batch_max = Some(16);
    world.offer(&third).await;
    let manifest = world.until_finished(&third).await;
    assert_eq!(used("micro_batch", &manifest), "16");
    assert!(!manifest.made.tuning_used.contains_key("micro_batch_ceiling"), "nothing ran out this time");
}
