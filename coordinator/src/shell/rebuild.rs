//! Makes the buckets anew from the object store: by hand (`coord rebuild`), and by itself when the buckets
//! behind the address are not those that were there before.

use super::client::{Client, ClientError, Written};
use super::kept::{self, Record};
use artifacts::{ArtifactError, Store, VerifyError};
use common::manifest::Manifest;
use common::registry::CommittedRef;
use common::wire;
use coordinator_core::rebuild::{Draft, Found, draft};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;

/// Objects read at once.
const AT_ONCE: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error(transparent)]
    Store(#[from] ArtifactError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("reading the store ended abnormally")]
    Aborted,
}

/// What the store gives, and what of it can not be used.
pub struct Looked {
    pub draft: Draft,
    pub unusable: Vec<String>,
}

/// Records that were written, and those that were left because something was there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub written: usize,
    pub there: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    pub registry: Count,
    pub chains: Count,
    pub plans: Count,
}

/// Reads all markers, manifests, plans and finished chains; writes nothing.
pub async fn look(store: &Store) -> Result<Looked, RebuildError> {
    let (store, runtime) = (store.clone(), tokio::runtime::Handle::current());
    // On a thread of its own, as the streams of the store may not move between threads.
    let read = tokio::task::spawn_blocking(move || runtime.block_on(read(&store)));
    let (found, unusable) = read.await.map_err(|_| RebuildError::Aborted)??;
    Ok(Looked { draft: draft(&found), unusable })
}

async fn read(store: &Store) -> Result<(Found, Vec<String>), RebuildError> {
    let (mut found, mut unusable) = (Found::default(), Vec::new());
    let markers = store.list(kept::RUNS).await?.into_iter().filter_map(|o| kept::marker_of(&o.key));
    let read = stream::iter(markers.map(|key| read_result(store, key))).buffer_unordered(AT_ONCE);
    for result in read.try_collect::<Vec<_>>().await? {
        match result {
            Ok(result) => found.results.push(result),
            Err(why) => unusable.push(why),
        }
    }
    for object in store.list(kept::PLANS).await? {
        let Some(kind) = kept::record_at(&object.key) else { continue };
        let bytes = store.get(&object.key, kept::RECORD_MAX_BYTES).await?;
        let read = match kind {
            Record::Plan => wire::decode(&bytes).map(|plan| found.plans.push(plan)),
            Record::Over => wire::decode(&bytes).map(|record| found.over.push(record)),
        };
        if let Err(e) = read {
            unusable.push(format!("{}: {e}", store.url(&object.key)));
        }
    }
    Ok((found, unusable))
}

/// A result, or why it can not be used.
type Sound = Result<(CommittedRef, Manifest), String>;

/// A store that does not answer ends the reading.
async fn read_result(store: &Store, key: common::job_key::JobKey) -> Result<Sound, ArtifactError> {
    let Some(committed) = kept::read_marker(store, key).await? else {
        return Ok(Err(format!("{}: its marker is damaged", store.url(&key.run_prefix()))));
    };
    match artifacts::run::get_manifest(store, &committed.prefix(), &committed.manifest).await {
        Ok(manifest) => Ok(Ok((committed, manifest))),
        Err(VerifyError::Unavailable(e) | VerifyError::Store(e)) => Err(e),
        Err(e) => Ok(Err(e.to_string())),
    }
}

/// Writes what is not there; never replaces anything. Plans come last, since a plan without its chains would
/// have them made from the beginning.
pub async fn write(client: &Client, draft: &Draft) -> Result<Rebuilt, ClientError> {
    let mut rebuilt = Rebuilt::default();
    for entry in &draft.registry {
        rebuilt.registry.add(&client.write_registry(entry, None).await?);
    }
    for record in &draft.chains {
        rebuilt.chains.add(&client.write_chain(record, None).await?);
    }
    for plan in &draft.plans {
        rebuilt.plans.add(&client.restore_plan(plan).await?);
    }
    Ok(rebuilt)
}

impl Count {
    fn add(&mut self, written: &Written) {
        match written {
            Written::Yes(_) => self.written += 1,
            Written::Lost => self.there += 1,
        }
    }
}

/// Buckets and when they were made.
pub type Lives = BTreeMap<String, String>;

/// Compares the buckets with those that were there before under this address, and makes them anew from the
/// store where they are others. An address that was never seen before is only remembered: another cluster may
/// share the store, and its plans are none of ours.
pub async fn after_loss(client: &Client, store: &Store, address: &str) -> Result<(), RebuildError> {
    let lives = client.lives().await?;
    let object = kept::bus_object(address);
    let before: Option<Lives> = match store.get(&object, 1 << 16).await {
        Ok(bytes) => serde_json::from_slice(&bytes).ok(),
        Err(ArtifactError::Missing { .. }) => None,
        Err(e) => return Err(e.into()),
    };
    if before.as_ref() == Some(&lives) {
        return Ok(());
    }
    if before.is_some() {
        tracing::error!(
            "the bus has lost its buckets (they were made anew): taking plans, chains and results from the store"
        );
        let looked = look(store).await?;
        looked.unusable.iter().for_each(|what| tracing::warn!(what, "can not be used"));
        let rebuilt = write(client, &looked.draft).await?;
        tracing::warn!(?rebuilt, "buckets made anew");
    }
    // A map of texts is always written.
    let text = serde_json::to_vec(&lives).unwrap_or_default();
    Ok(store.put(&object, text).await?)
}
