//! Everything a child needs, on this machine's disk.

use super::{captures, checkpoints, verify};
use crate::workdir::Layout;
use agent_core::{Inputs, Problem, RunId};
use artifacts::run::{fetch_files, get_manifest};
use artifacts::{Cache, Store};
use common::messages::JobOffer;
use std::collections::BTreeMap;

/// Largest size of the cache of parents' files.
const CACHE_MAX_BYTES: u64 = 20 << 30;

/// Captures, the parents' files (checked against their committed manifests), and the newest whole checkpoint.
pub async fn fetch(store: &Store, layout: &Layout, run: &RunId, offer: &JobOffer) -> Result<Inputs, Problem> {
    let scratch = layout.scratch(run);
    let captures_dir = captures::folder(&offer.data_url, &offer.job.name.dataset, layout).await?;
    let cache = Cache::new(layout.objects(), CACHE_MAX_BYTES);
    let mut parents = BTreeMap::new();
    for (phase, committed) in &offer.parents {
        let folder = scratch.join("parents").join(phase.as_str());
        let prefix = committed.prefix();
        let manifest = get_manifest(store, &prefix, &committed.manifest).await.map_err(verify)?;
        fetch_files(store, &prefix, &manifest.files, &folder, Some(&cache)).await.map_err(super::artifact)?;
        parents.insert(*phase, folder);
    }
    let found = checkpoints::fetch_newest(store, &run.key, &scratch.join("resume")).await?;
    let resumed_from_epoch = found.as_ref().map(|f| f.epoch);
    Ok(Inputs { captures_dir, parents, resume_from: found.map(|f| f.folder), resumed_from_epoch })
}
