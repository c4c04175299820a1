//! What happened, as the bus tells it: every record of chains and slots while it is written, and the streams
//! of offers and audit events read at the end.

use bus::{Bus, ConsumerSpec, KvEvent, SharedBus, retry_transient};
use common::chain::ChainRecord;
use common::ids::ChainId;
use common::job_key::JobKey;
use common::messages::{Event, JobOffer};
use common::plan::Plan;
use common::slot::Slot;
use common::{subjects, wire};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Silence after which a stream counts as read to its end.
const QUIET: Duration = Duration::from_secs(2);
const BUS_LIMIT: Duration = Duration::from_secs(60);

/// Records in the order in which their bucket took them.
#[derive(Default)]
pub struct Seen {
    pub chains: Vec<(Instant, ChainRecord)>,
    pub slots: Vec<(Instant, JobKey, Slot)>,
}

pub struct History {
    bus: SharedBus,
    seen: Arc<Mutex<Seen>>,
}

/// Everything, at the end.
pub struct Told {
    pub seen: Seen,
    pub plans: Vec<Plan>,
    pub chains: BTreeMap<ChainId, ChainRecord>,
    pub offers: Vec<JobOffer>,
    pub events: Vec<Event>,
}

impl History {
    /// Begins to listen. A gap of the connection is told by the newest record of each key that changed.
    pub fn follow(runtime: &Runtime, bus: SharedBus) -> History {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        for bucket in [subjects::BUCKET_CHAINS, subjects::BUCKET_SLOTS] {
            let (bus, seen) = (bus.clone(), seen.clone());
            runtime.spawn(async move {
                let kv = bus.kv(bucket);
                let watch = retry_transient(BUS_LIMIT, || kv.watch(None)).await;
                let mut watch = watch.unwrap_or_else(|e| panic!("watch of {bucket}: {e}"));
                while let Some(event) = watch.next().await {
                    match event {
                        Ok(KvEvent::Put { key, entry }) => note(&seen, bucket, &key, &entry.value),
                        Ok(KvEvent::Delete { .. } | KvEvent::UpToDate) => {}
                        // The buckets were lost: whoever tests that listens anew.
                        Err(e) => return println!("chaos: watch of {bucket} ends: {e}"),
                    }
                }
            });
        }
        History { bus, seen }
    }

    pub fn read<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The chains as they are, read from the bucket; `None` while the bus is away.
    pub fn chains(&self, runtime: &Runtime) -> Option<BTreeMap<ChainId, ChainRecord>> {
        let records = self.records(runtime, subjects::BUCKET_CHAINS)?;
        Some(records.into_iter().map(|record: ChainRecord| (record.id.clone(), record)).collect())
    }

    /// Every plan that was applied; `None` while the bus is away.
    pub fn plans(&self, runtime: &Runtime) -> Option<Vec<Plan>> {
        self.records(runtime, subjects::BUCKET_PLANS)
    }

    fn records<T: DeserializeOwned>(&self, runtime: &Runtime, bucket: &str) -> Option<Vec<T>> {
        let listed = runtime.block_on(self.bus.kv(bucket).list(None)).ok()?;
        Some(listed.into_iter().map(|(_, entry)| decode(&entry.value)).collect())
    }

    pub fn end(self, runtime: &Runtime) -> Told {
        let chains = self.chains(runtime).expect("the bus is whole again");
        let plans = self.plans(runtime).expect("the bus is whole again");
        let offers = runtime.block_on(stored(self.bus.as_ref(), subjects::STREAM_JOBS));
        let events = runtime.block_on(stored(self.bus.as_ref(), subjects::STREAM_EVENTS));
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        Told { seen, plans, chains, offers, events }
    }
}

fn note(seen: &Mutex<Seen>, bucket: &str, key: &str, value: &[u8]) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let at = Instant::now();
    match bucket {
        subjects::BUCKET_CHAINS => seen.chains.push((at, decode(value))),
        _ => seen.slots.push((at, JobKey(key.parse().expect("a job key")), decode(value))),
    }
}

/// Every message of a stream, oldest first.
async fn stored<T: DeserializeOwned>(bus: &dyn Bus, stream: &str) -> Vec<T> {
    let consume = || bus.consume(ConsumerSpec::new(stream));
    let mut deliveries =
        retry_transient(BUS_LIMIT, consume).await.unwrap_or_else(|e| panic!("{stream}: {e}"));
    let mut read = Vec::new();
    while let Ok(Some(delivery)) = tokio::time::timeout(QUIET, deliveries.next()).await {
        let delivery = delivery.unwrap_or_else(|e| panic!("{stream}: {e}"));
        read.push(decode(&delivery.payload));
        // Lost, it comes again to nobody: this consumer ends with us.
        let _ = delivery.ack().await;
    }
    read
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> T {
    wire::decode(bytes).unwrap_or_else(|e| panic!("a record that nobody can read: {e}"))
}
