//! Checks at the moment something becomes durable, or a child starts.

use super::super::agent::trainer;
use super::super::coordinator::options;
use super::super::queue::Actor;
use crate::sim::World;
use common::chain::{ChainRecord, JobState};
use common::ids::Revision;
use common::job_key::JobKey;
use common::messages::JobOffer;
use common::registry::RegistryEntry;
use common::slot::{Cause, Slot, SlotState};
use common::units::Millis;
use coordinator_core::{Event, State, apply, invariants};

/// Marks that the suites ask for by name.
pub const COMMITS: &str = "a result was committed";
pub const LOST: &str = "an attempt was lost to the infrastructure";

/// A lease may end when nobody renewed it for this long while the bus answered. Less than the lease itself:
/// short outages are not noticed by everybody.
const SILENCE_MS: u64 = 15_000;

pub fn chain(w: &mut World, before: Option<&ChainRecord>, after: &ChainRecord, judged_at: u64) {
    let (was, is) = (state_with(before), state_with(Some(after)));
    let mut broken = invariants::check(&is);
    broken.extend(invariants::check_commit(&was, &is, &after.id));
    if let Some(broken) = broken.into_iter().next() {
        w.violated(broken.invariant, broken.text);
    }
    for (phase, job) in &after.jobs {
        let was = before.and_then(|b| b.jobs.get(phase));
        let Some(was) = was else { continue };
        if was.state == job.state {
            continue;
        }
        let name = format!("{} {phase}", after.id);
        let reopened = w.admin.reopening && was.state.result().is_none();
        if was.state.is_terminal() && !reopened {
            w.violated("the end of a job is final", format!("{name}: {:?} -> {:?}", was.state, job.state));
        }
        match &job.state {
            JobState::Committed { committed, .. } => {
                w.history.mark(COMMITS);
                if let Some(first) = w.history.commits.insert(committed.key, committed.clone()) {
                    w.violated("I1 one commit per key", format!("{name}: {first:?} and {committed:?}"));
                }
                if Some(committed.key) != was.key() {
                    w.violated("I2 the key of the job", &name);
                }
                if !w.store.is_whole(&committed.key, committed.attempt, &committed.manifest) {
                    w.violated("a commit is whole in the store", format!("{name} {}", committed.attempt));
                }
            }
            JobState::UpToDate { committed } => {
                w.history.mark("another plan's result served");
                if w.history.commits.get(&committed.key) != Some(committed) {
                    w.violated("I1 only what was committed is up to date", &name);
                }
            }
            JobState::Open { attempt, .. } => {
                if was.open_attempt().is_some() && job.past.len() == was.past.len() {
                    w.history.mark("an attempt number of another plan was passed over");
                }
                if was.open_attempt().is_some_and(|a| a >= *attempt) {
                    w.violated("attempts grow", format!("{name}: {:?} -> {:?}", was.state, job.state));
                }
            }
            JobState::Failed { .. } => w.history.mark("a job failed"),
            JobState::Skipped { .. } => w.history.mark("a job was skipped"),
            JobState::Cancelled { .. } => w.history.mark("a job was cancelled"),
            JobState::Blocked => {}
        }
        if job.past.len() > was.past.len() {
            let past = &job.past[job.past.len() - 1];
            w.history.mark(match past.cause {
                Cause::Infrastructure => LOST,
                Cause::Preemption => "an attempt was preempted",
                Cause::OutOfMemory => "an attempt ran out of memory",
                Cause::Diverged => "an attempt diverged",
                Cause::UserError => "an attempt met unusable captures",
                Cause::Store => "a store refused a result for too long",
            });
            if past.message.contains("makes way for") {
                w.history.mark("an attempt made way for a higher priority");
            }
            lease(w, &name, was.key(), &past.message, judged_at);
        }
    }
}

/// I11 and the like are asked of a state that holds this record alone.
fn state_with(record: Option<&ChainRecord>) -> State {
    let mut state = State::new(options());
    if let Some(record) = record {
        let seen = Event::ChainSeen { record: Box::new(record.clone()), revision: Revision(1) };
        // The first record of a chain is never too old.
        let _taken = apply(&mut state, Millis(0), seen);
    }
    state
}

/// No lease is ended before its holder had time to renew it.
fn lease(w: &mut World, name: &str, key: Option<JobKey>, message: &str, judged_at: u64) {
    if message.starts_with("result is not whole") {
        w.history.mark("a torn result was refused");
    }
    if !message.starts_with("lease ran out") {
        return;
    }
    w.history.mark("a lease ran out");
    if w.scenario.menu.stale_reads {
        return;
    }
    let Some(entry) = key.and_then(|key| w.bus.slots.get(&key)) else { return };
    // The write may land after renewals that its decision could not know of, also one of the same moment.
    let known = entry.writes.iter().rev().find(|at| **at < judged_at);
    let written_at = known.copied().unwrap_or(entry.written_at);
    let silent_ms = w.bus.uptime(written_at, judged_at);
    if silent_ms < SILENCE_MS {
        let writes = entry.writes.clone();
        w.violated(
            "a lease outlives its renewal",
            format!("{name}: ended at {judged_at} after {silent_ms} ms of silence, written at {writes:?}"),
        );
    }
}

