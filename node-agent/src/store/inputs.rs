//! Everything a child needs, on this machine's disk.

use super::captures::Captures;
use super::{checkpoints, kept, reading, verify};
use crate::workdir::Layout;
use agent_core::{Event, Inputs, Problem, RunId};
use artifacts::run::{fetch_files, get_manifest};
use artifacts::{Cache, Store};
use common::messages::JobOffer;
use std::collections::BTreeMap;

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
        return Event::FoundFinished { run, result };
    }
    match inputs(store, layout, parents_max_bytes, &run, offer).await {
        Ok(inputs) => Event::Fetched { run, inputs },
        Err(problem) => Event::FetchFailed { run, problem },
    }
}

async fn inputs(
    store: &Store,
    layout: &Layout,
    parents_max_bytes: u64,
    run: &RunId,
    offer: &JobOffer,
) -> Result<Inputs, Problem> {
    let scratch = layout.scratch(run);
    let captures_dir = Captures::of(offer, layout).bring().await?;
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
