//! The event queue: ordered by time, ties broken by chance, so that two things of one millisecond come in
//! either order over the seeds.

use super::admin::AdminEv;
use super::bus::{Caller, Op, Reply};
use super::coordinator::{Fact, WatchKey};
use super::faults::Fault;
use common::messages::NodeBeat;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

/// Who an event is for. Everything an actor is told is lost when that life of it is over and waits while it
/// is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    Coordinator(usize),
    Node(usize),
}

#[derive(Debug)]
pub enum Ev {
    /// A request reaches the bus. Without `answer` nobody waits any more.
    Arrive {
        from: Caller,
        op: Op,
        answer: bool,
    },
    To {
        actor: Actor,
        life: u32,
        msg: Msg,
    },
    /// A child takes its next step; children run on when their agent is paused.
    Child {
        node: usize,
        pid: u32,
    },
    /// A process dies of a signal sent earlier.
    ChildKilled {
        node: usize,
        pid: u32,
    },
    Admin(AdminEv),
    Fault(Fault),
    /// The next round of checks of things that no single event breaks.
    Audit,
}

/// What one actor is told.
#[derive(Debug)]
pub enum Msg {
    Reply {
        token: u64,
        reply: Reply,
    },
    Tick,
    // coordinators
    Decide,
    Probe,
    Fact(Fact),
    CatchUp(WatchKey),
    Snapshot(usize),
    Beat(Arc<NodeBeat>),
    /// The store's answer to the coordinator's task.
    Stored {
        token: u64,
    },
    // agents
    Start,
    Sample,
    SendBeat,
    Agent(Box<agent_core::Event>),
    /// The end of a task of the agent's shell.
    Done {
        token: u64,
    },
    Offer {
        offer: Arc<common::messages::JobOffer>,
        tries: u32,
    },
}

struct Entry {
    at: (u64, u64, u64),
    ev: Ev,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.at == other.at
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> Ordering {
        self.at.cmp(&other.at)
    }
}

#[derive(Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    pushed: u64,
}

impl Queue {
    pub fn push(&mut self, time_ms: u64, tie: u64, ev: Ev) {
        self.pushed += 1;
        self.heap.push(Reverse(Entry { at: (time_ms, tie, self.pushed), ev }));
    }

    pub fn pop(&mut self) -> Option<(u64, Ev)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at.0, entry.ev))
    }
}
