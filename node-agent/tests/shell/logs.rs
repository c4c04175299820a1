//! A trainer's lines: to the stream in order, over a restart of the bus and of the agent, then to the store.

use crate::world::{World, offer, signal};
use bus::{ConsumerSpec, SharedBus};
use common::logs::{LogPiece, archive_of, news_of};
use common::{subjects, wire};
use futures::StreamExt;
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

const ARCHIVE_MAX_BYTES: u64 = 1 << 20;

/// All pieces of the first attempt until the last one, put together as a reader does.
async fn read(bus: &SharedBus, job: &common::messages::JobOffer) -> String {
    let spec = ConsumerSpec::new(subjects::STREAM_LOGS).filter(subjects::logs_of(&job.key));
    let mut pieces = bus.consume(spec).await.unwrap();
    let (mut text, mut read) = (String::new(), 0);
    let whole = async {
        loop {
            let delivery = pieces.next().await.unwrap().unwrap();
            delivery.ack().await.unwrap();
            let piece: LogPiece = wire::decode(&delivery.payload).unwrap();
            if let Some(news) = news_of(&piece, read) {
                text += news.unwrap_or_else(|gap| panic!("{gap} bytes before {} are missing", piece.offset));
                read = piece.end();
            }
            if piece.last {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), whole).await.expect("a last piece");
    text
}

async fn archived(world: &World, job: &common::messages::JobOffer) -> String {
    let (key, end) = (archive_of(&job.key, job.attempt), Instant::now() + Duration::from_secs(30));
    loop {
        if let Ok(bytes) = world.store.get(&key, ARCHIVE_MAX_BYTES).await {
            return String::from_utf8(bytes.to_vec()).unwrap();
        }
        assert!(Instant::now() < end, "no archive\n{}", world.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn epochs(log: &str) -> Vec<&str> {
    log.lines().filter_map(|line| line.strip_prefix("fake-trainer: epoch ")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_outlive_a_restart_of_the_bus_and_the_archive_holds_the_same() {
    let mut world = World::start().await;
    let job = offer(&world, "job", 1, json!({ "epochs": 30, "epoch_ms": 150 }));
    world.offer(&job).await;
    world.training(&job).await;
    signal(world.server.pid(), Signal::SIGKILL);
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.server.restart().await.unwrap();
    world.until_finished(&job).await;
    let lines = read(&world.bus, &job).await;
    let expected: Vec<String> = (1..=30).map(|n| format!("{n} of 30")).collect();
    assert_eq!(epochs(&lines), expected);
    assert_eq!(archived(&world, &job).await, lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_killed_agent_is_sent_by_its_next_life() {
    let mut world = World::start().await;
    let job = offer(&world, "job", 1, json!({ "epochs": 100_000, "epoch_ms": 50 }));
    world.offer(&job).await;
    world.training(&job).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.stop_agent();
    world.start_agent();
    world.until_failed(&job).await;
    let lines = read(&world.bus, &job).await;
    let told = epochs(&lines);
    assert!(told.len() > 10, "{lines}");
    for (at, line) in told.iter().enumerate() {
        assert_eq!(*line, format!("{} of 100000", at + 1), "in order, none missing");
    }
    assert_eq!(archived(&world, &job).await, lines);
    let (notes, end) = (world.path("work/log_notes"), Instant::now() + Duration::from_secs(10));
    while std::fs::read_dir(&notes).unwrap().count() > 0 {
        assert!(Instant::now() < end, "something is left to be done");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
