//! Typed access to what the bus holds. Everything that reads or writes records goes through here.

pub use super::records::{At, ClientError, Written};
use super::records::{Over, Patience, Records};
use bus::{Headers, SharedBus, SharedKv};
use bytes::Bytes;
use common::chain::ChainRecord;
use common::ids::{ChainId, JobName, NodeId, PlanId, Revision};
use common::job_key::JobKey;
use common::messages::{Event, JobOffer};
use common::node::NodeRecord;
use common::plan::Plan;
use common::registry::{RegistryEntry, registry_key};
use common::slot::Slot;
use common::subjects;
use common::wire;
use coordinator_core::planner::Base;
use std::collections::BTreeMap;
use std::time::Duration;

/// A command waits so long for a bus that restarts or elects a leader.
const COMMAND_PATIENCE: Patience = Patience(Duration::from_secs(30));

/// A cheap handle.
#[derive(Clone)]
pub struct Client {
    pub bus: SharedBus,
    pub patience: Patience,
    plans: Records<Plan>,
    chains: Records<ChainRecord>,
    slots: Records<Slot>,
    registry: Records<RegistryEntry>,
    nodes: Records<NodeRecord>,
}

impl Client {
    /// For the loop of a service, which decides again when something could not be done.
    pub fn new(bus: SharedBus) -> Client {
        Client::with_patience(bus, Patience::NONE)
    }

    /// For a command, which has one go: it rides out a restart of the bus.
    pub fn patient(bus: SharedBus) -> Client {
        Client::with_patience(bus, COMMAND_PATIENCE)
    }

    fn with_patience(bus: SharedBus, patience: Patience) -> Client {
        Client {
            plans: Records::new(bus.kv(subjects::BUCKET_PLANS), patience),
            chains: Records::new(bus.kv(subjects::BUCKET_CHAINS), patience),
            slots: Records::new(bus.kv(subjects::BUCKET_SLOTS), patience),
            registry: Records::new(bus.kv(subjects::BUCKET_REGISTRY), patience),
            nodes: Records::new(bus.kv(subjects::BUCKET_NODES), patience),
            bus,
            patience,
        }
    }

    pub(crate) fn bucket(&self, which: Bucket) -> &SharedKv {
        match which {
            Bucket::Plans => &self.plans.kv,
            Bucket::Chains => &self.chains.kv,
            Bucket::Slots => &self.slots.kv,
            Bucket::Registry => &self.registry.kv,
            Bucket::Nodes => &self.nodes.kv,
        }
    }

    /// When each bucket was made: others than before mean that the bus has lost its memory.
    pub async fn lives(&self) -> Result<BTreeMap<String, String>, ClientError> {
        let mut lives = BTreeMap::new();
        for bucket in [&self.plans.kv, &self.chains.kv, &self.slots.kv, &self.registry.kv] {
            let created = self.patience.with(|| bucket.created()).await?;
            lives.insert(bucket.bucket().to_owned(), created);
        }
        Ok(lives)
    }

    /// Every plan ever applied, by id.
    pub async fn plans(&self) -> Result<Vec<Plan>, ClientError> {
        Ok(self.plans.list().await?.into_values().map(|at| at.value).collect())
    }

    pub async fn plan(&self, id: &PlanId) -> Result<Option<Plan>, ClientError> {
        Ok(self.plans.get(id.as_str()).await?.map(|at| at.value))
    }

    /// Revision of the plan that was applied last.
    pub async fn newest_plan(&self) -> Result<Revision, ClientError> {
        self.plans.newest().await
    }

    /// Writes the plan, if no plan was applied after `newest`.
    pub async fn create_plan(&self, plan: &Plan, newest: Revision) -> Result<Written, ClientError> {
        self.plans.write(plan.id.as_str(), plan, Over::NothingSince(newest)).await
    }

    /// Writes a plan that was applied before, whatever was applied since.
    pub async fn restore_plan(&self, plan: &Plan) -> Result<Written, ClientError> {
        self.plans.write(plan.id.as_str(), plan, Over::Nothing).await
    }

