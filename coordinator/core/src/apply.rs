//! Facts into state. Each is checked against what is known: an older revision than the one at hand is
//! refused, since buckets are watched and read side by side and messages come late or twice.

use crate::index;
use crate::placement::index as rooms;
use crate::standing;
use crate::state::{ChainSeen, NodeSeen, RegistrySeen, SlotSeen, State, Verified};
use common::chain::ChainRecord;
use common::ids::{Attempt, ChainId, JobName, NodeId, Revision};
use common::job_key::JobKey;
use common::messages::NodeBeat;
use common::node::NodeRecord;
use common::plan::Plan;
use common::registry::{CommittedRef, RegistryEntry};
use common::slot::{Slot, SlotState};
use common::units::Millis;

/// Silence, in leases, after which a node without a slot is forgotten: ten minutes by default.
const FORGET_AFTER_LEASES: u64 = 20;

/// A fact from outside.
#[derive(Debug, Clone)]
pub enum Event {
    PlanSeen {
        plan: Box<Plan>,
    },
    ChainSeen {
        record: Box<ChainRecord>,
        revision: Revision,
    },
    ChainGone {
        id: ChainId,
    },
    SlotSeen {
        key: JobKey,
        slot: Slot,
        revision: Revision,
    },
    SlotGone {
        key: JobKey,
        revision: Revision,
    },
    RegistrySeen {
        entry: Box<RegistryEntry>,
        revision: Revision,
    },
    RegistryGone {
        name: JobName,
    },
    NodeDecided {
        record: Box<NodeRecord>,
        revision: Revision,
    },
    /// All buckets were read to their end.
    Loaded,
    Beat {
        beat: Box<NodeBeat>,
    },
    Verified {
        key: JobKey,
        attempt: Attempt,
        outcome: Verified,
    },
    OfferPublished {
        key: JobKey,
        attempt: Attempt,
        offer: u32,
    },
    /// The store holds something of this attempt, which therefore is not to be offered (again).
    AttemptUsed {
        key: JobKey,
        attempt: Attempt,
    },
    /// The store holds a committed result that the buckets do not know (any more).
    ResultFound {
        committed: CommittedRef,
    },
    BusLost,
    BusBack,
    /// This process did not run for a while (stopped, or starved): silence of that time proves nothing, for
    /// the bus may have been away too. Told by the loop before it decides.
    StoodStill,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    Yes,
    No,
}

/// A fact that was not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("revision {given:?} is older than {known:?}")]
    Stale { given: Revision, known: Revision },
    #[error("beat {given} of an agent is older than {known}")]
    OldBeat { given: u64, known: u64 },
}

pub fn apply(state: &mut State, now: Millis, event: Event) -> Result<Changed, Refused> {
    match event {
        Event::PlanSeen { plan } => {
            let id = plan.id.clone();
            if state.plans.contains_key(&id) {
                return Ok(Changed::No);
            }
            state.plans.insert(id.clone(), *plan);
            index::plan_seen(state, &id);
            Ok(Changed::Yes)
        }
        Event::ChainSeen { record, revision } => chain_seen(state, now, *record, revision),
        Event::ChainGone { id } => {
            state.active.remove(&id);
            let was_there = state.chains.remove(&id).is_some();
            index::chain_gone(state, &id);
            Ok(changed_if(was_there))
        }
        Event::SlotSeen { key, slot, revision } => slot_seen(state, now, key, slot, revision),
        Event::SlotGone { key, revision } => match state.slots.get(&key) {
            Some(seen) if seen.revision > revision => {
                Err(Refused::Stale { given: revision, known: seen.revision })
            }
            _ => {
                let was_there = state.slots.remove(&key).is_some();
                rooms::slot_changed(state, &key);
                index::slot_changed(state, &key);
                Ok(changed_if(was_there))
            }
        },
        Event::RegistrySeen { entry, revision } => registry_seen(state, *entry, revision),
        Event::RegistryGone { name } => {
            let was_there = state.registry.remove(&name).is_some();
            index::registry_changed(state, &name);
            Ok(changed_if(was_there))
        }
        Event::NodeDecided { record, revision } => match state.standings.get(&record.node) {
            Some(seen) if seen.revision > revision => {
                Err(Refused::Stale { given: revision, known: seen.revision })
            }
            Some(seen) if seen.revision == revision => Ok(Changed::No),
            _ => {
                standing::decided(state, now, *record, revision);
                Ok(Changed::Yes)
            }
        },
        Event::Loaded => {
            state.loaded = true;
            state.loaded_at = now;
            Ok(Changed::Yes)
        }
        Event::Beat { beat } => beat_heard(state, now, *beat),
        Event::Verified { key, attempt, outcome } => {
            state.verified.insert((key, attempt), outcome);
            Ok(Changed::Yes)
        }
        Event::OfferPublished { key, attempt, offer } => {
            state.published.insert(key, (attempt, offer));
            Ok(Changed::Yes)
        }
        Event::AttemptUsed { key, attempt } => {
            let newest = state.used.get(&key).is_none_or(|known| *known < attempt);
            if newest {
                state.used.insert(key, attempt);
            }
            Ok(changed_if(newest))
        }
        Event::ResultFound { committed } => {
            let known = state.committed.insert(committed.key, committed.clone());
            Ok(changed_if(known.as_ref() != Some(&committed)))
        }
        Event::BusLost => {
            state.bus_up = false;
            Ok(Changed::Yes)
        }
        Event::BusBack => {
            state.bus_up = true;
            start_clocks_anew(state, now);
            Ok(Changed::Yes)
        }
        Event::StoodStill => {
            start_clocks_anew(state, now);
            Ok(Changed::Yes)
        }
    }
}

