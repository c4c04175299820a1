//! One nats-server, one store, one agent; offers and slots as the coordinator writes them.

use artifacts::{Store, StoreOptions};
use bus::server::{NatsServer, ServerOptions};
use bus::{BusLayout, Headers, NatsBus, NatsOptions, SharedBus};
use common::config::Config;
use common::digest::Digest;
use common::ids::{Attempt, DatasetId, DeviceId, JobId, JobName, NodeId, Phase, PlanId};
use common::job_key::{JobInputs, JobKey};
use common::manifest::Manifest;
use common::messages::{JobOffer, NodeBeat};
use common::plan::{JobSpec, MemoryNeed};
use common::registry::attempt_prefix;
use common::slot::{Failure, Place, Slot, SlotState};
use common::units::Mib;
use common::{subjects, wire};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const NODE: &str = "n1";
pub const CAPTURE: &str = "timestamp,arbitration_id,data_field,attack\n1.0,0C9,00,0\n1.1,0D1,00,0\n";
/// The shortest lease that the configuration allows.
pub const LEASE: Duration = Duration::from_secs(15);

static CONFIG: LazyLock<Config> = LazyLock::new(Config::built_in);

pub struct World {
    pub folder: TempDir,
    pub server: NatsServer,
    pub bus: SharedBus,
    pub store: Store,
    agent: Option<Child>,
}

/// The fake trainer, beside the agent; built when this suite is run alone.
pub fn fake_trainer() -> PathBuf {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_BIN_EXE_node-agent")).with_file_name("fake-trainer");
        if !path.is_file() {
            let args = ["build", "-q", "-p", "harness", "--bin", "fake-trainer"];
            let built = Command::new(env!("CARGO")).args(args).status().expect("cargo runs");
            assert!(built.success() && path.is_file(), "cargo build -p harness --bin fake-trainer");
        }
        path
    });
    BUILT.clone()
}

impl World {
    /// Everything but the agent.
    pub async fn without_agent() -> World {
        let folder = tempfile::tempdir().unwrap();
        let server = NatsServer::start(ServerOptions::new(folder.path().join("nats"))).await.unwrap();
        let options = NatsOptions::new(server.url(), "test").token(server.token());
        let bus = NatsBus::connect(options).await.unwrap().shared();
        bus.ensure(&BusLayout::default()).await.unwrap();
        let store = folder.path().join("store");
        let store = Store::open(store.to_str().unwrap(), &StoreOptions::default()).unwrap();
        std::fs::create_dir_all(folder.path().join("data/d/train_01")).unwrap();
        std::fs::write(folder.path().join("data/d/train_01/a.csv"), CAPTURE).unwrap();
        World { folder, server, bus, store, agent: None }
    }

