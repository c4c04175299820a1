//! What the bus alone takes for the writes that dispatching a job needs: its chain, the offer in its slot, the
//! message to the node, the slot held. Sequential for one job, as they rest on each other; many jobs at once.

use crate::site::{connect, start_server};
use bus::{BusLayout, Headers, SharedBus};
use bytes::Bytes;
use common::subjects::{BUCKET_CHAINS, BUCKET_SLOTS, SUBJECT_JOBS};
use futures::StreamExt;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// About what a record of ours takes.
const RECORD_BYTES: usize = 2048;

pub struct Raw {
    /// The four writes of one job, nobody else writing.
    pub alone: Vec<Duration>,
    /// Of all jobs at once.
    pub jobs_per_s: f64,
}

/// On a server of its own with the same settings.
pub fn measure(rounds: usize, jobs: usize) -> Raw {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = Runtime::new().expect("a runtime");
    let server = start_server(&runtime, folder.path());
    let bus = connect(&runtime, &server, "raw");
    let raw = runtime.block_on(async {
        bus.ensure(&BusLayout::default()).await.expect("buckets and streams");
        let mut alone = Vec::new();
        for i in 0..rounds {
            let begun = Instant::now();
            write_of_a_job(&bus, &format!("alone{i}")).await;
            alone.push(begun.elapsed());
        }
        let begun = Instant::now();
        let names: Vec<String> = (0..jobs).map(|i| format!("job{i}")).collect();
        let writes = names.iter().map(|name| write_of_a_job(&bus, name));
        futures::stream::iter(writes).buffer_unordered(jobs.max(1)).for_each(|()| async {}).await;
        Raw { alone, jobs_per_s: jobs as f64 / begun.elapsed().as_secs_f64() }
    });
    runtime.block_on(server.stop());
    raw
}

async fn write_of_a_job(bus: &SharedBus, name: &str) {
    let record = || Bytes::from(vec![7; RECORD_BYTES]);
    let (chains, slots) = (bus.kv(BUCKET_CHAINS), bus.kv(BUCKET_SLOTS));
    chains.create(name, record()).await.expect("a chain");
    let offered = slots.create(name, record()).await.expect("an offer");
    let subject = format!("{SUBJECT_JOBS}.{name}");
    bus.publish_durable(&subject, Headers::new(), record(), name).await.expect("a message");
    slots.update(name, record(), offered).await.expect("a lease");
}
