//! How long a site takes to go on after a coordinator was killed, alone or with the server that leads the bus.
//! All coordinators are active, so nothing is elected but the leader of the bus.

use crate::history::{History, Seen};
use crate::site::{COORDINATORS, Site};
use crate::{APPLY_LIMIT, SETTLE_LIMIT, all_finished};
use common::ids::Attempt;
use common::job_key::JobKey;
use common::slot::SlotState;
use harness::processes::wait_for;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Nobody,
    Coordinator,
    LeaderAndCoordinator,
}

/// Times of one kind of death.
#[derive(Default)]
pub struct Times {
    /// From the agent's claim of a result to its commit.
    commits: Vec<Duration>,
    /// From the kill to the next change of a chain.
    went_on: Vec<Duration>,
}

/// One plan, with the victim killed as soon as a job runs; everything is whole again when this returns.
pub fn round(site: &mut Site, history: &History, plans: u32, victim: Victim, times: &mut Times) {
    let from = history.read(|seen| (seen.slots.len(), seen.chains.len()));
    site.applier(plans).run(APPLY_LIMIT);
    wait_for("a running job", APPLY_LIMIT, || history.read(|seen| is_held(seen, from.0)).then_some(()));
    let killed = Instant::now();
    let coordinator = plans as usize % COORDINATORS;
    let mut server = None;
    if victim != Victim::Nobody {
        site.coordinators[coordinator].kill();
    }
    if victim == Victim::LeaderAndCoordinator {
        server = site.servers.leader();
        server.into_iter().for_each(|i| site.servers.kill(i));
    }
    wait_for("the end of the plan", SETTLE_LIMIT, || all_finished(site, history, plans).then_some(()));
    history.read(|seen| {
        times.commits.extend(commits(seen, from, killed));
        let next = seen.chains[from.1..].iter().map(|(at, _)| *at).find(|at| *at > killed);
        times.went_on.extend(next.map(|at| at - killed));
    });
    server.into_iter().for_each(|i| site.servers.start_one(i));
    if victim != Victim::Nobody {
        site.start_coordinator(coordinator);
    }
    wait_for("a leader", SETTLE_LIMIT, || site.servers.leader());
    std::thread::sleep(Duration::from_secs(5));
}

fn is_held(seen: &Seen, from: usize) -> bool {
    seen.slots[from..].iter().any(|(_, _, slot)| matches!(slot.state, SlotState::Held { .. }))
}

/// Claims after `killed` and the time until each was committed.
fn commits(seen: &Seen, from: (usize, usize), killed: Instant) -> Vec<Duration> {
    let mut claims: BTreeMap<(JobKey, Attempt), Instant> = BTreeMap::new();
    for (at, key, slot) in &seen.slots[from.0..] {
        if matches!(slot.state, SlotState::Finished { .. }) && *at > killed {
            claims.entry((*key, slot.attempt)).or_insert(*at);
        }
    }
    let mut times = Vec::new();
    for (at, chain) in &seen.chains[from.1..] {
        for result in chain.jobs.values().filter_map(|job| job.state.result()) {
            if let Some(claimed) = claims.remove(&(result.key, result.attempt)) {
                times.push(at.saturating_duration_since(claimed));
            }
        }
    }
    times
}

impl Times {
    pub fn is_complete(&self) -> bool {
        !self.commits.is_empty() && !self.went_on.is_empty()
    }

    pub fn row(&mut self, name: &str) -> String {
        format!(
            "{name}: claim to commit {}; kill to next change {}",
            row(&mut self.commits),
            row(&mut self.went_on)
        )
    }
}

fn row(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_millis();
    match times.len() {
        0 => "none".to_owned(),
        n => format!("p50 {} ms, p99 {} ms ({n})", at(0.5), at(0.99)),
    }
}
