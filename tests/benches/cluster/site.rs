//! The processes: a nats-server that syncs each write, `coord serve`, agents, and a store on this disk.

use bus::server::{NatsServer, ServerOptions};
use bus::{NatsBus, NatsOptions, SharedBus};
use harness::processes::{Running, program};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Cards of one agent: room for more jobs than any size asks for.
const CARDS: usize = 16;
const CARD_MIB: u64 = 81_559;

pub struct Site {
    // Children end before their server, and all before the folder goes.
    agents: Vec<Running>,
    pub coordinator: Running,
    pub server: NatsServer,
    pub runtime: Runtime,
    folder: TempDir,
}

impl Site {
    pub fn start() -> Site {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let server = start_server(&runtime, &folder.path().join("nats"));
        let mut serve = Command::new(program("coord"));
        reach(serve.arg("serve"), &server, folder.path());
        let coordinator = Running::start(&mut serve, folder.path().join("serve.log"));
        Site { agents: Vec::new(), coordinator, server, runtime, folder }
    }

    pub fn start_agent(&mut self, script: &str) {
        let name = format!("node-{}", self.agents.len());
        let gpus = self.folder.path().join(format!("{name}.gpus.json"));
        let card = |i: usize| {
            serde_json::json!({"id": format!("GPU-{name}-{i}"), "kind": "gpu", "model": "NVIDIA A100-SXM4-80GB",
                "total_mib": CARD_MIB, "used_mib": 0, "processes": [], "utilization_percent": 0, "fault": null})
        };
        let cards: Vec<_> = (0..CARDS).map(card).collect();
        std::fs::write(&gpus, serde_json::json!({"devices": cards}).to_string()).expect("writable");
        let mut command = Command::new(program("node-agent"));
        command
            .args(["--node", &name, "--cpu", "no"])
            .arg("--trainer")
            .arg(program("fake-trainer"))
            .arg("--work-dir")
            .arg(self.folder.path().join(&name))
            .env("COORD_SCRIPTED_GPUS", gpus)
            .env("FAKE_TRAINER", script);
        reach(&mut command, &self.server, self.folder.path());
        let log = self.folder.path().join(format!("{name}.log"));
        self.agents.push(Running::start(&mut command, log));
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `coord` with a command, run to its end.
    pub fn coord(&self, args: &[&str]) {
        let mut command = Command::new(program("coord"));
        reach(command.args(args), &self.server, self.folder.path());
        let done = command.output().expect("coord runs");
        assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// One small dataset each.
    pub fn make_captures(&self, datasets: usize) {
        (0..datasets).for_each(|i| captures(&self.folder.path().join("data").join(dataset(i)), i));
    }

    pub fn connect(&self, name: &str) -> SharedBus {
        connect(&self.runtime, &self.server, name)
    }
}

pub fn dataset(i: usize) -> String {
    format!("d{i:04}")
}

pub fn start_server(runtime: &Runtime, store: &Path) -> NatsServer {
    let options = ServerOptions::new(PathBuf::from(store));
    runtime.block_on(NatsServer::start(options)).unwrap_or_else(|e| panic!("{e}"))
}

pub fn connect(runtime: &Runtime, server: &NatsServer, name: &str) -> SharedBus {
    let options = NatsOptions::new(server.url(), name).token(server.token());
    runtime.block_on(NatsBus::connect(options)).unwrap_or_else(|e| panic!("{e}")).shared()
}

fn reach(command: &mut Command, server: &NatsServer, folder: &Path) {
    let store = format!("file://{}", folder.join("store").display());
    command
        .current_dir(folder)
        .env("COORD_NATS_URL", server.url())
        .env("COORD_NATS_TOKEN", server.token())
        .env("COORD_STORE", &store)
        .env("COORD_STORE_URL", &store)
        .env("COORD_DATA", folder.join("data"));
}

/// Other content for each, or all would be the same job.
fn captures(folder: &Path, number: usize) {
    for part in ["train_01", "test_01"] {
        let rows = format!("1.0,0C9,{number:08X},0\n1.1,0D1,00,0\n1.2,0C9,01,0\n");
        std::fs::create_dir_all(folder.join(part)).expect("writable");
        let text = format!("timestamp,arbitration_id,data_field,attack\n{rows}");
        std::fs::write(folder.join(part).join("a.csv"), text).expect("writable");
    }
}
