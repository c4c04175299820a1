//! The result of an attempt to the store: all files, then the manifest that makes them a result.

use crate::clock::Clock;
use crate::workdir::Layout;
use agent_core::{Problem, SavedRun};
use artifacts::run::upload_run;
use artifacts::{ArtifactError, LocalFile, Store};
use common::digest::Digest;
use common::manifest::{MadeBy, Manifest};
use common::registry::attempt_prefix;

/// Uploads and returns the manifest's digest. May be repeated: keys carry the attempt.
///
/// Errors: only a file of this machine that can not be read is for good. Whatever the store refuses, somebody
/// may mend while the result is kept here.
pub async fn upload(
    store: &Store,
    layout: &Layout,
    clock: &Clock,
    saved: &SavedRun,
) -> Result<Digest, Problem> {
    let out = layout.out(&saved.run);
    let files = saved.result.done.files.iter();
    let files: Vec<LocalFile> =
        files.map(|name| LocalFile { name: name.clone(), path: out.join(name) }).collect();
    let prefix = attempt_prefix(&saved.run.key, saved.run.attempt);
    let uploaded = upload_run(store, &prefix, &files, |entries| manifest(clock, saved, entries)).await;
    uploaded.map(|run| run.manifest_digest).map_err(|error| {
        let ours = matches!(error, ArtifactError::Local { .. });
        super::infrastructure(!ours, error)
    })
}

fn manifest(clock: &Clock, saved: &SavedRun, files: Vec<common::manifest::FileEntry>) -> Manifest {
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
            device_model: saved.device_model.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            started: clock.wall(result.started),
            duration_ms: result.ended.since(result.started).0,
            peak_memory_mib: result.done.peak_memory_mib,
            tuning_used: result.done.tuning_used.clone(),
        },
    }
}
