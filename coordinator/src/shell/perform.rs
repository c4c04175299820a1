//! The one interpreter of effects: performs one, and gives back the facts that came of it.

use super::audit::{self, tell};
use super::client::{At, Client, ClientError, Written};
use super::kept::{self, Known};
use artifacts::{ArtifactError, Store, VerifyError};
use bus::Headers;
use common::chain::ChainRecord;
use common::digest::Digest;
use common::ids::{ChainId, NodeId, PlanId, Revision};
use common::job_key::JobKey;
use common::manifest::Manifest;
use common::messages::JobOffer;
use common::node::{DecidedBy, NodeRecord, NodeStanding};
use common::registry::RegistryEntry;
use common::slot::{Slot, SlotState};
use common::units::Millis;
use coordinator_core::state::Verified;
use coordinator_core::{Effect, Event, Note};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use tracing::Instrument;

/// What effects are performed with.
#[derive(Clone)]
pub(super) struct Tools {
    pub client: Client,
    pub store: Store,
    /// Clock of the loop.
    pub started: Instant,
    pub kept_plans: Arc<Mutex<KeptPlans>>,
}

/// Plans that this process has put into the store. Locked while it does so: the chains of a plan are made side by
/// side, and one of them keeps it for all.
#[derive(Default)]
pub(super) struct KeptPlans {
    plans: BTreeSet<PlanId>,
    refused_at: Option<Instant>,
}

/// For so long after a failed try nobody else tries.
const KEEP_PAUSE: Duration = Duration::from_secs(1);

impl Tools {
    pub fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as u64)
    }
}

/// Facts that came of an effect. Never fails: what could not be done is told and stays due.
pub(super) async fn perform(tools: &Tools, effect: Effect) -> Vec<Event> {
    let what = effect.key();
    match try_perform(tools, effect).await {
        Ok(facts) => facts,
        Err(e) => {
            tracing::warn!(effect = ?what, error = %e, "not done, will be tried again");
            Vec::new()
        }
    }
}

async fn try_perform(tools: &Tools, effect: Effect) -> Result<Vec<Event>, ClientError> {
    let client = &tools.client;
    match effect {
        Effect::CreateChain { record } => create_chain(tools, record).await,
        Effect::WriteChain { record, expected, guard, notes } => {
            write_chain(tools, record, expected, guard, notes).await
        }
        Effect::WriteSlot { key, slot, expected, notes } => {
            if let Some(facts) = known_of_offer(tools, key, &slot).await {
                return Ok(facts);
            }
            match client.write_slot(&key, &slot, expected).await? {
                Written::Yes(revision) => {
                    tell(client, &notes, revision).await;
                    Ok(vec![Event::SlotSeen { key, slot, revision }])
                }
                Written::Lost => Ok(slot_event(key, client.slot(&key).await?)),
            }
        }
        Effect::PublishOffer { offer } => publish_offer(client, *offer).await,
        Effect::Verify { job, key, attempt, manifest, traceparent } => {
            let span = tracing::info_span!("verify", coord.job = %job.name, coord.attempt = attempt.0);
            telemetry::set_parent(&span, traceparent.as_deref());
            let prefix = common::registry::attempt_prefix(&key, attempt);
            let found = verify(tools.store.clone(), prefix, manifest).instrument(span).await;
            let outcome = match found {
                Ok(_) => Verified::Whole,
                // A store that answers "no" (a rotated key, a full table of files) says nothing about the
                // result: only what was looked at and found wanting is broken.
                Err(e @ (VerifyError::Unavailable(_) | VerifyError::Store(_))) => {
                    tracing::warn!(job = %job.name, error = %e, "result not verified yet");
                    Verified::Unavailable { at: tools.now(), message: e.to_string() }
                }
                Err(e) => Verified::Broken(e.to_string()),
            };
            Ok(vec![Event::Verified { key, attempt, outcome }])
        }
        Effect::Quarantine { node, reason, expected } => quarantine(client, node, reason, expected).await,
        Effect::Publish { entry, expected } => publish(tools, entry, expected).await,
    }
}

