//! Typed access to what the buckets hold. Everything that reads or writes records goes through here.

use bus::{BusError, Headers, SharedBus, SharedKv};
use bytes::Bytes;
use common::chain::ChainRecord;
use common::ids::{BadName, ChainId, NodeId, Revision};
use common::job_key::JobKey;
use common::messages::{Event, JobOffer, NodeBeat};
use common::plan::Plan;
use common::registry::{RegistryEntry, registry_key};
use common::slot::Slot;
use common::subjects;
use common::wire::{self, WireError};
use coordinator_core::planner::Base;
use futures::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("bucket {bucket}, key {key}: {source}")]
    Record { bucket: String, key: String, source: WireError },
    #[error("record can not be written: {0}")]
    Encode(#[from] WireError),
    #[error(transparent)]
    Name(#[from] BadName),
}

/// A record with the revision it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct At<T> {
    pub value: T,
    pub revision: Revision,
}

/// What came of a write that may lose a race.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    Yes(Revision),
    /// Somebody else was first: read again, think again.
    Lost,
}

/// A cheap handle.
#[derive(Clone)]
pub struct Client {
    pub bus: SharedBus,
    plans: SharedKv,
    chains: SharedKv,
    slots: SharedKv,
    registry: SharedKv,
}

impl Client {
    pub fn new(bus: SharedBus) -> Client {
        Client {
            plans: bus.kv(subjects::BUCKET_PLANS),
            chains: bus.kv(subjects::BUCKET_CHAINS),
            slots: bus.kv(subjects::BUCKET_SLOTS),
            registry: bus.kv(subjects::BUCKET_REGISTRY),
            bus,
        }
    }

    pub(crate) fn bucket(&self, which: Bucket) -> &SharedKv {
        match which {
            Bucket::Plans => &self.plans,
            Bucket::Chains => &self.chains,
            Bucket::Slots => &self.slots,
            Bucket::Registry => &self.registry,
        }
    }

    /// Every plan ever applied, by id.
    pub async fn plans(&self) -> Result<Vec<Plan>, ClientError> {
        Ok(list::<Plan>(&self.plans).await?.into_values().map(|at| at.value).collect())
    }

    /// Writes the plan; `Lost` when this very plan was applied before (ids are made of the content).
    pub async fn create_plan(&self, plan: &Plan) -> Result<Written, ClientError> {
        create(&self.plans, plan.id.as_str(), plan).await
    }

    pub async fn chains(&self) -> Result<BTreeMap<ChainId, At<ChainRecord>>, ClientError> {
        let all = list::<ChainRecord>(&self.chains).await?;
        Ok(all.into_values().map(|at| (at.value.id.clone(), at)).collect())
    }

    pub async fn chain(&self, id: &ChainId) -> Result<Option<At<ChainRecord>>, ClientError> {
        get(&self.chains, &id.to_key()).await
    }

    pub async fn create_chain(&self, record: &ChainRecord) -> Result<Written, ClientError> {
        create(&self.chains, &record.id.to_key(), record).await
    }

    pub async fn update_chain(
        &self,
        record: &ChainRecord,
        expected: Revision,
    ) -> Result<Written, ClientError> {
        update(&self.chains, &record.id.to_key(), record, expected).await
    }

    pub async fn slots(&self) -> Result<BTreeMap<JobKey, At<Slot>>, ClientError> {
        let all = list::<Slot>(&self.slots).await?;
        Ok(all.into_iter().filter_map(|(key, at)| Some((parse_job_key(&key)?, at))).collect())
    }

    pub async fn slot(&self, key: &JobKey) -> Result<Option<At<Slot>>, ClientError> {
        get(&self.slots, &key.to_string()).await
    }

    /// Creates (`None`) or replaces the slot.
    pub async fn write_slot(
        &self,
        key: &JobKey,
        slot: &Slot,
        expected: Option<Revision>,
    ) -> Result<Written, ClientError> {
        match expected {
            None => create(&self.slots, &key.to_string(), slot).await,
            Some(expected) => update(&self.slots, &key.to_string(), slot, expected).await,
        }
    }

    pub async fn registry(&self) -> Result<Vec<At<RegistryEntry>>, ClientError> {
        Ok(list::<RegistryEntry>(&self.registry).await?.into_values().collect())
    }

    pub async fn registry_entry(
        &self,
        name: &common::ids::JobName,
    ) -> Result<Option<At<RegistryEntry>>, ClientError> {
        get(&self.registry, &registry_key(name)).await
    }

    pub async fn write_registry(
        &self,
        entry: &RegistryEntry,
        expected: Option<Revision>,
    ) -> Result<Written, ClientError> {
        let key = registry_key(&entry.name);
        match expected {
            None => create(&self.registry, &key, entry).await,
            Some(expected) => update(&self.registry, &key, entry, expected).await,
        }
    }

