//! What must be in order before anything starts; every refusal names the thing and the way out.

use crate::agent::{Agent, QUEUE, Signals};
use crate::args::Args;
use crate::beats::{self, Beats, Snapshot};
use crate::clock::Clock;
use crate::logs::Shipper;
use crate::perform::Performer;
use crate::process::{Processes, Spawner};
use crate::rival::{self, Rival};
use crate::settings::{self, SettingsError};
use crate::slots::Slots;
use crate::workdir::{Layout, WorkDir, WorkDirError};
use crate::{ceilings, devices, housekeeping, intake};
use agent_core::{Event, State, apply};
use artifacts::{ArtifactError, Store, StoreOptions};
use bus::{Backoff, BusError, BusLayout, NatsBus, NatsOptions, SharedBus};
use common::config::Config;
use common::ids::{Incarnation, NodeId};
use gpu::Machine;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use telemetry::{LogConfig, Service};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// For the last logs, which have a shorter limit of their own where bus and store answer.
const LAST_LOGS: Duration = Duration::from_secs(6);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    WorkDir(#[from] WorkDirError),
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    #[error("trainer {}: {problem}; build it (cargo build --release -p trainer) or name it with --trainer", .path.display())]
    Trainer { path: PathBuf, problem: String },
    #[error("object store: {0}")]
    Store(#[from] ArtifactError),
    #[error("{error} (tried for {secs} s)")]
    Nats { error: BusError, secs: u64 },
    #[error(
        "another agent named {node} is at work (its life {}); give each machine a name of its own with --node, or \
         stop that one first",
        .other.0
    )]
    NameTaken { node: NodeId, other: Rival },
    #[error("{0}")]
    System(#[from] io::Error),
}

impl StartError {
    /// 6 = infrastructure unavailable (another try later may help), 1 = something is to be mended here.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Nats { .. } => 6,
            StartError::Store(error) if error.is_transient() => 6,
            _ => 1,
        }
    }
}

/// Runs the agent until it is told to stop.
pub fn run(args: Args) -> Result<(), StartError> {
    let config = Arc::new(settings::load(args.conf.as_deref(), &args.set)?);
    let trainer = trainer(args.trainer.clone())?;
    let workdir = WorkDir::take(&args.work_dir)?;
    let logs = LogConfig {
        dir: Some(Layout::agent_logs(&args.work_dir)),
        format: args.log_format,
        ..LogConfig::default()
    };
    let service = Service { name: "coord-agent", instance: args.node.to_string() };
    let telemetry = telemetry::init(service, logs)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(serve(&args, config, trainer, workdir.layout()));
    // Blocking work that hangs (a dead disk) may not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(2));
    if let Err(error) = &outcome {
        tracing::error!(%error, "the agent does not start");
    }
    telemetry.shutdown();
    drop(workdir);
    outcome
}