    pub async fn start() -> World {
        let mut world = World::without_agent().await;
        world.start_agent();
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The agent's command line; a test changes what it wants to change.
    pub fn command(&self) -> Command {
        self.command_in("work")
    }

    /// The same with another work folder.
    pub fn command_in(&self, work: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_node-agent"));
        command
            .args(["--nats", &self.server.url(), "--nats-token", self.server.token(), "--node", NODE])
            .args(["--set", "cluster.lease_s=15", "--set", "cluster.beat_s=1", "--cpu", "yes"])
            .arg("--store")
            .arg(self.path("store"))
            .arg("--work-dir")
            .arg(self.path(work))
            .arg("--trainer")
            .arg(fake_trainer());
        command
    }

    pub fn start_agent(&mut self) {
        let command = self.command();
        self.start_command(command);
    }

    pub fn start_command(&mut self, mut command: Command) {
        self.stop_agent();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).unwrap();
        self.agent = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    pub fn agent(&mut self) -> &mut Child {
        self.agent.as_mut().expect("an agent was started")
    }

    /// kill -9, and reaped.
    pub fn stop_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            // Gone already is as good.
            let _ = agent.kill();
            agent.wait().unwrap();
        }
    }

    /// Writes the slot as offered and sends the offer, as a coordinator does.
    pub async fn offer(&self, offer: &JobOffer) {
        self.write_slot(offer, SlotState::Offered { place: offer.place.clone() }).await;
        let bytes = wire::encode(offer).unwrap();
        let subject = subjects::jobs_of(&offer.place.node);
        self.bus.publish_durable(&subject, Headers::new(), bytes.into(), &offer.message_id()).await.unwrap();
    }

    pub async fn write_slot(&self, offer: &JobOffer, state: SlotState) {
        let slot = Slot { job: offer.job.clone(), attempt: offer.attempt, offer: offer.offer, state };
        let bytes = wire::encode(&slot).unwrap();
        self.bus.kv(subjects::BUCKET_SLOTS).put(&offer.key.to_string(), bytes.into()).await.unwrap();
    }

    pub async fn slot(&self, key: &JobKey) -> Option<Slot> {
        // A bus that is away for a moment is part of some tests.
        let entry = self.bus.kv(subjects::BUCKET_SLOTS).get(&key.to_string()).await.ok()??;
        Some(wire::decode(&entry.value).unwrap())
    }

    /// Waits until the slot's state is as wanted.
    pub async fn until(&self, key: &JobKey, what: &str, wanted: impl Fn(&SlotState) -> bool) -> SlotState {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let slot = self.slot(key).await;
            if let Some(slot) = slot.as_ref().filter(|slot| wanted(&slot.state)) {
                return slot.state.clone();
            }
            assert!(Instant::now() < end, "never {what}: {slot:?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    pub async fn until_finished(&self, offer: &JobOffer) -> Manifest {
        let over = |state: &SlotState| matches!(state, SlotState::Finished { .. } | SlotState::Failed { .. });
        match self.until(&offer.key, "finished", over).await {
            SlotState::Finished { manifest, .. } => {
                let prefix = attempt_prefix(&offer.key, offer.attempt);
                artifacts::run::verify_run(&self.store, &prefix, &manifest).await.unwrap()
            }
            other => panic!("{other:?}\n{}", self.log()),
        }
    }

    pub async fn until_failed(&self, offer: &JobOffer) -> Failure {
        let over = |state: &SlotState| matches!(state, SlotState::Finished { .. } | SlotState::Failed { .. });
        match self.until(&offer.key, "failed", over).await {
            SlotState::Failed { failure, .. } => failure,
            other => panic!("{other:?}\n{}", self.log()),
        }
    }

    /// Waits for a beat as wanted.
    pub async fn beat(&self, what: &str, wanted: impl Fn(&NodeBeat) -> bool) -> NodeBeat {
        let mut beats = self.bus.subscribe(subjects::BEATS_ALL).await.unwrap();
        let heard = async {
            loop {
                let message = beats.next().await.expect("the subscription lives");
                let beat: NodeBeat = wire::decode(&message.payload).unwrap();
                if wanted(&beat) {
                    return beat;
                }
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(60), heard).await;
        heard.unwrap_or_else(|_| panic!("no beat with {what}\n{}", self.log()))
    }

    /// Pid of the trainer, once it has saved a checkpoint.
    pub async fn training(&self, offer: &JobOffer) -> u32 {
        let below = format!("{}/ckpt", attempt_prefix(&offer.key, offer.attempt));
        let end = Instant::now() + Duration::from_secs(60);
        let whole =
            |listed: Vec<artifacts::Listed>| listed.iter().any(|o| o.key.ends_with("/checkpoint.json"));
        while !whole(self.store.list(&below).await.unwrap()) {
            assert!(Instant::now() < end, "no checkpoint\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        let beat = self.beat("a trainer", |beat| beat.running.iter().any(|run| run.pid.is_some())).await;
        beat.running.iter().find_map(|run| run.pid).expect("just seen")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop_agent();
    }
}

/// An offer of the job named `name` with this script for the fake trainer.
pub fn offer(world: &World, name: &str, attempt: u32, script: serde_json::Value) -> JobOffer {
    let job = JobName::new(DatasetId::new("d").unwrap(), Phase::Teacher);
    let place = Place {
        node: NodeId::new(NODE).unwrap(),
        device: DeviceId::new("cpu").unwrap(),
        reserve_mib: Mib(100),
    };
    JobOffer {
        job: JobId { plan: PlanId::new("p1").unwrap(), name: job.clone() },
        key: JobKey(Digest::of(name.as_bytes())),
        attempt: Attempt(attempt),
        offer: 1,
        spec: JobSpec {
            name: job,
            inputs: JobInputs {
                phase: Phase::Teacher,
                code_version: 1,
                semantic: serde_json::json!({ "fake": script }),
                dataset_digest: digest_of(&world.path("data")),
                parents: BTreeMap::new(),
                force_generation: 0,
            },
            tuning: CONFIG.tuning(Phase::Teacher),
            need: MemoryNeed::flat(Mib(100), Mib(100), "test"),
            priority: 0,
        },
        place,
        data_url: world.path("data").display().to_string(),
        parents: BTreeMap::new(),
        traceparent: None,
        lease_ms: 0,
        micro_batch_max: None,
    }
}

/// As `coord plan` computes it.
fn digest_of(data: &Path) -> Digest {
    let layout = dataset::layout::find(data, "d").unwrap();
    Digest::from_bytes(*dataset::dataset_digest(&layout, None).unwrap().sha256.as_bytes())
}

/// Neither running nor a zombie of somebody.
pub fn is_gone(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => true,
        Ok(stat) => stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z')),
    }
}

pub async fn until_gone(pid: u32, limit: Duration) {
    let end = Instant::now() + limit;
    while !is_gone(pid) {
        assert!(Instant::now() < end, "process {pid} lives after {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
}
