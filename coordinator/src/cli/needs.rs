//! What earlier runs tell, and what follows from it for a job: memory by model of device, and its length.

use super::context::Context;
use super::link::Link;
use artifacts::run::get_manifest;
use common::config::pipeline::ANY_PROFILE;
use common::config::{CPU_PROFILE, Config};
use common::ids::{DatasetId, JobName, NodeId, Phase};
use common::job_key::JobKey;
use common::manifest::Manifest;
use common::messages::{DeviceKind, NodeBeat};
use common::plan::{MemoryNeed, ModelNeed};
use common::registry::CommittedRef;
use common::units::Mib;
use coordinator_core::planner::Base;
use coordinator_core::planner::history::{History, Size};
use futures::{StreamExt, stream};
use std::collections::BTreeMap;
use std::time::Duration;

/// Manifests read for the history, results in use first.
const MANIFESTS_MAX: usize = 256;
const READS_IN_FLIGHT: usize = 8;
/// The history is a help, not a condition: a slow store must not hold up a plan.
const READ_MAX: Duration = Duration::from_secs(10);

/// A model of device as the fleet has it, with the memory of its largest one.
pub type Models = BTreeMap<(DeviceKind, String), Mib>;

pub fn models(beats: &BTreeMap<NodeId, NodeBeat>) -> Models {
    let mut models = Models::new();
    for device in beats.values().flat_map(|b| &b.devices) {
        let total = models.entry((device.kind, device.model.clone())).or_default();
        *total = device.total_mib.max(*total);
    }
    models
}

/// Manifests of committed results; those in `known` are not read again. What can not be read is left out.
pub async fn history(
    context: &Context,
    link: &Link,
    base: &Base,
    known: &BTreeMap<JobName, Manifest>,
) -> History {
    let have: BTreeMap<JobKey, &Manifest> = known.values().map(|m| (m.key, m)).collect();
    let in_use = base.registry.values().map(|entry| &entry.committed);
    let mut wanted: Vec<&CommittedRef> = in_use.filter(|c| !have.contains_key(&c.key)).collect();
    let listed: std::collections::BTreeSet<JobKey> = wanted.iter().map(|c| c.key).collect();
    let others = base.committed.values();
    wanted.extend(others.filter(|c| !have.contains_key(&c.key) && !listed.contains(&c.key)));
    wanted.truncate(MANIFESTS_MAX);
    let mut read: Vec<Manifest> = Vec::new();
    if !wanted.is_empty()
        && let Ok(store) = context.open_store(link.store_url.as_deref())
    {
        let one = |committed: &CommittedRef| {
            let (store, committed) = (store.clone(), committed.clone());
            async move { get_manifest(&store, &committed.prefix(), &committed.manifest).await }
        };
        let reads = stream::iter(wanted.into_iter().map(one)).buffered(READS_IN_FLIGHT);
        let all = reads.for_each(|manifest| {
            match manifest {
                Ok(manifest) => read.push(manifest),
                Err(error) => tracing::debug!(%error, "an earlier result is left out of the history"),
            }
            std::future::ready(())
        });
        if tokio::time::timeout(READ_MAX, all).await.is_err() {
            tracing::warn!("the store is slow: the history of earlier runs is not whole");
        }
    }
    History::of(known.values().chain(&read))
}

/// Memory a job asks, by model of device, from measured peaks where there are any.
pub fn memory_need(
    config: &Config,
    models: &Models,
    history: &History,
    dataset: &DatasetId,
    phase: Phase,
    size: &Size,
) -> MemoryNeed {
    let spec = config.pipeline.phases.get(phase);
    let of = |profile: &str| spec.memory_on(config.size(dataset, phase), profile);
    let mut on: Vec<ModelNeed> = Vec::new();
    for ((kind, model), total) in models {
        let card = (*kind == DeviceKind::Gpu).then_some((model.as_str(), *total));
        let (written, profile) = config.memory_ask(dataset, phase, card);
        let (mib, basis) = match history.need(phase, size, model, &config.pipeline.placement) {
            Some((mib, measured)) => (mib, format!("{measured} (conf, profile {profile}: {written})")),
            None => (written, format!("conf, profile {profile}")),
        };
        let micro_batch_max = history.micro_batch_max(phase, size, model);
        on.push(ModelNeed { kind: *kind, model: model.clone(), mib, basis, micro_batch_max });
    }
    for model in history.models(phase, size) {
        let told = on.iter().any(|n| n.model == model);
        let Some((mib, basis)) = history.need(phase, size, model, &config.pipeline.placement) else {
            continue;
        };
        // A node that is away now. Cards and processors never share a name.
        for kind in [DeviceKind::Gpu, DeviceKind::Cpu].into_iter().filter(|_| !told) {
            let (model, basis) = (model.to_owned(), basis.clone());
            let micro_batch_max = history.micro_batch_max(phase, size, &model);
            on.push(ModelNeed { kind, model, mib, basis, micro_batch_max });
        }
    }
    MemoryNeed {
        gpu_mib: of(ANY_PROFILE),
        cpu_mib: of(CPU_PROFILE),
        basis: format!("conf, profiles {ANY_PROFILE} and {CPU_PROFILE}"),
        on,
        policy: spec.placement,
    }
}

/// Length of a job and where it is known from: its own runs, those of others, else the configuration's guess.
pub fn expected(
    config: &Config,
    base: &Base,
    history: &History,
    name: &JobName,
    size: &Size,
) -> (u64, String) {
    if let Some(length) = history.length(name, size, None) {
        return (length.ms, length.basis);
    }
    if let Some(entry) = base.registry.get(name).filter(|e| e.duration_ms > 0) {
        return (entry.duration_ms, "as long as last time".to_owned());
    }
    let minutes = config.pipeline.phases.get(name.phase).expected_minutes;
    (u64::from(minutes) * 60_000, "first guess of conf/pipeline.yaml".to_owned())
}
