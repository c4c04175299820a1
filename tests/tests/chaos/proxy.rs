//! A small TCP proxy: what stands between two processes, and what a network does to them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// What a network may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    Open = 0,
    /// Nothing passes, and nobody is told: a pulled cable. What was sent arrives when it is mended.
    Silent = 1,
    /// Nothing from the client arrives; answers still do.
    NoRequests = 2,
    /// Requests arrive, answers do not.
    NoAnswers = 3,
    /// Connections are closed and new ones refused.
    Refused = 4,
    /// Everything takes half a second longer.
    Slow = 5,
    /// Each request is answered "503 Slow Down" at once: an object store with more work than it can do.
    Busy = 6,
}

/// What a busy store says, and hangs up.
const SLOW_DOWN: &[u8] = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The ways of one process to all it speaks with, switched together.
pub struct Ways {
    shared: Arc<Shared>,
    pub ports: Vec<u16>,
}

#[derive(Default)]
struct Shared {
    way: AtomicU8,
    over: AtomicU8,
    connections: Mutex<Vec<TcpStream>>,
}

impl Ways {
    /// One listening port for each of `to`, in their order.
    pub fn new(to: &[u16]) -> Ways {
        let shared = Arc::new(Shared::default());
        let open = |target: &u16| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let port = listener.local_addr().expect("just bound").port();
            let (shared, target) = (shared.clone(), *target);
            spawn(move || accept(&listener, target, &shared));
            port
        };
        let ports = to.iter().map(open).collect();
        Ways { shared, ports }
    }

    pub fn set(&self, way: Way) {
        self.shared.way.store(way as u8, Relaxed);
        if way == Way::Refused {
            self.shared.close_all();
        }
    }
}

impl Drop for Ways {
    fn drop(&mut self) {
        self.shared.over.store(1, Relaxed);
        self.shared.close_all();
        // Wakes each accept, which then sees that it is over.
        self.ports.iter().for_each(|port| drop(TcpStream::connect((Ipv4Addr::LOCALHOST, *port))));
    }
}

impl Shared {
    fn is(&self, ways: &[Way]) -> bool {
        ways.iter().any(|way| *way as u8 == self.way.load(Relaxed))
    }

    fn is_over(&self) -> bool {
        self.over.load(Relaxed) != 0
    }

    fn close_all(&self) {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        // Closed already is as good.
        all.drain(..).for_each(|c| drop(c.shutdown(Shutdown::Both)));
    }

    fn remember(&self, connection: &TcpStream) {
        if let Ok(clone) = connection.try_clone() {
            self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(clone);
        }
    }
}

fn accept(listener: &TcpListener, target: u16, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.is_over() {
            return;
        }
        let Ok(client) = client else { continue };
        if shared.is(&[Way::Refused]) {
            continue;
        }
        // The other end may be dead at the moment: the client sees a closed connection, as it would.
        let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
        shared.remember(&client);
        shared.remember(&server);
        let (Ok(client2), Ok(server2)) = (client.try_clone(), server.try_clone()) else { continue };
        let there = shared.clone();
        let back = shared.clone();
        spawn(move || pump(client, server, &there, &[Way::Silent, Way::NoRequests]));
        spawn(move || pump(server2, client2, &back, &[Way::Silent, Way::NoAnswers]));
    }
}

/// Bytes in one direction, until either end closes.
fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared, held_by: &[Way]) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(bytes) = from.read(&mut buffer) {
        if bytes == 0 {
            break;
        }
        if shared.is(&[Way::Slow]) {
            sleep(Duration::from_millis(500));
        }
        if shared.is(&[Way::Busy]) && held_by.contains(&Way::NoRequests) {
            // A client that is gone does not read it.
            let _ = from.write_all(SLOW_DOWN);
            break;
        }
        while shared.is(held_by) && !shared.is_over() {
            sleep(Duration::from_millis(20));
        }
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    // Closed already is as good.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

#[test]
fn a_silent_way_holds_bytes_back_and_a_refused_one_closes() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let ways = Ways::new(&[listener.local_addr().expect("bound").port()]);
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, ways.ports[0])).expect("the proxy listens");
    let (mut server, _) = listener.accept().expect("the proxy connects");
    server.set_read_timeout(Some(Duration::from_millis(300))).expect("settable");
    let mut byte = [0];

    ways.set(Way::NoRequests);
    client.write_all(b"a").expect("taken by the proxy");
    assert!(server.read(&mut byte).is_err(), "held back");
    server.write_all(b"b").expect("taken by the proxy");
    client.read_exact(&mut byte).expect("the other direction is open");
    assert_eq!(byte, *b"b");

    ways.set(Way::Open);
    server.set_read_timeout(Some(Duration::from_secs(20))).expect("settable");
    server.read_exact(&mut byte).expect("what was held arrives");
    assert_eq!(byte, *b"a");

    ways.set(Way::Refused);
    assert_eq!(client.read(&mut byte).ok(), Some(0), "closed");

    ways.set(Way::Busy);
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, ways.ports[0])).expect("the proxy listens");
    client.write_all(b"PUT / HTTP/1.1\r\n\r\n").expect("taken by the proxy");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("answered and closed");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}
