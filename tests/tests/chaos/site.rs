//! A whole site: three nats-servers, an S3 server, two coordinators, three agents with scripted GPUs and
//! fake trainers. Each client reaches the servers through ways of its own, which can be cut.

use crate::disk::Disk;
use crate::proxy::{Way, Ways};
use crate::servers::{SERVERS, Servers};
use artifacts::testing::Weed;
use artifacts::{Store, StoreOptions};
use bus::{NatsBus, NatsOptions, SharedBus};
use harness::processes::{Running, descendants, kill_9, program, signal};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const COORDINATORS: usize = 2;
/// Cards of the agents, in MiB.
pub const CARDS: [u64; 3] = [24_564, 10_240, 81_559];
const DATASETS: [&str; 3] = ["car", "van", "bus"];

pub struct Site {
    pub runtime: Runtime,
    pub servers: Servers,
    pub coordinators: Vec<Client>,
    pub agents: Vec<Client>,
    /// Where each agent works.
    pub disks: Vec<Disk>,
    weed: Weed,
    script: String,
    folder: TempDir,
}

/// A coordinator or an agent.
pub struct Client {
    name: String,
    process: Option<Running>,
    starts: u32,
    pub bus: Ways,
    pub store: Ways,
    paused: bool,
}

impl Site {
    /// Everything runs when this returns. `script` is the fake trainer's.
    pub fn start(script: &str) -> Site {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let found = runtime.block_on(bus::server::find(None)).unwrap_or_else(|e| panic!("{e}"));
        let weed = Weed::start().unwrap_or_else(|e| panic!("{e}"));
        let servers = Servers::start(&found.path, folder.path());
        let disks =
            Disk::each(&(0..CARDS.len()).map(|i| folder.path().join(work_dir(i))).collect::<Vec<_>>());
        DATASETS.iter().for_each(|name| captures(&folder.path().join("data").join(name), name));
        let mut site = Site {
            runtime,
            servers,
            coordinators: Vec::new(),
            agents: Vec::new(),
            disks,
            weed,
            script: script.to_owned(),
            folder,
        };
        for i in 0..COORDINATORS {
            let client = site.client(format!("coord-{i}"));
            site.coordinators.push(client);
            site.start_coordinator(i);
        }
        for i in 0..CARDS.len() {
            let client = site.client(work_dir(i));
            site.agents.push(client);
            site.start_agent(i);
        }
        site
    }

    fn client(&self, name: String) -> Client {
        let to: Vec<u16> = (0..SERVERS).map(|i| self.servers.port(i)).collect();
        let s3 =
            self.weed.endpoint().rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
        let (bus, store) = (Ways::new(&to), Ways::new(&[s3]));
        Client { name, process: None, starts: 0, bus, store, paused: false }
    }

    pub fn start_coordinator(&mut self, i: usize) {
        let mut command = self.coord(&["serve"]);
        let client = &mut self.coordinators[i];
        client.reach(&mut command, "COORD_STORE", &self.weed.url("chaos"));
        client.run(&mut command, self.folder.path());
    }

    pub fn start_agent(&mut self, i: usize) {
        let client = &mut self.agents[i];
        let gpus = self.folder.path().join(format!("{}.gpus.json", client.name));
        let model = ["NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3080", "NVIDIA A100-SXM4-80GB"][i];
        let card = serde_json::json!({"id": format!("GPU-{i}"), "kind": "gpu", "model": model,
            "total_mib": CARDS[i], "used_mib": 0, "processes": [], "utilization_percent": 0, "fault": null});
        std::fs::write(&gpus, serde_json::json!({"devices": [card]}).to_string()).expect("writable");
        let mut command = Command::new(program("node-agent"));
        command
            .args(["--node", &client.name, "--cpu", "no"])
            .args(CLOCKS)
            .arg("--trainer")
            .arg(program("fake-trainer"))
            .arg("--work-dir")
            .arg(self.folder.path().join(&client.name))
            .env("COORD_SCRIPTED_GPUS", gpus)
            .env("FAKE_TRAINER", &self.script)
            .envs(self.weed.env());
        client.reach(&mut command, "COORD_STORE_URL", &self.weed.url("chaos"));
        client.run(&mut command, self.folder.path());
    }

