//! What the world tells: watches of the buckets and the beats, as events for the loop.

use super::client::{Bucket, Client, parse_job_key};
use bus::{BusError, Entry, KvEvent};
use common::ids::Revision;
use common::messages::NodeBeat;
use common::subjects;
use common::wire;
use coordinator_core::Event;
use futures::StreamExt;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// To the loop.
pub(crate) enum Fed {
    Fact(Event),
    /// One bucket was read to its end.
    UpToDate,
    /// A watch can not go on: the bucket was made anew, or the bus refuses us.
    Broken(BusError),
}

pub(crate) const BUCKETS: [Bucket; 5] =
    [Bucket::Plans, Bucket::Chains, Bucket::Slots, Bucket::Registry, Bucket::Nodes];

/// Watches one bucket until `stop`.
pub(crate) async fn watch(client: Client, which: Bucket, to: mpsc::Sender<Fed>, stop: CancellationToken) {
    let watched = async {
        let mut events = client.bucket(which).watch(None).await?;
        while let Some(event) = events.next().await {
            let fed = match event? {
                KvEvent::UpToDate => Some(Fed::UpToDate),
                KvEvent::Put { key, entry } => put(which, &key, &entry).map(Fed::Fact),
                KvEvent::Delete { key, revision } => gone(which, &key, Revision(revision.0)).map(Fed::Fact),
            };
            if let Some(fed) = fed
                && to.send(fed).await.is_err()
            {
                return Ok(());
            }
        }
        Ok::<(), BusError>(())
    };
    tokio::select! {
        () = stop.cancelled() => {}
        ended = watched => {
            let error = ended.err().unwrap_or(BusError::Disconnected {
                what: format!("watch of {which:?}"),
                detail: "the stream ended".into(),
            });
            // A closed channel means the loop is gone, and with it whoever wants to know.
            let _ = to.send(Fed::Broken(error)).await;
        }
    }
}

/// Beats of all nodes until `stop`. A beat that can not be taken at once is dropped: the next one says it
/// all again.
pub(crate) async fn beats(client: Client, to: mpsc::Sender<Fed>, stop: CancellationToken) {
    let mut messages = loop {
        match client.bus.subscribe(subjects::BEATS_ALL).await {
            Ok(messages) => break messages,
            Err(e) => tracing::warn!(error = %e, "can not listen to beats yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(std::time::Duration::from_secs(1)) => {}
        }
    };
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return,
            message = messages.next() => message,
        };
        let Some(message) = message else { return };
        match wire::decode::<NodeBeat>(&message.payload) {
            Ok(beat) => drop(to.try_send(Fed::Fact(Event::Beat { beat: Box::new(beat) }))),
            Err(e) => tracing::warn!(subject = message.subject, error = %e, "beat not understood"),
        }
    }
}

fn put(which: Bucket, key: &str, entry: &Entry) -> Option<Event> {
    let revision = Revision(entry.revision.0);
    match which {
        Bucket::Plans => read(which, key, entry).map(|plan| Event::PlanSeen { plan: Box::new(plan) }),
        Bucket::Chains => {
            read(which, key, entry).map(|record| Event::ChainSeen { record: Box::new(record), revision })
        }
        Bucket::Slots => {
            let slot = read(which, key, entry)?;
            Some(Event::SlotSeen { key: parse_job_key(key)?, slot, revision })
        }
        Bucket::Registry => {
            read(which, key, entry).map(|e| Event::RegistrySeen { entry: Box::new(e), revision })
        }
        Bucket::Nodes => {
            read(which, key, entry).map(|e| Event::NodeDecided { record: Box::new(e), revision })
        }
    }
}

fn gone(which: Bucket, key: &str, revision: Revision) -> Option<Event> {
    match which {
        // A plan is never deleted before its chains; without chains it means nothing.
        Bucket::Plans => None,
        // Never deleted: a node is opened by a record that says so.
        Bucket::Nodes => None,
        Bucket::Chains => {
            let (plan, dataset) = key.split_once('.')?;
            let id = common::ids::ChainId { plan: plan.parse().ok()?, dataset: dataset.parse().ok()? };
            Some(Event::ChainGone { id })
        }
        Bucket::Slots => Some(Event::SlotGone { key: parse_job_key(key)?, revision }),
        Bucket::Registry => {
            let (dataset, phase) = key.split_once('.')?;
            let name = common::ids::JobName::new(dataset.parse().ok()?, phase.parse().ok()?);
            Some(Event::RegistryGone { name })
        }
    }
}

/// A record that this build can not read is left alone and told, not guessed at.
fn read<T: DeserializeOwned>(which: Bucket, key: &str, entry: &Entry) -> Option<T> {
    match wire::decode(&entry.value) {
        Ok(value) => Some(value),
        Err(e) => {
            tracing::error!(bucket = ?which, key, error = %e, "record not understood, left alone");
            None
        }
    }
}
