//! Everything a child needs, on this machine's disk.

use super::captures::Captures;
use super::{checkpoints, kept, prepared, reading, verify, writing};
use crate::workdir::Layout;
use agent_core::{Event, Inputs, Problem, RunId};
use artifacts::run::{fetch_files, get_manifest};
use artifacts::{ArtifactError, Cache, Store};
use common::messages::JobOffer;
use common::registry::attempt_prefix;
use std::collections::BTreeMap;

/// First object of every attempt.
const STARTED: &str = "started";

/// Captures (checked against the plan's digest), the parents' files (checked against their committed manifests),
/// and the newest whole checkpoint; or, in place of all that, what an earlier attempt finished on this machine.
pub async fn fetch(
    store: &Store,
    layout: &Layout,
    parents_max_bytes: u64,
    run: RunId,
    offer: &JobOffer,
) -> Event {
    let (here, at) = (layout.clone(), run);
    // A search that breaks finds nothing.
    if let Ok(Some(result)) = tokio::task::spawn_blocking(move || kept::find(&here, &at)).await {
        // What it uploads next says the same, should this not go through.
        let _ = begin(store, &run).await;
        return Event::FoundFinished { run, result };
    }
    match inputs(store, layout, parents_max_bytes, &run, offer).await {
        Ok(inputs) => Event::Fetched { run, inputs },
        Err(problem) => Event::FetchFailed { run, problem },
    }
}

/// A bus that has lost its memory is told by this object that the number of the attempt was used.
async fn begin(store: &Store, run: &RunId) -> Result<(), ArtifactError> {
    let started = format!("{}/{STARTED}", attempt_prefix(&run.key, run.attempt));
    store.put(&started, run.attempt.to_string()).await
}

async fn inputs(
    store: &Store,
    layout: &Layout,
    parents_max_bytes: u64,
    run: &RunId,
    offer: &JobOffer,
) -> Result<Inputs, Problem> {
    let scratch = layout.scratch(run);
    begin(store, run).await.map_err(writing)?;
    let captures_dir = Captures::of(offer, layout).bring().await?;
    prepared::fetch(store, layout, &offer.spec.inputs).await;
    let cache = Cache::new(layout.objects(), parents_max_bytes);
    let mut parents = BTreeMap::new();
    for (phase, committed) in &offer.parents {
        let folder = scratch.join("parents").join(phase.as_str());
        let prefix = committed.prefix();
        let manifest = get_manifest(store, &prefix, &committed.manifest).await.map_err(verify)?;
        fetch_files(store, &prefix, &manifest.files, &folder, Some(&cache)).await.map_err(reading)?;
        parents.insert(*phase, folder);
    }
    let found = checkpoints::fetch_newest(store, &run.key, &scratch.join("resume")).await?;
    let resumed_from_epoch = found.as_ref().map(|f| f.epoch);
    Ok(Inputs { captures_dir, parents, resume_from: found.map(|f| f.folder), resumed_from_epoch })
}