    /// `coord`, past all proxies.
    pub fn coord(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("coord"));
        command
            .args(args)
            .args(CLOCKS)
            .current_dir(self.folder.path())
            .env("COORD_NATS_URL", self.servers.url())
            .env("COORD_NATS_MONITOR", self.servers.pages())
            .env("COORD_STORE", self.weed.url("chaos"))
            .env("COORD_DATA", self.folder.path().join("data"))
            .envs(self.weed.env());
        command
    }

    /// What applies a plan that retrains everything; `round` makes it another one.
    pub fn applier(&self, round: u32) -> Applier {
        let rate = format!("lr={}", 0.001 + 0.000_001 * f64::from(round));
        Applier(self.coord(&["run", "--detach", "--set", &rate]))
    }

    /// A connection of the test's own, past all proxies.
    pub fn connect(&self) -> SharedBus {
        let options = NatsOptions::new(self.servers.url(), "chaos test");
        self.runtime.block_on(NatsBus::connect(options)).unwrap_or_else(|e| panic!("{e}")).shared()
    }

    pub fn store(&self) -> Store {
        let options: StoreOptions = self.weed.options();
        Store::open(&self.weed.url("chaos"), &options).unwrap_or_else(|e| panic!("{e}"))
    }

    /// The last lines of every process, for a failed test.
    pub fn logs(&self) -> String {
        let mut names: Vec<PathBuf> = std::fs::read_dir(self.folder.path())
            .map(|all| {
                all.flatten()
                    .map(|f| f.path())
                    .filter(|p| p.extension().is_some_and(|e| e == "log"))
                    .collect()
            })
            .unwrap_or_default();
        names.sort();
        let tail = |path: &PathBuf| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            format!("---- {}\n{}\n", path.display(), lines[lines.len().saturating_sub(12)..].join("\n"))
        };
        names.iter().map(tail).collect()
    }

    /// Keeps the folder of the site, and says where: for a failed test.
    pub fn keep(self) -> PathBuf {
        let Site { folder, disks, .. } = self;
        drop(disks);
        folder.keep()
    }
}

/// Also the name of the node.
fn work_dir(agent: usize) -> String {
    format!("node-{agent}")
}

/// A tiny dataset; another name is other content, or all would be the same job.
fn captures(folder: &Path, name: &str) {
    for part in ["train_01", "test_01"] {
        let id = name.as_bytes()[0];
        let rows = format!("1.0,0C9,{id:02X},0\n1.1,0D1,00,0\n1.2,0C9,01,0\n");
        std::fs::create_dir_all(folder.join(part)).expect("writable");
        let text = format!("timestamp,arbitration_id,data_field,attack\n{rows}");
        std::fs::write(folder.join(part).join("a.csv"), text).expect("writable");
    }
}

/// A command that is tried again while the bus is away.
pub struct Applier(Command);

impl Applier {
    pub fn run(mut self, limit: Duration) {
        let start = Instant::now();
        loop {
            let Output { status, stderr, .. } = self.0.output().expect("coord runs");
            if status.success() {
                return;
            }
            let told = String::from_utf8_lossy(&stderr).into_owned();
            assert!(start.elapsed() < limit, "{:?} was not applied: {told}", self.0);
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

/// Short clocks: what is tested is the order of things. 15 s is the shortest lease that the settings allow.
const CLOCKS: [&str; 10] = [
    "--set",
    "cluster.lease_s=15",
    "--set",
    "cluster.beat_s=1",
    "--set",
    "cluster.backoff_s=1",
    "--set",
    "cluster.backoff_max_s=4",
    "--set",
    // Ten minutes of faults cost more attempts than any day of a real site.
    "pipeline.retries.infrastructure=1000",
];

impl Client {
    fn reach(&self, command: &mut Command, store_variable: &str, store: &str) {
        let urls: Vec<String> = self.bus.ports.iter().map(|p| format!("nats://127.0.0.1:{p}")).collect();
        command
            .env("COORD_NATS_URL", urls.join(","))
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.store.ports[0]))
            .env(store_variable, store);
    }

    fn run(&mut self, command: &mut Command, folder: &Path) {
        self.starts += 1;
        let log = folder.join(format!("{}.{}.log", self.name, self.starts));
        self.process = Some(Running::start(bound(command), log));
        self.paused = false;
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            kill_9(process.pid());
        }
    }

    pub fn pause(&mut self) {
        if let Some(process) = &self.process {
            signal("-STOP", process.pid());
            self.paused = true;
        }
    }

    pub fn go_on(&mut self) {
        if let Some(process) = self.process.as_ref().filter(|_| self.paused) {
            signal("-CONT", process.pid());
        }
        self.paused = false;
    }

    /// kill -9 of one trainer, if there is one.
    pub fn kill_trainer(&self) {
        let Some(process) = &self.process else { return };
        let trainer = descendants(process.pid()).into_iter().rfind(|p| p.command.ends_with("fake-trainer"));
        // It may end by itself at this very moment.
        trainer
            .into_iter()
            .for_each(|p| drop(Command::new("kill").args(["-9", &p.pid.to_string()]).output()));
    }

    pub fn heal(&mut self) {
        self.bus.set(Way::Open);
        self.store.set(Way::Open);
        self.go_on();
    }
}

/// The child dies with the thread that started it: a test that is killed leaves nothing behind.
pub fn bound(command: &mut Command) -> &mut Command {
    // SAFETY: one async-signal-safe system call between fork and exec.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) }
}
