//! Checks every few seconds: reasons (I5), restarts (I6), memory of fenced attempts (I12), and whether all is
//! at rest.

use super::super::coordinator::{self, Fact};
use super::super::queue::{Actor, Ev};
use super::{rest, writes};
use crate::sim::World;
use coordinator_core::view::JobView;
use coordinator_core::{Event, State, apply, due, explain};

/// Longest time from a lost slot to the end of its child: the renewal that shows it, the look at the slot,
/// and the kill.
const FENCED_WITHIN_MS: u64 = 13_000;
/// From the moment the agent knows.
const FREED_WITHIN_MS: u64 = 5_000;

pub fn round(w: &mut World) {
    let again = w.rng.range(2_000, 6_000);
    w.after(again, Ev::Audit);
    for c in 0..w.coordinators.len() {
        reasons(w, c);
        if w.rng.chance(300) {
            restart(w, c);
        }
    }
    for n in 0..w.nodes.len() {
        fenced(w, n);
        freed(w, n);
    }
    if w.calm && rest::is(w) {
        rest::check(w);
        w.history.at_rest = true;
    }
}

/// I5: every job that neither runs nor is over can be explained.
fn reasons(w: &mut World, c: usize) {
    let now = coordinator::now(w, c);
    let Some(state) = w.coordinators[c].state.as_ref() else { return };
    let mut broken = None;
    for chain in state.active_chains() {
        for (phase, job) in &chain.record.jobs {
            if job.state.is_terminal() {
                continue;
            }
            let id = chain.record.job_id(*phase);
            match explain(state, now, &id) {
                Some(why) if !why.reasons.is_empty() || matches!(why.view, JobView::Running { .. }) => {}
                other => broken = Some(format!("{id}: {other:?}")),
            }
        }
    }
    if let Some(broken) = broken {
        w.violated("I5 every wait has a reason", broken);
    }
}

/// I6: a coordinator that starts now and reads the buckets decides what this one decides, but for what only
/// this process can know: when it heard of things, what it has said and been told by the store.
fn restart(w: &mut World, c: usize) {
    let now = coordinator::now(w, c);
    let Some(old) = w.coordinators[c].state.as_ref().filter(|s| s.loaded && s.bus_up) else { return };
    let mut fresh = State::new(old.options.clone());
    for fact in
        (0..coordinator::BUCKETS).flat_map(|which| coordinator::bucket(&w.bus, which)).map(Fact::into_event)
    {
        let _ = apply(&mut fresh, now, fact);
    }
    let _ = apply(&mut fresh, now, Event::Loaded);
    let in_step = old.plans.len() == fresh.plans.len()
        && old.chains.len() == fresh.chains.len()
        && old.slots.len() == fresh.slots.len()
        && old.registry.len() == fresh.registry.len()
        && old.standings.len() == fresh.standings.len()
        && fresh
            .standings
            .iter()
            .all(|(n, s)| old.standings.get(n).is_some_and(|o| o.revision == s.revision))
        && fresh.chains.iter().all(|(id, s)| old.chains.get(id).is_some_and(|o| o.revision == s.revision))
        && fresh.slots.iter().all(|(k, s)| old.slots.get(k).is_some_and(|o| o.revision == s.revision))
        && fresh.registry.iter().all(|(n, s)| old.registry.get(n).is_some_and(|o| o.revision == s.revision));
    if !in_step {
        return; // news are on their way
    }
    let mut old = old.clone();
    old.chains.values_mut().for_each(|s| s.seen_at = now);
    old.slots.values_mut().for_each(|s| s.seen_at = now);
    old.standings.values_mut().for_each(|s| s.seen_at = now);
    // Counted by each coordinator for itself: what is lost with one is a quarantine that comes later.
    old.suspects.clear();
    old.published.clear();
    old.used.clear();
    let told = old.committed.iter().filter(|(key, result)| w.store.known(key).0 == Some(*result));
    fresh.committed.extend(told.map(|(key, result)| (*key, result.clone())));
    old.verified.clear();
    old.declined.clear();
    fresh.declined.clear();
    for seen in old.nodes.values() {
        let _ = apply(&mut fresh, seen.heard_at, Event::Beat { beat: Box::new(seen.beat.clone()) });
    }
    // Heard in another order than here, some may have been forgotten.
    fresh.nodes = old.nodes.clone();
    let (ours, theirs) = (due(&old, now), due(&fresh, now));
    if ours != theirs {
        w.violated("I6 a restart loses nothing", format!("{ours:?} became {theirs:?}"));
    }
}

/// A child whose slot is somebody else's does not live on under an agent that could know.
fn fenced(w: &mut World, n: usize) {
    let life = w.nodes[n].life;
    let pids: Vec<u32> = w.nodes[n].children.values().filter(|c| c.life == life).map(|c| c.pid).collect();
    pids.into_iter().for_each(|pid| outlived(w, n, pid));
}

/// I12 for one child, while it lives and when it ends.
pub fn outlived(w: &mut World, n: usize, pid: u32) {
    let Some(child) = w.nodes[n].children.get(&pid) else { return };
    let Some(lost_at) = child.lost_at else { return };
    if w.now.saturating_sub(lost_at) > FENCED_WITHIN_MS && writes::undisturbed(w, n, FENCED_WITHIN_MS) {
        let text = format!("child {pid} of {} lived on, its slot was lost at {lost_at}", child.run);
        w.violated("I12 a lost attempt ends", text);
    }
}

/// I12: 5 s after the agent knows, the child is gone and the memory free.
fn freed(w: &mut World, n: usize) {
    let now = w.now;
    let blind = w.menu.blind_probe;
    let paused = w.gate(Actor::Node(n)).paused || !writes::undisturbed(w, n, FREED_WITHIN_MS);
    let node = &mut w.nodes[n];
    let Some(agent) = node.agent.as_ref() else { return };
    let mut broken = None;
    node.fenced.retain(|run, at| {
        let alive = node.children.values().any(|c| c.run == *run && c.life == node.life);
        let waits = alive || (agent.ledger.has(run) && !blind);
        // A new offer of the same attempt may have come since.
        let again = agent.runs.get(run).is_some_and(|r| r.state.claim().is_some());
        if waits && !again && !paused && now.saturating_sub(*at) > FREED_WITHIN_MS {
            broken = Some(format!("{run} was fenced at {at}, child alive: {alive}"));
        }
        waits && !again
    });
    if let Some(broken) = broken {
        w.violated("I12 a fenced attempt frees its memory", broken);
    }
}
