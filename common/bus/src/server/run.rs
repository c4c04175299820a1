//! Starting, stopping and restarting a private server.

use super::config::ServerConfig;
use super::error::ServerError;
use super::find::{FoundServer, find};
use super::lock::StoreLock;
use super::process::Child;
use crate::retry::Backoff;
use nix::sys::signal::Signal;
use rand::RngExt;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// A large store takes a while to be read.
const START_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// What a private server shall be like.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Created when missing. Holds the JetStream store, token, log and lock of this server.
    pub store_dir: PathBuf,
    /// `None`: that of the last start with this store if it is free, else any.
    pub port: Option<u16>,
    /// `None`: look for one, see [`find`].
    pub server_path: Option<PathBuf>,
}

impl ServerOptions {
    pub fn new(store_dir: impl Into<PathBuf>) -> Self {
        Self { store_dir: store_dir.into(), port: None, server_path: None }
    }
}

/// A private server. Dropping it asks the child to stop without waiting; [`stop`](NatsServer::stop) waits.
pub struct NatsServer {
    found: FoundServer,
    store_dir: PathBuf,
    token: String,
    port: u16,
    monitor_url: String,
    child: Child,
    // After the child: fields drop in order, and the lock outlives it.
    lock: StoreLock,
}

/// Where a started child listens.
struct Listening {
    port: u16,
    monitor_url: String,
}

impl NatsServer {
    /// Starts a server and returns when it answers.
    ///
    /// Errors: no usable binary, a store in use by another, a taken port, a server that ends at once.
    pub async fn start(options: ServerOptions) -> Result<Self, ServerError> {
        let found = find(options.server_path.as_deref()).await?;
        let store_dir = make_private_dir(&options.store_dir)?;
        make_private_dir(&store_dir.join("ports"))?;
        let lock = StoreLock::take(&store_dir).await?;
        let token = remembered_token(&store_dir)?;
        let port = match options.port {
            Some(port) if !is_free(port) => return Err(ServerError::PortTaken { port }),
            Some(port) => Some(port),
            None => remembered_port(&store_dir).filter(|port| is_free(*port)),
        };
        let (child, at) = launch(&found, &store_dir, &token, port, &lock).await?;
        let Listening { port, monitor_url } = at;
        write_private(&store_dir.join("port"), &port.to_string())?;
        tracing::info!(pid = child.pid(), port, version = %found.version, "private nats-server started");
        Ok(Self { found, store_dir, token, port, monitor_url, child, lock })
    }

    /// Address for clients, without the token.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// What a client must present.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// HTTP address of the server's own reports (`/healthz`, `/varz`, `/jsz`); differs after a restart.
    pub fn monitor_url(&self) -> &str {
        &self.monitor_url
    }

    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub fn store_dir(&self) -> &Path {
        &self.store_dir
    }

    pub fn found(&self) -> &FoundServer {
        &self.found
    }

    pub fn is_alive(&self) -> bool {
        self.child.is_alive()
    }

    /// Waits until the child ends, for whatever reason. May be dropped and called again.
    pub async fn wait(&self) -> Option<ExitStatus> {
        self.child.wait().await
    }

    /// Stops the child if it runs, and starts it again with the same store on the same port: clients reconnect
    /// by themselves.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.end().await;
        // The kernel may take a moment to give the port back.
        let deadline = Instant::now() + Duration::from_secs(2);
        while !is_free(self.port) {
            if Instant::now() >= deadline {
                return Err(ServerError::PortTaken { port: self.port });
            }
            sleep(POLL).await;
        }
        let launched = launch(&self.found, &self.store_dir, &self.token, Some(self.port), &self.lock).await;
        let (child, at) = launched?;
        self.child = child;
        self.monitor_url = at.monitor_url;
        tracing::info!(pid = self.child.pid(), port = self.port, "private nats-server restarted");
        Ok(())
    }

    /// SIGTERM, and SIGKILL after 10 s.
    pub async fn stop(self) {
        self.end().await;
    }

    /// Restarts the child whenever it ends, with a growing delay, until `until` is ready; then stops it.
    /// Gives up with the last error when it could not be started `most_failures` times in a row.
    pub async fn supervise(
        mut self,
        until: impl Future<Output = ()>,
        most_failures: u32,
    ) -> Result<(), ServerError> {
        tokio::pin!(until);
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut failures = 0;
        loop {
            tokio::select! {
                () = &mut until => break,
                status = self.wait() => tracing::warn!(?status, "private nats-server ended: restarting it"),
            }
            tokio::select! {
                () = &mut until => break,
                () = sleep(backoff.delay()) => {}
            }
            match self.restart().await {
                Ok(()) => failures = 0,
                Err(error) if failures + 1 >= most_failures => return Err(error),
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "private nats-server could not be restarted");
                }
            }
        }
        self.stop().await;
        Ok(())
    }

    async fn end(&self) {
        self.child.signal(Signal::SIGTERM);
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            tracing::warn!(pid = self.pid(), "nats-server did not stop within 10 s: killing it");
            self.child.signal(Signal::SIGKILL);
            self.child.wait().await;
        }
    }
}

