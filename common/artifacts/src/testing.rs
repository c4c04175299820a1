//! A real S3 server (SeaweedFS) for tests: started on free loopback ports with its own folder, stopped when
//! dropped. Feature `testing`; no product code may use it. Blocking: it is for the start of a test.

use crate::options::{Secret, StoreOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const ACCESS_KEY: &str = "testkey";
const SECRET_KEY: &str = "testsecret12345";
const BUCKET: &str = "test";
/// The server takes 4 s on a free machine; a loaded one gets more.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// Starts with other ports, should someone take one between our look and the server's.
const START_TRIES: usize = 5;
/// SeaweedFS opens a gRPC port this far above each of its ports.
const GRPC_OFFSET: u16 = 10_000;

#[derive(Debug, thiserror::Error)]
pub enum WeedError {
    #[error(
        "no SeaweedFS server found for the S3 tests (looked at $COORD_WEED, {}, and PATH); \
         `make test` fetches it, or run `python3 scripts/setup.py --tests`", .0.display()
    )]
    NotInstalled(PathBuf),
    #[error("cannot start the SeaweedFS server {}: {source}", .weed.display())]
    Spawn { weed: PathBuf, source: std::io::Error },
    #[error("SeaweedFS did not come up: {why}; its last words:\n{log}")]
    NotReady { why: String, log: String },
}

/// A running server with an empty bucket.
pub struct Weed {
    server: Child,
    dir: TempDir,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct Ports {
    master: u16,
    volume: u16,
    filer: u16,
    s3: u16,
}

impl Weed {
    pub fn start() -> Result<Weed, WeedError> {
        let weed = find_weed()?;
        let mut last = None;
        for _ in 0..START_TRIES {
            match Weed::try_start(&weed) {
                Err(e @ WeedError::NotReady { .. }) => last = Some(e),
                other => return other,
            }
        }
        Err(last.unwrap_or(WeedError::NotInstalled(weed))) // START_TRIES > 0: `last` is set
    }

    fn try_start(weed: &Path) -> Result<Weed, WeedError> {
        let failed = |source| WeedError::Spawn { weed: weed.to_owned(), source };
        let dir = TempDir::new().map_err(failed)?;
        let ports = Ports::free().map_err(failed)?;
        let identities = serde_json::json!({"identities": [{
            "name": "test",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]});
        let config = dir.path().join("s3.json");
        std::fs::write(&config, identities.to_string()).map_err(failed)?;
        std::fs::create_dir(dir.path().join("data")).map_err(failed)?;
        let log = std::fs::File::create(dir.path().join("log")).map_err(failed)?;
        // The shell ends the server when its stdin closes: also when the test itself is killed.
        let server = Command::new("sh")
            .args(["-c", r#""$@" </dev/null & child=$!; read -r _; kill -9 $child"#, "weed-keeper"])
            .arg(weed)
            .args(ports.arguments(dir.path(), &config))
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        let server = Weed { server, dir, ports };
        server.wait_ready()?;
        Ok(server)
    }

    fn wait_ready(&self) -> Result<(), WeedError> {
        let until = Instant::now() + START_TIMEOUT;
        let bucket = format!("/buckets/{BUCKET}/");
        let mut why;
        loop {
            why = match self.probe(&bucket) {
                Ok(()) => return Ok(()),
                Err(why) => why,
            };
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let taken = log.contains("address already in use");
            if taken || Instant::now() > until {
                let from = log.len().saturating_sub(2000);
                let log = String::from_utf8_lossy(&log.as_bytes()[from..]).into_owned();
                return Err(WeedError::NotReady { why, log });
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The S3 door listens, the bucket is there, and a volume takes bytes.
    fn probe(&self, bucket: &str) -> Result<(), String> {
        let said = |e: std::io::Error| e.to_string();
        TcpStream::connect(loopback(self.ports.s3)).map_err(said)?;
        http(self.ports.filer, "POST", bucket, "").map_err(said)?;
        http(self.ports.filer, "PUT", &format!("{bucket}.probe"), "x").map_err(said)?;
        http(self.ports.filer, "DELETE", &format!("{bucket}.probe"), "").map_err(said)
    }

    /// `s3://bucket/prefix`; give each suite its own prefix.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}")
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", loopback(self.ports.s3))
    }

    /// Options that open this server, whatever the environment says.
    pub fn options(&self) -> StoreOptions {
        StoreOptions {
            endpoint: Some(self.endpoint()),
            region: Some("us-east-1".to_owned()),
            access_key_id: Some(ACCESS_KEY.to_owned()),
            secret_access_key: Some(Secret(SECRET_KEY.to_owned())),
            ..StoreOptions::default()
        }
    }

    /// The same as the standard variables, for processes that a test starts.
    pub fn env(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
        ]
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        drop(self.server.stdin.take()); // the keeper's `read` ends, and it kills the server
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            match self.server.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }
}

impl Ports {
    /// Four ports that are free now together with their gRPC companions.
    fn free() -> std::io::Result<Ports> {
        let mut held = Vec::new();
        let mut found = Vec::new();
        for _ in 0..1000 {
            let listener = TcpListener::bind(loopback(0))?;
            // Ephemeral ports begin at 32768: ten thousand lower stays in the unprivileged range.
            let Some(port) = listener.local_addr()?.port().checked_sub(GRPC_OFFSET) else { continue };
            if let Ok(lower) = TcpListener::bind(loopback(port)) {
                held.push((listener, lower));
                found.push(port);
            }
            if let [master, volume, filer, s3] = found[..] {
                return Ok(Ports { master, volume, filer, s3 });
            }
        }
        Err(std::io::Error::other("no four free ports on the loopback interface"))
    }

    fn arguments(&self, dir: &Path, config: &Path) -> Vec<String> {
        let mut arguments: Vec<String> = ["server", "-filer", "-s3"].map(str::to_owned).into();
        arguments.push(format!("-dir={}", dir.join("data").display()));
        arguments.push(format!("-s3.config={}", config.display()));
        for (name, port) in
            [("master", self.master), ("volume", self.volume), ("filer", self.filer), ("s3", self.s3)]
        {
            arguments.push(format!("-{name}.port={port}"));
        }
        let fixed = "-ip=127.0.0.1 -ip.bind=127.0.0.1 -s3.iam=false -s3.port.iceberg=0 -s3.port.lance=0 \
                     -master.telemetry=false -master.volumeSizeLimitMB=512 -volume.max=50";
        arguments.extend(fixed.split_whitespace().map(str::to_owned));
        arguments
    }
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// One request to SeaweedFS' own file door; an answer other than 2xx is an error.
fn http(port: u16, method: &str, path: &str, body: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(loopback(port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_whitespace().nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => Err(std::io::Error::other(format!("{method} {path}: {}", answer.lines().next().unwrap_or("")))),
    }
}

fn find_weed() -> Result<PathBuf, WeedError> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.deps/bin/weed");
    let named = std::env::var_os("COORD_WEED").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).map(|dir| dir.join("weed")).collect();
    let mut places = named.into_iter().chain([fetched.clone()]).chain(on_path);
    places.find(|p| p.is_file()).ok_or(WeedError::NotInstalled(fetched))
}