/// Renewals and beats could not be heard for a while: silence counts from now on.
fn start_clocks_anew(state: &mut State, now: Millis) {
    state.slots.values_mut().for_each(|s| s.seen_at = now);
    state.nodes.values_mut().for_each(|n| n.heard_at = now);
}

fn changed_if(changed: bool) -> Changed {
    if changed { Changed::Yes } else { Changed::No }
}

fn chain_seen(
    state: &mut State,
    now: Millis,
    record: ChainRecord,
    revision: Revision,
) -> Result<Changed, Refused> {
    let id = record.id.clone();
    match state.chains.get(&id) {
        Some(seen) if seen.revision > revision => {
            return Err(Refused::Stale { given: revision, known: seen.revision });
        }
        Some(seen) if seen.revision == revision => return Ok(Changed::No),
        _ => {}
    }
    let seen = ChainSeen::new(record, revision, now);
    // An excluded or kept job's inputs are those of now, its result may be of another key.
    for (_, result) in index::results(&seen) {
        state.committed.insert(result.key, result.clone());
    }
    for (phase, key) in &seen.keys {
        if seen.record.jobs.get(phase).is_some_and(|job| job.state.is_terminal()) {
            forget_attempts(state, key);
        }
    }
    if seen.record.is_finished() {
        state.active.remove(&id);
    } else {
        state.active.insert(id.clone());
    }
    state.chains.insert(id.clone(), seen);
    index::chain_seen(state, &id);
    Ok(Changed::Yes)
}

/// Nobody asks again what was said about the attempts of a job that is over. (Another plan with the same job
/// asks anew.)
fn forget_attempts(state: &mut State, key: &JobKey) {
    let asked: Vec<_> =
        state.verified.range((*key, Attempt(0))..).take_while(|((k, _), _)| k == key).collect();
    let asked: Vec<(JobKey, Attempt)> = asked.into_iter().map(|(id, _)| *id).collect();
    asked.iter().for_each(|id| drop(state.verified.remove(id)));
    state.declined.retain(|(k, _), _| k != key);
    state.published.remove(key);
    state.used.remove(key);
}

fn slot_seen(
    state: &mut State,
    now: Millis,
    key: JobKey,
    slot: Slot,
    revision: Revision,
) -> Result<Changed, Refused> {
    if let Some(seen) = state.slots.get(&key) {
        if seen.revision > revision {
            return Err(Refused::Stale { given: revision, known: seen.revision });
        }
        if seen.revision == revision {
            return Ok(Changed::No);
        }
    }
    if let SlotState::Declined { place, .. } = &slot.state {
        state.declined.insert((key, place.node.clone()), now);
    }
    standing::slot_moves(state, &key, &slot);
    state.slots.insert(key, SlotSeen { slot, revision, seen_at: now });
    rooms::slot_changed(state, &key);
    index::slot_changed(state, &key);
    Ok(Changed::Yes)
}

fn registry_seen(state: &mut State, entry: RegistryEntry, revision: Revision) -> Result<Changed, Refused> {
    if let Some(seen) = state.registry.get(&entry.name) {
        if seen.revision > revision {
            return Err(Refused::Stale { given: revision, known: seen.revision });
        }
        if seen.revision == revision {
            return Ok(Changed::No);
        }
    }
    state.committed.insert(entry.committed.key, entry.committed.clone());
    let name = entry.name.clone();
    state.registry.insert(name.clone(), RegistrySeen { entry, revision });
    index::registry_changed(state, &name);
    Ok(Changed::Yes)
}

fn beat_heard(state: &mut State, now: Millis, beat: NodeBeat) -> Result<Changed, Refused> {
    if let Some(seen) = state.nodes.get(&beat.node)
        && seen.beat.incarnation == beat.incarnation
        && seen.beat.seq >= beat.seq
    {
        return Err(Refused::OldBeat { given: beat.seq, known: seen.beat.seq });
    }
    let node = beat.node.clone();
    let before = state.nodes.insert(node.clone(), NodeSeen { beat, heard_at: now }).map(|seen| seen.beat);
    index::node_changed(state, &node, before.as_ref());
    rooms::node_changed(state, &node, before);
    forget_the_silent(state, now);
    Ok(Changed::Yes)
}

/// A node that has been silent for long was taken away: nobody waits for its devices any more. One that holds
/// a slot is kept: its attempt is ended by the lease, and told with the node's name.
fn forget_the_silent(state: &mut State, now: Millis) {
    let limit = Millis(state.options.lease.0.saturating_mul(FORGET_AFTER_LEASES));
    // A large fleet speaks often: once a lease is soon enough to look at all of it.
    if now.since(state.rooms.looked_at) < state.options.lease {
        return;
    }
    state.rooms.looked_at = now;
    let silent = |(node, seen): (&NodeId, &NodeSeen)| {
        let forgotten = now.since(seen.heard_at) > limit && state.rooms.on(node).next().is_none();
        forgotten.then(|| node.clone())
    };
    let gone: Vec<NodeId> = state.nodes.iter().filter_map(silent).collect();
    for node in gone {
        let before = state.nodes.remove(&node).map(|seen| seen.beat);
        index::node_changed(state, &node, before.as_ref());
        rooms::node_changed(state, &node, before);
    }
}
