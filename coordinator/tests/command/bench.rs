//! A folder of captures, a private nats-server, and `coord` run against both.

use bus::server::{NatsServer, ServerOptions};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

pub struct Bench {
    pub dir: TempDir,
    server: Option<NatsServer>,
}

/// What a command printed and how it ended.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e} in {:?} / {:?}", self.out, self.err))
    }

    /// Panics with everything printed unless the exit code is this one.
    pub fn expect(self, code: i32) -> Ended {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }
}

const CSV: &str = "timestamp,arbitration_id,data_field,attack\n1.0,0C9,00,0\n1.1,0D1,00,0\n1.2,0C9,01,0\n";

impl Bench {
    /// Two datasets, no server.
    pub fn without_bus() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        for capture in ["car/train_01/a.csv", "car/test_01/b.csv", "van/train_01/a.csv"] {
            let path = dir.path().join("data").join(capture);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, CSV).unwrap();
        }
        Bench { dir, server: None }
    }

    pub async fn with_bus() -> Bench {
        let mut bench = Bench::without_bus();
        let started = NatsServer::start(ServerOptions::new(bench.path("nats"))).await;
        bench.server = Some(started.unwrap_or_else(|e| panic!("{e} (make setup fetches one)")));
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn server(&self) -> &NatsServer {
        self.server.as_ref().unwrap()
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coord"));
        command.args(line.split_whitespace()).current_dir(self.dir.path()).env_clear();
        command.env("COORD_DATA", self.path("data")).env("COORD_STORE", self.path("store"));
        // A plan listens for one beat; where nobody speaks that is all it does.
        command.env("COORD_CLUSTER__BEAT_S", "1");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if let Some(server) = &self.server {
            command.env("COORD_NATS_URL", server.url()).env("COORD_NATS_TOKEN", server.token());
        }
        command
    }

    pub fn coord(&self, line: &str) -> Ended {
        let Output { status, stdout, stderr } = self.command(line).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended { code: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
    }

    /// A command that goes on until dropped.
    pub fn start(&self, line: &str) -> Started {
        let mut command = self.command(line);
        Started(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Tries a command until its JSON is as wanted, for at most 20 s.
    pub fn until(&self, line: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        for _ in 0..100 {
            let ended = self.coord(line);
            if ended.code == 0 {
                let json = ended.json();
                if wanted(&json) {
                    return json;
                }
                last = Some(json);
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        panic!("{line}: never as wanted, at last {last:?}");
    }
}

pub struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        // Gone already is as good.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files.extend(files_below(&path)),
            path => files.push(path),
        }
    }
    files.sort();
    files
}
