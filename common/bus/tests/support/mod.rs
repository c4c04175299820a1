//! Buses for tests.

use bus::server::{NatsServer, ServerOptions};
use bus::{BusLayout, NatsBus, NatsOptions, SharedBus};
use futures::{Stream, StreamExt};
use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(20);

/// A real server in a folder of its own.
pub struct Server {
    pub server: NatsServer,
    _dir: TempDir,
}

pub async fn nats() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let server = NatsServer::start(ServerOptions::new(dir.path().join("nats"))).await.unwrap();
    Server { server, _dir: dir }
}

impl Server {
    pub fn options(&self) -> NatsOptions {
        NatsOptions::new(self.server.url(), "test").token(self.server.token())
    }

    /// A connection, with the default layout in place.
    pub async fn bus(&self) -> SharedBus {
        let bus = NatsBus::connect(self.options()).await.unwrap().shared();
        bus.ensure(&BusLayout::default()).await.unwrap();
        bus
    }

    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// The next item, which must come in time.
pub async fn next<T>(stream: &mut (impl Stream<Item = bus::Result<T>> + Unpin)) -> T {
    let item = tokio::time::timeout(LONG, stream.next()).await.expect("nothing came");
    item.expect("the stream ended").expect("the stream failed")
}