/// The plan is kept before its first chain is made.
async fn create_chain(tools: &Tools, record: ChainRecord) -> Result<Vec<Event>, ClientError> {
    let client = &tools.client;
    if !keep_plan(tools, &record.id.plan).await? {
        return Ok(Vec::new());
    }
    match client.write_chain(&record, None).await? {
        Written::Yes(revision) => Ok(vec![chain_seen(record, revision)]),
        Written::Lost => reread_chain(client, &record.id).await,
    }
}

/// False while the store does not take it.
async fn keep_plan(tools: &Tools, id: &PlanId) -> Result<bool, ClientError> {
    let mut kept = tools.kept_plans.lock().await;
    if kept.plans.contains(id) {
        return Ok(true);
    }
    if kept.refused_at.is_some_and(|at| at.elapsed() < KEEP_PAUSE) {
        return Ok(false);
    }
    // A plan that was removed by hand is asked for by nobody else either.
    let Some(plan) = tools.client.plan(id).await? else { return Ok(true) };
    if let Err(e) = kept::put_plan(&tools.store, &plan).await {
        tracing::warn!(error = %e, plan = %id, "plan not kept in the store yet");
        kept.refused_at = Some(Instant::now());
        return Ok(false);
    }
    kept.plans.insert(id.clone());
    Ok(true)
}

/// Before each offer the store is asked what it knows of the job: where the bus has lost records, a result that
/// was committed is found again, and no number of an attempt is given twice. `Some`: not to be offered now.
async fn known_of_offer(tools: &Tools, key: JobKey, slot: &Slot) -> Option<Vec<Event>> {
    if !matches!(slot.state, SlotState::Offered { .. }) {
        return None;
    }
    match kept::look(&tools.store, key).await {
        Ok(Known::Nothing) => None,
        Ok(Known::Used(newest)) if newest < slot.attempt => None,
        Ok(Known::Used(attempt)) => Some(vec![Event::AttemptUsed { key, attempt }]),
        Ok(Known::Committed(committed)) => {
            match verify(tools.store.clone(), committed.prefix(), committed.manifest).await {
                Ok(_) => Some(vec![Event::ResultFound { committed }]),
                Err(e @ (VerifyError::Unavailable(_) | VerifyError::Store(_))) => not_asked(&e),
                // A damaged result is made again, under a number of its own.
                Err(_) if committed.attempt < slot.attempt => None,
                Err(_) => Some(vec![Event::AttemptUsed { key, attempt: committed.attempt }]),
            }
        }
        Err(e) => not_asked(&e),
    }
}

fn not_asked(error: &dyn std::fmt::Display) -> Option<Vec<Event>> {
    tracing::warn!(%error, "not offered: the store does not say which attempts there were");
    Some(Vec::new())
}

/// The marker first: the pointer in the registry is what shows that both are there.
async fn publish(
    tools: &Tools,
    entry: Box<RegistryEntry>,
    expected: Option<Revision>,
) -> Result<Vec<Event>, ClientError> {
    let client = &tools.client;
    if let Err(e) = kept::put_marker(&tools.store, &entry.committed).await {
        tracing::warn!(error = %e, job = %entry.name, "committed marker not written yet");
        return Ok(Vec::new());
    }
    match client.write_registry(&entry, expected).await? {
        Written::Yes(revision) => Ok(vec![Event::RegistrySeen { entry, revision }]),
        Written::Lost => Ok(client
            .registry_entry(&entry.name)
            .await?
            .map(|at| Event::RegistrySeen { entry: Box::new(at.value), revision: at.revision })
            .into_iter()
            .collect()),
    }
}

async fn quarantine(
    client: &Client,
    node: NodeId,
    reason: String,
    expected: Option<Revision>,
) -> Result<Vec<Event>, ClientError> {
    let (standing, by) = (NodeStanding::Quarantined, DecidedBy::Coordinator);
    let record = NodeRecord { node, standing, reason, by, since: audit::now() };
    match client.write_node(&record, expected).await? {
        Written::Yes(revision) => {
            audit::tell_decision(client, &record, revision).await;
            Ok(vec![Event::NodeDecided { record: Box::new(record), revision }])
        }
        Written::Lost => {
            let known = client.node(&record.node).await?;
            let seen =
                known.map(|at| Event::NodeDecided { record: Box::new(at.value), revision: at.revision });
            Ok(seen.into_iter().collect())
        }
    }
}

