//! Configuration files to the options of the core, the facts of a device, and the tuning of an attempt.

use agent_core::{DeviceFacts, Options, PhaseLimits, ProcessUse};
use common::config::{Config, FILE_NAMES, GpuProfile, Problems, Sources};
use common::ids::{Incarnation, NodeId, Phase};
use common::messages::DeviceKind;
use common::plan::JobSpec;
use common::trainer_protocol::{Device, TrainerTuning};
use common::units::{Mib, Millis};
use gpu::DeviceSample;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("configuration file {}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Problems(Problems),
}

/// Reads the folder (each file may be missing), the environment and `--set`.
pub fn load(folder: Option<&Path>, flags: &[String]) -> Result<Config, SettingsError> {
    let mut texts = Vec::new();
    for name in FILE_NAMES {
        let Some(path) = folder.map(|folder| folder.join(name)) else { continue };
        match std::fs::read_to_string(&path) {
            Ok(text) => texts.push((path.display().to_string(), text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(SettingsError::Read { path, source }),
        }
    }
    let env: Vec<(String, String)> = std::env::vars().collect();
    let sources = Sources {
        files: texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect(),
        env: env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        flags: flags.iter().map(String::as_str).collect(),
    };
    Config::resolve(&sources).map_err(SettingsError::Problems)
}

/// Options of the core.
pub fn options(config: &Config, node: NodeId, incarnation: Incarnation) -> Options {
    let (cluster, agent) = (&config.cluster, &config.agent);
    let secs = |seconds: u32| Millis::from_secs(u64::from(seconds));
    let minutes = |minutes: u32| Millis::from_secs(u64::from(minutes) * 60);
    let limits = Phase::ALL.map(|phase| {
        let spec = config.pipeline.phases.get(phase);
        let limits = PhaseLimits {
            no_progress: minutes(spec.no_progress_minutes),
            // Reading hundreds of millions of frames may say nothing for long.
            no_progress_preparing: minutes(spec.no_progress_minutes.saturating_mul(4)),
            total: minutes(spec.time_limit_minutes),
        };
        (phase, limits)
    });
    let lease = secs(cluster.lease_s);
    Options {
        renew_every: Millis(lease.0 / 3),
        take_timeout: lease,
        retry_after: Millis((lease.0 / 30).clamp(100, 1_000)),
        stop_grace: secs(cluster.stop_grace_s),
        fetch_timeout: secs(agent.fetch_s),
        upload_timeout: secs(agent.upload_s),
        refused_timeout: secs(agent.store_refused_s),
        start_timeout: secs(agent.start_s),
        stall_percent: agent.stall_percent,
        stall_for: secs(agent.stall_s),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        limits: limits.into(),
        ..Options::new(node, incarnation)
    }
}

/// The profile of a device.
pub fn profile<'a>(config: &'a Config, kind: DeviceKind, model: &str, total: Mib) -> &'a GpuProfile {
    match kind {
        DeviceKind::Cpu => config.profiles.cpu().1,
        DeviceKind::Gpu => config.profiles.profile_for(model, total).1,
    }
}

/// A look at a device with what the configuration says about it.
pub fn facts(config: &Config, sample: DeviceSample) -> DeviceFacts {
    let profile = profile(config, sample.kind, &sample.model, sample.total_mib);
    let process = |p: gpu::ProcessSample| ProcessUse { pid: p.pid, used_mib: p.used_mib };
    DeviceFacts {
        cap_permille: profile.cap_permille(),
        max_jobs: profile.max_per_gpu,
        id: sample.id,
        kind: sample.kind,
        model: sample.model,
        total_mib: sample.total_mib,
        used_mib: sample.used_mib,
        processes: sample.processes.map(|listed| listed.into_iter().map(process).collect()),
        utilization_percent: sample.utilization_percent,
        fault: sample.fault,
    }
}

/// What an attempt may use on its device, beginning with at most `most` graphs at once there. `devices` share the
/// cores of the machine.
pub fn tuning(
    config: &Config,
    spec: &JobSpec,
    device: &DeviceFacts,
    devices: usize,
    budget: Mib,
    most: Option<u32>,
) -> TrainerTuning {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let share = (cores / devices.max(1) as u32).max(1);
    let profile = profile(config, device.kind, &device.model, device.total_mib);
    let device = match device.kind {
        DeviceKind::Cpu => Device::Cpu,
        // The child is shown this one card alone.
        DeviceKind::Gpu => Device::Cuda(0),
    };
    let usual = spec.tuning.on_device(device, profile, share, budget);
    let micro_batch = most.map_or(usual.micro_batch, |most| most.min(usual.micro_batch));
    TrainerTuning { micro_batch, ..usual }
}