pub fn slot(w: &mut World, key: &JobKey, before: Option<&Slot>, after: &Slot) {
    trainer::slot_moved(w, key, after);
    let Some(before) = before else {
        if matches!(after.state, SlotState::Offered { .. }) {
            return;
        }
        if w.bus.has_lost_slots {
            w.history.mark("a holder wrote its lost slot anew");
        } else {
            w.violated("a slot begins with an offer", format!("{after:?}"));
        }
        return;
    };
    use SlotState::*;
    match &after.state {
        Declined { .. } => w.history.mark("an offer was declined"),
        Closed { .. } => w.history.mark("a slot was closed over its holder"),
        Offered { .. } if after.offer > 1 => w.history.mark("an offer was made again"),
        _ => {}
    }
    let same_offer = before.attempt == after.attempt && before.offer == after.offer;
    let fine = match (&before.state, &after.state) {
        _ if after.attempt < before.attempt => false,
        (_, Offered { .. }) if after.attempt > before.attempt => true,
        (Offered { .. } | Declined { .. }, Offered { .. }) => after.offer > before.offer,
        (Offered { place: a }, Held { place: b, .. } | Declined { place: b, .. }) => same_offer && a == b,
        (
            Held { incarnation: a, beat: was, yields: before, .. },
            Held { incarnation: b, beat: is, yields: after, .. },
        ) => {
            let asks = before.is_none() && after.is_some();
            if asks {
                w.history.mark("a holder was asked to yield");
            }
            same_offer && a == b && (is > was || is == was && asks) && (before.is_none() || after == before)
        }
        (Held { .. }, Finished { .. } | Failed { .. }) => same_offer,
        (Offered { .. } | Held { .. }, Closed { .. }) => same_offer,
        _ => false,
    };
    // Over a slot that went back in time its holder writes what it knows; never the other way round.
    let forward = (after.attempt, after.offer) >= (before.attempt, before.offer);
    let after_a_loss = w.bus.has_lost_slots && forward;
    if !fine && !after_a_loss {
        let text = format!("{}: {before:?} -> {after:?}", key.0.short());
        w.violated("a slot moves as drawn in common::slot", text);
    }
}

/// A later plan's result replaces an earlier one's, never the other way round.
pub fn registry(w: &mut World, entry: &RegistryEntry) {
    if let Some((_, known)) = w.bus.registry.get(&entry.name)
        && known.plan_created > entry.plan_created
    {
        let text = format!("{}: {} over {}", entry.name, entry.plan, known.plan);
        w.violated("the registry only moves on", text);
    }
    if w.history.commits.get(&entry.committed.key) != Some(&entry.committed) {
        w.violated("only commits are in use", format!("{}", entry.name));
    }
}

/// I3 and I4 at the start of a child.
pub fn child_started(w: &mut World, n: usize, pid: u32, offer: &JobOffer) {
    for (phase, parent) in &offer.parents {
        if !w.store.is_whole(&parent.key, parent.attempt, &parent.manifest) {
            w.violated("I4 parents first", format!("{} starts without {phase}", offer.job.name));
        }
    }
    let expected: Vec<_> = offer.spec.inputs.parents.keys().collect();
    if expected.iter().any(|p| !offer.parents.contains_key(p)) {
        w.violated("I4 parents first", format!("{} is offered without {expected:?}", offer.job.name));
    }
    let node = &w.nodes[n];
    let Some(child) = node.children.get(&pid) else { return };
    let Some(device) = node.devices.iter().find(|d| d.id == child.device) else { return };
    let beside = node.children.values().filter(|c| c.device == child.device);
    let reserved: u64 = beside.map(|c| c.reserved_mib).sum();
    let budget = device.budget_mib();
    if reserved > budget {
        let text = format!("{reserved} MiB of children on {} {} of {budget}", node.id, device.id);
        w.violated("I3 never over-committed", text);
    }
}

/// Whether an agent had a clear line for all of the last `for_ms`.
pub fn undisturbed(w: &World, n: usize, for_ms: u64) -> bool {
    let gate = w.gate(Actor::Node(n));
    let quiet = gate.disturbed_until.saturating_add(for_ms) <= w.now;
    quiet && !gate.paused && w.bus.uptime(w.now.saturating_sub(for_ms), w.now) >= for_ms
}
