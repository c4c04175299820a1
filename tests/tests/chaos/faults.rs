//! The faults, by seed: what is broken when, and how each is mended.

use crate::proxy::Way;
use crate::servers::SERVERS;
use crate::site::{CARDS, COORDINATORS, Site};
use harness::sim::rng::Rng;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    KillCoordinator,
    /// The server that leads the cluster.
    KillLeader,
    /// The leader and a coordinator at once.
    KillLeaderAndCoordinator,
    /// SIGTERM and start again.
    RestartServer,
    /// SIGSTOP: longer than the lease.
    PauseAgent,
    PauseCoordinator,
    KillAgent,
    KillTrainer,
    CutAgent,
    CutCoordinator,
    CutStore,
    /// Half a second more for each piece that is read or written.
    SlowStore,
    /// 503 to whatever is asked.
    BusyStore,
    /// No byte more can be written where an agent works.
    FullDisk,
}

const ALL: [Fault; 14] = [
    Fault::PauseAgent,
    Fault::KillCoordinator,
    Fault::KillLeader,
    Fault::CutAgent,
    Fault::BusyStore,
    Fault::KillTrainer,
    Fault::FullDisk,
    Fault::RestartServer,
    Fault::KillAgent,
    Fault::CutStore,
    Fault::CutCoordinator,
    Fault::KillLeaderAndCoordinator,
    Fault::PauseCoordinator,
    Fault::SlowStore,
];
const CUTS: [Way; 5] = [Way::Silent, Way::NoRequests, Way::NoAnswers, Way::Refused, Way::Slow];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mend {
    Server(usize),
    Coordinator(usize),
    Agent(usize),
}

/// Breaks and mends, a step at a time.
pub struct Chaos {
    rng: Rng,
    started: Instant,
    next_at: Duration,
    round: Vec<Fault>,
    mends: Vec<(Duration, Mend)>,
    pub happened: BTreeMap<String, u32>,
}

impl Chaos {
    pub fn new(seed: u64) -> Chaos {
        Chaos {
            rng: Rng::new(seed),
            started: Instant::now(),
            next_at: Duration::from_secs(2),
            round: Vec::new(),
            mends: Vec::new(),
            happened: BTreeMap::new(),
        }
    }

    /// Mends what is due, and breaks the next thing when its time has come.
    pub fn step(&mut self, site: &mut Site) {
        let now = self.started.elapsed();
        let due: Vec<Mend> = self.mends.iter().filter(|(at, _)| *at <= now).map(|(_, what)| *what).collect();
        self.mends.retain(|(at, _)| *at > now);
        due.into_iter().for_each(|what| mend(site, what));
        if now < self.next_at {
            return;
        }
        if self.round.is_empty() {
            // Each kind once before any comes again, the longest first in the first round.
            self.round = ALL.to_vec();
            if !self.happened.is_empty() {
                self.shuffle();
            }
            self.round.reverse();
        }
        let Some(fault) = self.round.pop() else { return };
        let said = self.happen(site, fault);
        println!("chaos: {:>6.1} s {said}", now.as_secs_f64());
        *self.happened.entry(format!("{fault:?}")).or_default() += 1;
        self.next_at = now + Duration::from_millis(self.rng.range(2_000, 7_000));
    }

    /// Everything runs and reaches everything again.
    pub fn heal(&mut self, site: &mut Site) {
        self.mends.clear();
        (0..SERVERS).for_each(|i| mend(site, Mend::Server(i)));
        (0..COORDINATORS).for_each(|i| mend(site, Mend::Coordinator(i)));
        (0..CARDS.len()).for_each(|i| mend(site, Mend::Agent(i)));
    }

    fn shuffle(&mut self) {
        for i in (1..self.round.len()).rev() {
            let other = self.rng.index(i + 1);
            self.round.swap(i, other);
        }
    }

    fn later(&mut self, from_ms: u64, to_ms: u64, what: Mend) -> u64 {
        let ms = self.rng.range(from_ms, to_ms);
        self.mends.push((self.started.elapsed() + Duration::from_millis(ms), what));
        ms
    }