async fn serve(args: &Args, config: Arc<Config>, trainer: PathBuf, layout: Layout) -> Result<(), StartError> {
    let signals =
        Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
    let store = Store::open(&args.store, &StoreOptions::default())?;
    check_store(&store, args).await?;
    let nats = nats_options(args, "agent");
    let bus = connect(nats, args.connect_timeout).await?;
    let incarnation = Incarnation(uuid::Uuid::new_v4().as_u64_pair().0);
    let every = Duration::from_secs(u64::from(config.cluster.beat_s));
    let found = rival::find(&bus, &args.node, every * 2).await;
    if let Some(other) = found.map_err(|error| StartError::Nats { error, secs: args.connect_timeout })? {
        return Err(StartError::NameTaken { node: args.node.clone(), other });
    }
    tracing::info!(node = %args.node, %incarnation, store = store.url(""), "agent starts");

    let clock = Clock::start();
    let (told, queue) = mpsc::channel(QUEUE);
    let slots = Slots::new(&bus);
    let mut state = State::new(settings::options(&config, args.node.clone(), incarnation));
    state.ceilings = ceilings::load(&layout);
    let machine = Machine::new(args.cpu, std::env::var_os(gpu::scripted::SCRIPT_VARIABLE).map(PathBuf::from));
    // Blocking is fine here: nothing else runs yet.
    let first_look = devices::look(&machine, &config, &clock);
    if let Event::DevicesUnknown { message } = &first_look {
        tracing::error!(message, "the devices can not be looked at; nothing is taken until they can");
    }
    // The first fact of a fresh state fits always.
    let _ = apply(&mut state, clock.now(), first_look);
    for device in state.ledger.devices() {
        let (facts, budget) = (device.facts(), device.budget_mib());
        tracing::info!(device = %facts.id, model = facts.model, total = %facts.total_mib, %budget, "device");
    }

    let (snapshot, stop) = (Snapshot::default(), CancellationToken::new());
    let rival = Arc::new(OnceLock::new());
    let beats = Beats {
        node: args.node.clone(),
        incarnation,
        every,
        snapshot: snapshot.clone(),
        stop: stop.clone(),
        rival: rival.clone(),
        told: told.clone(),
    };
    let beats = beats::start(nats_options(args, "beats"), beats)?;
    devices::start(machine, config.clone(), clock, told.clone())?;
    let log_cap_bytes = u64::from(config.agent.attempt_log_mib) << 20;
    let shipper = Shipper::new(layout.clone(), bus.clone(), store.clone(), log_cap_bytes);
    let (logs, shipping) = shipper.start(stop.clone());
    let feeds = [
        tokio::spawn(intake::slots_at_start(slots.clone(), told.clone())),
        tokio::spawn(intake::offers(bus, args.node.clone(), told.clone())),
        tokio::spawn(housekeeping::keep(layout.clone(), config.agent)),
    ];
    let spawner = Spawner::start()?;
    let processes = Processes::default();
    let performer =
        Performer { config, clock, layout, store, slots, spawner, processes, trainer, logs, told };
    Agent::new(state, clock, performer, queue, snapshot, signals).run().await;

    feeds.iter().for_each(tokio::task::JoinHandle::abort);
    stop.cancel();
    if tokio::time::timeout(LAST_LOGS, shipping).await.is_err() {
        tracing::info!("a store or bus that does not answer: logs are left to the next life of this agent");
    }
    let joined = tokio::task::spawn_blocking(move || beats.join());
    if tokio::time::timeout(Duration::from_secs(3), joined).await.is_err() {
        tracing::debug!("the last beat is not waited for");
    }
    match rival.get() {
        Some(other) => Err(StartError::NameTaken { node: args.node.clone(), other: *other }),
        None => Ok(()),
    }
}

fn trainer(named: Option<PathBuf>) -> Result<PathBuf, StartError> {
    let path = match named {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("trainer"),
    };
    check_program(&path).map_err(|problem| StartError::Trainer { path: path.clone(), problem })?;
    Ok(path.canonicalize()?)
}

fn check_program(path: &Path) -> Result<(), String> {
    let metadata = path.metadata().map_err(|e| e.to_string())?;
    match metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        true => Ok(()),
        false => Err("it is no program".to_owned()),
    }
}

/// A store that refuses writes is found out now, not after hours of training.
async fn check_store(store: &Store, args: &Args) -> Result<(), ArtifactError> {
    let key = format!("probes/{}", args.node);
    store.put(&key, "written by a node agent at its start, to see whether it may").await?;
    store.delete(&[key]).await
}

fn nats_options(args: &Args, part: &str) -> NatsOptions {
    NatsOptions {
        token: args.nats_token.clone(),
        credentials_path: args.nats_creds.clone(),
        ..NatsOptions::new(&args.nats, format!("node-agent {} {part}", args.node))
    }
}

/// Tries until `secs` are over; what will not mend itself ends it at once.
async fn connect(nats: NatsOptions, secs: u64) -> Result<SharedBus, StartError> {
    let until = Instant::now() + Duration::from_secs(secs);
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    loop {
        let error = match ready(nats.clone()).await {
            Ok(bus) => return Ok(bus),
            Err(error) => error,
        };
        let delay = backoff.delay();
        if !error.is_transient() || Instant::now() + delay >= until {
            return Err(StartError::Nats { error, secs });
        }
        tracing::warn!(%error, "waiting for the bus");
        tokio::time::sleep(delay).await;
    }
}

async fn ready(nats: NatsOptions) -> Result<SharedBus, BusError> {
    let bus = NatsBus::connect(nats).await?.shared();
    bus.ensure(&BusLayout::default()).await?;
    Ok(bus)
}