async fn launch(
    found: &FoundServer,
    store_dir: &Path,
    token: &str,
    port: Option<u16>,
    lock: &StoreLock,
) -> Result<(Child, Listening), ServerError> {
    let (ports_dir, log_path) = (store_dir.join("ports"), store_dir.join("nats-server.log"));
    let (config_path, jetstream_dir) = (store_dir.join("nats-server.conf"), store_dir.join("jetstream"));
    let config = ServerConfig {
        port: port.map_or(-1, i32::from),
        token,
        store_dir: &jetstream_dir,
        ports_dir: &ports_dir,
        log_path: &log_path,
    };
    write_private(&config_path, &config.text())?;
    // What goes wrong before the log is open is told there.
    let error_path = store_dir.join("nats-server.err");
    let errors = fs::File::create(&error_path).map_err(|e| ServerError::io("error file", &error_path, &e))?;
    let mut command = Command::new(&found.path);
    command.arg("-c").arg(&config_path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
    let spawned = Child::spawn(command, lock.raw_fd()).await;
    let child = spawned.map_err(|error| ServerError::io("starting", &found.path, &error))?;
    let ready = tokio::select! {
        ready = timeout(START_TIMEOUT, listening(&ports_dir, child.pid())) => ready.ok(),
        _ = child.wait() => None,
    };
    if let Some(at) = ready {
        return Ok((child, at));
    }
    let told = fs::read_to_string(&error_path).unwrap_or_default();
    let detail = match (child.is_alive(), told.trim()) {
        (true, _) => format!("not ready within {} s", START_TIMEOUT.as_secs()),
        (false, "") => "it ended at once".to_owned(),
        (false, told) => told.to_owned(),
    };
    Err(ServerError::StartFailed { detail, log_path })
}

/// Polls for the file in which the server tells its ports, then for its greeting.
async fn listening(ports_dir: &Path, pid: u32) -> Listening {
    let path = ports_dir.join(format!("nats-server_{pid}.ports"));
    loop {
        if let Some(at) = read_ports(&path)
            && greets(at.port).await
        {
            return at;
        }
        sleep(POLL).await;
    }
}

fn read_ports(path: &Path) -> Option<Listening> {
    let ports: serde_json::Value = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
    let port = ports["nats"][0].as_str()?.rsplit_once(':')?.1.parse().ok()?;
    Some(Listening { port, monitor_url: ports["monitoring"][0].as_str()?.to_owned() })
}

async fn greets(port: u16) -> bool {
    let greeting = async {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        let mut start = [0; 5];
        socket.read_exact(&mut start).await?;
        std::io::Result::Ok(start == *b"INFO ")
    };
    matches!(timeout(Duration::from_secs(1), greeting).await, Ok(Ok(true)))
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn remembered_port(store_dir: &Path) -> Option<u16> {
    fs::read_to_string(store_dir.join("port")).ok()?.trim().parse().ok()
}

/// The token outlives a restart of its owner, so that agents that outlived it can come back.
fn remembered_token(store_dir: &Path) -> Result<String, ServerError> {
    let path = store_dir.join("token");
    match fs::read_to_string(&path) {
        Ok(token) if token.len() == 32 && token.bytes().all(|b| b.is_ascii_hexdigit()) => return Ok(token),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(ServerError::io("token file", &path, &error));
        }
        Ok(_) | Err(_) => {}
    }
    let token = format!("{:032x}", rand::rng().random::<u128>());
    write_private(&path, &token)?;
    Ok(token)
}

fn make_private_dir(path: &Path) -> Result<PathBuf, ServerError> {
    let io = |error: std::io::Error| ServerError::io("data folder", path, &error);
    fs::create_dir_all(path).map_err(io)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io)?;
    // Absolute, since the server resolves paths against its own folder.
    path.canonicalize().map_err(io)
}

/// Writes a file that only its owner can read, whole or not at all.
fn write_private(path: &Path, text: &str) -> Result<(), ServerError> {
    let io = |error: std::io::Error| ServerError::io("file", path, &error);
    let draft = path.with_extension("new");
    let opened = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft);
    opened.and_then(|mut file| file.write_all(text.as_bytes())).map_err(io)?;
    fs::rename(&draft, path).map_err(io)
}
