//! Three nats-servers of one cluster on the loopback interface, each killed and restarted at will.

use crate::site::bound;
use harness::processes::{Running, kill_9, signal, wait_for};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A cluster that starts on a busy machine; an election takes 4 to 9 s on a free one.
const START_LIMIT: Duration = Duration::from_secs(90);
pub const SERVERS: usize = 3;

pub struct Servers {
    program: PathBuf,
    folder: PathBuf,
    servers: Vec<Server>,
}

struct Server {
    ports: Ports,
    process: Option<Running>,
    starts: u32,
}

#[derive(Clone, Copy)]
struct Ports {
    client: u16,
    cluster: u16,
    monitor: u16,
}

impl Servers {
    pub fn start(program: &Path, folder: &Path) -> Servers {
        let ports = free_ports(3 * SERVERS);
        let ports = ports.chunks(3).map(|p| Ports { client: p[0], cluster: p[1], monitor: p[2] });
        let servers = ports.map(|ports| Server { ports, process: None, starts: 0 }).collect();
        let mut all = Servers { program: program.to_owned(), folder: folder.to_owned(), servers };
        (0..SERVERS).for_each(|i| all.start_one(i));
        wait_for("a leader of the NATS cluster", START_LIMIT, || all.leader());
        all
    }

    pub fn port(&self, i: usize) -> u16 {
        self.servers[i].ports.client
    }

    /// Addresses of all servers, without any proxy.
    pub fn url(&self) -> String {
        let each = self.servers.iter().map(|s| format!("nats://127.0.0.1:{}", s.ports.client));
        each.collect::<Vec<_>>().join(",")
    }

    /// Monitoring pages of all servers.
    pub fn pages(&self) -> String {
        let each = self.servers.iter().map(|s| format!("http://127.0.0.1:{}", s.ports.monitor));
        each.collect::<Vec<_>>().join(",")
    }

    pub fn start_one(&mut self, i: usize) {
        let config = self.folder.join(format!("n{i}.conf"));
        std::fs::write(&config, self.config(i)).expect("the test's folder is writable");
        let server = &mut self.servers[i];
        server.starts += 1;
        let log = self.folder.join(format!("n{i}.{}.log", server.starts));
        let mut command = Command::new(&self.program);
        server.process = Some(Running::start(bound(command.arg("-c").arg(config)), log));
    }

    pub fn kill(&mut self, i: usize) {
        if let Some(process) = self.servers[i].process.take() {
            kill_9(process.pid());
        }
    }

    /// An orderly stop, as an upgrade does it.
    pub fn stop(&mut self, i: usize) {
        if let Some(mut process) = self.servers[i].process.take() {
            signal("-TERM", process.pid());
            process.wait(Duration::from_secs(30));
        }
    }

    /// All servers at once come back without anything they knew.
    pub fn lose_everything(&mut self) {
        (0..SERVERS).for_each(|i| self.kill(i));
        for i in 0..SERVERS {
            std::fs::remove_dir_all(self.folder.join(format!("n{i}"))).expect("the store of a server");
            self.start_one(i);
        }
        wait_for("a leader of the NATS cluster", START_LIMIT, || self.leader());
    }

    pub fn is_running(&self, i: usize) -> bool {
        self.servers[i].process.is_some()
    }

    /// The server that leads the cluster's own records, by whom streams are placed.
    pub fn leader(&self) -> Option<usize> {
        let told = self.servers.iter().filter(|s| s.process.is_some());
        let told = told.filter_map(|s| ask(s.ports.monitor, "/jsz")).collect::<Vec<_>>();
        let name = told.iter().find_map(|page| page["meta_cluster"]["leader"].as_str())?;
        let index: usize = name.strip_prefix('n')?.parse().ok()?;
        // A dead leader is named until the others have noticed.
        (index < SERVERS && self.is_running(index)).then_some(index)
    }

    /// Copies of each stream and bucket, as a server that has all of them says.
    pub fn replicas(&self) -> Vec<(String, u64)> {
        let page = wait_for("the list of streams", START_LIMIT, || {
            let at = self.servers.iter().find(|s| s.process.is_some())?;
            ask(at.ports.monitor, "/jsz?streams=true&config=true")
        });
        let streams = page["account_details"][0]["stream_detail"].as_array().cloned().unwrap_or_default();
        let one = |s: &Value| Some((s["name"].as_str()?.to_owned(), s["config"]["num_replicas"].as_u64()?));
        streams.iter().filter_map(one).collect()
    }

    fn config(&self, i: usize) -> String {
        let routes = self.servers.iter().map(|s| format!("\"nats://127.0.0.1:{}\"", s.ports.cluster));
        let Ports { client, cluster, monitor } = self.servers[i].ports;
        format!(
            "server_name: n{i}\nlisten: \"127.0.0.1:{client}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
             jetstream {{ store_dir: {store:?}, sync_interval: always }}\n\
             # Clients know their ways, which lead through proxies.\n\
             cluster {{ name: chaos, listen: \"127.0.0.1:{cluster}\", no_advertise: true, routes: [{routes}] }}\n",
            store = self.folder.join(format!("n{i}")).display().to_string(),
            routes = routes.collect::<Vec<_>>().join(", "),
        )
    }
}

/// Ports that are free now. Someone may take one before it is used; then the start fails and says so.
pub fn free_ports(count: usize) -> Vec<u16> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let held: Vec<TcpListener> = (0..count).map(|_| bind()).collect();
    held.iter().map(|l| l.local_addr().expect("just bound").port()).collect()
}

/// A page of a server's monitoring, `None` when it does not answer.
fn ask(port: u16, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}