    /// What a plan is computed against.
    pub async fn base(&self) -> Result<Base, ClientError> {
        let mut base = Base::default();
        for at in self.registry().await? {
            base.committed.insert(at.value.committed.key, at.value.committed.clone());
            base.registry.insert(at.value.name.clone(), at.value);
        }
        let chains = self.chains().await?;
        for (id, at) in &chains {
            for job in at.value.jobs.values() {
                if let (Some(key), Some(result)) = (job.key(), job.state.result())
                    && result.key == key
                {
                    base.committed.insert(key, result.clone());
                }
            }
            if !at.value.is_finished() {
                base.running.insert(id.dataset.clone(), id.plan.clone());
            }
        }
        // Applied, and its chains not made yet: that plan runs all the same.
        for plan in self.plans().await? {
            for (dataset, jobs) in plan.by_dataset() {
                let id = ChainId { plan: plan.id.clone(), dataset: dataset.clone() };
                let runs = jobs.values().any(|j| matches!(j.decision, common::plan::Decision::Run { .. }));
                if runs && !chains.contains_key(&id) {
                    base.running.insert(dataset.clone(), plan.id.clone());
                }
            }
        }
        Ok(base)
    }

    /// The newest beat of each node that speaks within `wait`.
    pub async fn beats(&self, wait: Duration) -> Result<BTreeMap<NodeId, NodeBeat>, ClientError> {
        let mut heard = BTreeMap::new();
        let mut messages = self.bus.subscribe(subjects::BEATS_ALL).await?;
        let listen = async {
            while let Some(message) = messages.next().await {
                if let Ok(beat) = wire::decode::<NodeBeat>(&message.payload) {
                    heard.insert(beat.node.clone(), beat);
                }
            }
        };
        // The end of the time is how listening ends, not a failure.
        let _ = tokio::time::timeout(wait, listen).await;
        Ok(heard)
    }

    /// Says an offer to its node; saying it twice stores it once.
    pub async fn publish_offer(&self, offer: &JobOffer, headers: Headers) -> Result<(), ClientError> {
        let subject = subjects::jobs_of(&offer.place.node);
        let payload = Bytes::from(wire::encode(offer)?);
        self.bus.publish_durable(&subject, headers, payload, &offer.message_id()).await?;
        Ok(())
    }

    /// Adds to the audit stream; `id` makes a repeated telling harmless.
    pub async fn publish_event(&self, event: &Event, id: &str) -> Result<(), ClientError> {
        let Some(job) = &event.job else { return Ok(()) };
        let payload = Bytes::from(wire::encode(event)?);
        self.bus.publish_durable(&subjects::events_of(&job.plan), Headers::new(), payload, id).await?;
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bucket {
    Plans,
    Chains,
    Slots,
    Registry,
}

/// `None` for a key that is no digest: not written by us.
pub fn parse_job_key(key: &str) -> Option<JobKey> {
    key.parse().ok().map(JobKey)
}

fn decode<T: DeserializeOwned>(kv: &SharedKv, key: &str, entry: &bus::Entry) -> Result<At<T>, ClientError> {
    let value = wire::decode(&entry.value).map_err(|source| ClientError::Record {
        bucket: kv.bucket().to_owned(),
        key: key.to_owned(),
        source,
    })?;
    Ok(At { value, revision: Revision(entry.revision.0) })
}

async fn list<T: DeserializeOwned>(kv: &SharedKv) -> Result<BTreeMap<String, At<T>>, ClientError> {
    let entries = kv.list(None).await?;
    entries.into_iter().map(|(key, entry)| Ok((key.clone(), decode(kv, &key, &entry)?))).collect()
}

async fn get<T: DeserializeOwned>(kv: &SharedKv, key: &str) -> Result<Option<At<T>>, ClientError> {
    match kv.get(key).await? {
        Some(entry) => Ok(Some(decode(kv, key, &entry)?)),
        None => Ok(None),
    }
}

async fn create<T: Serialize>(kv: &SharedKv, key: &str, value: &T) -> Result<Written, ClientError> {
    let bytes = Bytes::from(wire::encode(value)?);
    settle(kv.create(key, bytes).await)
}

async fn update<T: Serialize>(
    kv: &SharedKv,
    key: &str,
    value: &T,
    expected: Revision,
) -> Result<Written, ClientError> {
    let bytes = Bytes::from(wire::encode(value)?);
    settle(kv.update(key, bytes, bus::Revision(expected.0)).await)
}

fn settle(result: Result<bus::Revision, BusError>) -> Result<Written, ClientError> {
    match result {
        Ok(revision) => Ok(Written::Yes(Revision(revision.0))),
        Err(e) if e.class() == bus::ErrorClass::Conflict => Ok(Written::Lost),
        Err(e) => Err(e.into()),
    }
}
