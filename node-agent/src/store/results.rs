//! The result of an attempt to the store: all files, then the manifest that makes them a result.

use super::{kept, prepared, writing};
use crate::workdir::Layout;
use agent_core::{Problem, SavedRun};
use artifacts::run::upload_run;
use artifacts::{LocalFile, Store};
use common::digest::Digest;
use common::manifest::{FileEntry, MadeBy, Manifest};
use common::registry::attempt_prefix;

/// Uploads and returns the manifest's digest. May be repeated: keys carry the attempt, and the same result
/// makes the same manifest each time.
pub async fn upload(store: &Store, layout: &Layout, saved: &SavedRun) -> Result<Digest, Problem> {
    kept::note(layout, saved).await;
    let out = layout.out(&saved.run);
    let files = saved.result.done.files.iter();
    let files: Vec<LocalFile> =
        files.map(|name| LocalFile { name: name.clone(), path: out.join(name) }).collect();
    let prefix = attempt_prefix(&saved.run.key, saved.run.attempt);
    let uploaded = upload_run(store, &prefix, &files, |entries| manifest(saved, entries)).await;
    let digest = uploaded.map(|run| run.manifest_digest).map_err(writing)?;
    if let Some(entry) = saved.result.done.tuning_used.get(prepared::ENTRY_KEY) {
        // Beside the claim of the result, which may not wait for it; gone with the process, and then made again.
        let (store, layout, inputs) = (store.clone(), layout.clone(), saved.offer.spec.inputs.clone());
        let entry = entry.clone();
        tokio::spawn(async move { prepared::share(&store, &layout, &inputs, &entry).await });
    }
    Ok(digest)
}

fn manifest(saved: &SavedRun, files: Vec<FileEntry>) -> Manifest {
    let (offer, result) = (&saved.offer, &saved.result);
    Manifest {
        schema: Manifest::SCHEMA,
        job: offer.job.clone(),
        key: offer.key,
        attempt: offer.attempt,
        inputs: offer.spec.inputs.clone(),
        files,
        metrics: result.done.metrics.clone(),
        made: MadeBy {
            node: offer.place.node.clone(),
            device_model: result.device_model.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            started: result.started,
            duration_ms: result.duration_ms,
            peak_memory_mib: result.done.peak_memory_mib,
            tuning_used: result.done.tuning_used.clone(),
        },
    }
}