    fn happen(&mut self, site: &mut Site, fault: Fault) -> String {
        let (c, n) = (self.rng.index(COORDINATORS), self.rng.index(CARDS.len()));
        match fault {
            Fault::KillCoordinator => self.kill_coordinator(site, c),
            Fault::KillLeader => self.kill_leader(site),
            Fault::KillLeaderAndCoordinator => {
                format!("{}, {}", self.kill_leader(site), self.kill_coordinator(site, c))
            }
            Fault::RestartServer => {
                let i = self.rng.index(SERVERS);
                if !self.may_lose_a_server(site) {
                    return "no server restarted: one is away".to_owned();
                }
                site.servers.stop(i);
                site.servers.start_one(i);
                format!("server n{i} restarted")
            }
            Fault::PauseAgent => {
                site.agents[n].pause();
                let ms = self.later(40_000, 40_000, Mend::Agent(n));
                format!("agent {n} stopped for {ms} ms")
            }
            Fault::PauseCoordinator => {
                site.coordinators[c].pause();
                let ms = self.later(5_000, 30_000, Mend::Coordinator(c));
                format!("coordinator {c} stopped for {ms} ms")
            }
            Fault::KillAgent => {
                site.agents[n].kill();
                let ms = self.later(500, 20_000, Mend::Agent(n));
                format!("agent {n} killed, back after {ms} ms")
            }
            Fault::KillTrainer => {
                site.agents[n].kill_trainer();
                format!("a trainer of agent {n} killed")
            }
            Fault::CutAgent => {
                let way = *self.rng.pick(&CUTS);
                site.agents[n].bus.set(way);
                let ms = self.later(3_000, 35_000, Mend::Agent(n));
                format!("agent {n} and the bus: {way:?} for {ms} ms")
            }
            Fault::CutCoordinator => {
                let way = *self.rng.pick(&CUTS);
                site.coordinators[c].bus.set(way);
                let ms = self.later(3_000, 35_000, Mend::Coordinator(c));
                format!("coordinator {c} and the bus: {way:?} for {ms} ms")
            }
            Fault::CutStore => {
                let way = *self.rng.pick(&CUTS);
                self.spoil_store(site, way, [c, n])
            }
            Fault::SlowStore => self.spoil_store(site, Way::Slow, [c, n]),
            Fault::BusyStore => self.spoil_store(site, Way::Busy, [c, n]),
            Fault::FullDisk => match site.disks[n].fill() {
                true => {
                    let ms = self.later(3_000, 20_000, Mend::Agent(n));
                    format!("disk of agent {n} full for {ms} ms")
                }
                false => "no disk is filled: this machine allows no mounts of our own".to_owned(),
            },
        }
    }

    fn spoil_store(&mut self, site: &mut Site, way: Way, [c, n]: [usize; 2]) -> String {
        site.agents[n].store.set(way);
        site.coordinators[c].store.set(way);
        let agent_ms = self.later(3_000, 15_000, Mend::Agent(n));
        let coordinator_ms = self.later(3_000, 15_000, Mend::Coordinator(c));
        format!("the store {way:?} for agent {n} ({agent_ms} ms) and coordinator {c} ({coordinator_ms} ms)")
    }

    fn kill_coordinator(&mut self, site: &mut Site, c: usize) -> String {
        site.coordinators[c].kill();
        let ms = self.later(1_000, 15_000, Mend::Coordinator(c));
        format!("coordinator {c} killed, back after {ms} ms")
    }

    fn kill_leader(&mut self, site: &mut Site) -> String {
        match site.servers.leader().filter(|_| self.may_lose_a_server(site)) {
            Some(i) => {
                site.servers.kill(i);
                let ms = self.later(1_000, 10_000, Mend::Server(i));
                format!("leader n{i} killed, back after {ms} ms")
            }
            None => "no leader to be killed now".to_owned(),
        }
    }

    /// Two of three must run: what is promised is the loss of any one.
    fn may_lose_a_server(&self, site: &Site) -> bool {
        (0..SERVERS).all(|i| site.servers.is_running(i))
    }
}

fn mend(site: &mut Site, what: Mend) {
    match what {
        Mend::Server(i) if !site.servers.is_running(i) => site.servers.start_one(i),
        Mend::Server(_) => {}
        Mend::Coordinator(c) => {
            site.coordinators[c].heal();
            if !site.coordinators[c].is_running() {
                site.start_coordinator(c);
            }
        }
        Mend::Agent(n) => {
            site.agents[n].heal();
            site.disks[n].empty();
            if !site.agents[n].is_running() {
                site.start_agent(n);
            }
        }
    }
}