    pub async fn chains(&self) -> Result<BTreeMap<ChainId, At<ChainRecord>>, ClientError> {
        let all = self.chains.list().await?;
        Ok(all.into_values().map(|at| (at.value.id.clone(), at)).collect())
    }

    pub async fn chain(&self, id: &ChainId) -> Result<Option<At<ChainRecord>>, ClientError> {
        self.chains.get(&id.to_key()).await
    }

    /// Creates (`None`) or replaces the chain.
    pub async fn write_chain(
        &self,
        record: &ChainRecord,
        expected: Option<Revision>,
    ) -> Result<Written, ClientError> {
        self.chains.write(&record.id.to_key(), record, expected.map_or(Over::Nothing, Over::Revision)).await
    }

    pub async fn slots(&self) -> Result<BTreeMap<JobKey, At<Slot>>, ClientError> {
        let all = self.slots.list().await?;
        Ok(all.into_iter().filter_map(|(key, at)| Some((parse_job_key(&key)?, at))).collect())
    }

    pub async fn slot(&self, key: &JobKey) -> Result<Option<At<Slot>>, ClientError> {
        self.slots.get(&key.to_string()).await
    }

    /// Creates (`None`) or replaces the slot.
    pub async fn write_slot(
        &self,
        key: &JobKey,
        slot: &Slot,
        expected: Option<Revision>,
    ) -> Result<Written, ClientError> {
        self.slots.write(&key.to_string(), slot, expected.map_or(Over::Nothing, Over::Revision)).await
    }

    pub async fn registry(&self) -> Result<Vec<At<RegistryEntry>>, ClientError> {
        Ok(self.registry.list().await?.into_values().collect())
    }

    pub async fn registry_entry(&self, name: &JobName) -> Result<Option<At<RegistryEntry>>, ClientError> {
        self.registry.get(&registry_key(name)).await
    }

    pub async fn write_registry(
        &self,
        entry: &RegistryEntry,
        expected: Option<Revision>,
    ) -> Result<Written, ClientError> {
        let over = expected.map_or(Over::Nothing, Over::Revision);
        self.registry.write(&registry_key(&entry.name), entry, over).await
    }

    /// What was decided about nodes, by node.
    pub async fn nodes(&self) -> Result<BTreeMap<NodeId, At<NodeRecord>>, ClientError> {
        Ok(self.nodes.list().await?.into_values().map(|at| (at.value.node.clone(), at)).collect())
    }

    pub async fn node(&self, node: &NodeId) -> Result<Option<At<NodeRecord>>, ClientError> {
        self.nodes.get(node.as_str()).await
    }

    /// Creates (`None`) or replaces the decision about a node.
    pub async fn write_node(
        &self,
        record: &NodeRecord,
        expected: Option<Revision>,
    ) -> Result<Written, ClientError> {
        self.nodes.write(record.node.as_str(), record, expected.map_or(Over::Nothing, Over::Revision)).await
    }

    /// What a plan is computed against.
    pub async fn base(&self) -> Result<Base, ClientError> {
        let mut base = Base::default();
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
        // Last: what comes into use while this is read belongs to a chain that was seen running above.
        for at in self.registry().await? {
            base.committed.insert(at.value.committed.key, at.value.committed.clone());
            base.registry.insert(at.value.name.clone(), at.value);
        }
        Ok(base)
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
        let payload = Bytes::from(wire::encode(event)?);
        let of_plan = event.job.as_ref().map(|job| subjects::events_of(&job.plan));
        let subject = of_plan.unwrap_or_else(|| subjects::EVENTS_NODES.to_owned());
        self.bus.publish_durable(&subject, Headers::new(), payload, id).await?;
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bucket {
    Plans,
    Chains,
    Slots,
    Registry,
    Nodes,
}

/// `None` for a key that is no digest: not written by us.
pub fn parse_job_key(key: &str) -> Option<JobKey> {
    key.parse().ok().map(JobKey)
}