/// On a thread of its own: the compiler can not see that the stream inside `verify_run` may move between
/// threads, so a spawned task may not hold it.
async fn verify(store: Store, prefix: String, manifest: Digest) -> Result<Manifest, VerifyError> {
    let runtime = tokio::runtime::Handle::current();
    let look = move || runtime.block_on(artifacts::run::verify_run(&store, &prefix, &manifest));
    match tokio::task::spawn_blocking(look).await {
        Ok(found) => found,
        // A panic, or the runtime is ending: nothing is known about the result.
        Err(e) => Err(VerifyError::Unavailable(ArtifactError::Store {
            at: "verification".to_owned(),
            cause: e.to_string(),
        })),
    }
}

async fn write_chain(
    tools: &Tools,
    record: ChainRecord,
    expected: Revision,
    guard: Option<(JobKey, Revision)>,
    notes: Vec<Note>,
) -> Result<Vec<Event>, ClientError> {
    let client = &tools.client;
    if let Some((key, seen)) = guard {
        let now = client.slot(&key).await?;
        if now.as_ref().map(|at| at.revision) != Some(seen) {
            // The slot moved on since: the decision rests on old news.
            return Ok(slot_event(key, now));
        }
    }
    let kind = notes.first().map_or("settle", |n| n.kind.as_str());
    let span = tracing::info_span!("chain.write", coord.plan = %record.id.plan, coord.dataset = %record.id.dataset, coord.change = kind);
    telemetry::set_parent(&span, record.traceparent.as_deref());
    match client.write_chain(&record, Some(expected)).instrument(span).await? {
        Written::Yes(revision) => {
            tell(client, &notes, revision).await;
            if record.is_finished() {
                kept::put_over(&tools.store, &record).await;
            }
            Ok(vec![chain_seen(record, revision)])
        }
        Written::Lost => reread_chain(client, &record.id).await,
    }
}

async fn publish_offer(client: &Client, mut offer: JobOffer) -> Result<Vec<Event>, ClientError> {
    let span = tracing::info_span!(
        "send coord.jobs",
        otel.kind = "producer",
        messaging.system = "nats",
        messaging.message.id = offer.message_id(),
        coord.plan = %offer.job.plan,
        coord.dataset = %offer.job.name.dataset,
        coord.phase = %offer.job.name.phase,
        coord.attempt = offer.attempt.0,
    );
    telemetry::set_parent(&span, offer.traceparent.as_deref());
    async {
        let mut headers = BTreeMap::new();
        telemetry::inject(&mut headers);
        if let Some(own) = headers.get("traceparent") {
            offer.traceparent = Some(own.clone());
        }
        client.publish_offer(&offer, Headers::from_iter(headers)).await
    }
    .instrument(span)
    .await?;
    let (key, attempt, offer) = (offer.key, offer.attempt, offer.offer);
    Ok(vec![Event::OfferPublished { key, attempt, offer }])
}

fn chain_seen(record: ChainRecord, revision: Revision) -> Event {
    Event::ChainSeen { record: Box::new(record), revision }
}

async fn reread_chain(client: &Client, id: &ChainId) -> Result<Vec<Event>, ClientError> {
    Ok(match client.chain(id).await? {
        Some(at) => vec![chain_seen(at.value, at.revision)],
        None => vec![Event::ChainGone { id: id.clone() }],
    })
}

fn slot_event(key: JobKey, read: Option<At<Slot>>) -> Vec<Event> {
    match read {
        Some(at) => vec![Event::SlotSeen { key, slot: at.value, revision: at.revision }],
        // Deleted at a revision nobody told: newer than whatever we saw.
        None => vec![Event::SlotGone { key, revision: Revision(u64::MAX) }],
    }
}
