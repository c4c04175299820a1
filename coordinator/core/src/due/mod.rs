//! State into effects. Nothing is remembered between two calls: what is said here follows from what was
//! observed, and stays said until the observation changes.

mod commit;
mod lease;
mod offer;
mod preempt;
mod publish;
mod yields;

use crate::effect::Effect;
use crate::state::{ChainSeen, State};
use common::chain::{ChainRecord, JobRecord};
use common::ids::{Attempt, ChainId, Phase};
use common::job_key::JobKey;
use common::units::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// Everything that should happen now. At most one effect a key (see [`Effect::key`]).
pub fn due(state: &State, now: Millis) -> Vec<Effect> {
    if !state.loaded || !state.bus_up {
        return Vec::new();
    }
    let mut effects = new_chains(state);
    let chains = state.active_chains();
    let owners = owners(&chains);
    let mut waiting = Vec::new();
    for chain in chains {
        // One write of a record at a time: the first job that needs one goes first, the rest follows when
        // the write has been seen.
        let mut writes = chain_writes(state, now, chain, &owners);
        match writes.next() {
            Some(write) => effects.push(write),
            None => waiting.extend(open_jobs(chain).filter(|job| is_owner(&owners, job))),
        }
    }
    effects.extend(lease::fence(state));
    effects.extend(commit::verify(state, now, &waiting));
    let (offers, unplaced) = offer::offers(state, now, &waiting);
    effects.extend(offers);
    let victims = preempt::victims(state, now, &waiting, &unplaced);
    effects.extend(yields::yields(state, now, &waiting, &victims));
    effects.extend(crate::standing::quarantines(state, now));
    effects.extend(publish::publish(state));
    let mut said = BTreeSet::new();
    effects.retain(|e| said.insert(e.key()));
    effects
}

/// An open job of a chain, ready to be judged.
#[derive(Clone, Copy)]
pub(crate) struct OpenJob<'a> {
    pub chain: &'a ChainSeen,
    pub phase: Phase,
    pub job: &'a JobRecord,
    pub key: JobKey,
    pub attempt: Attempt,
    pub backoff: Millis,
}

pub(crate) fn open_jobs(chain: &ChainSeen) -> impl Iterator<Item = OpenJob<'_>> {
    chain.record.jobs.iter().filter_map(move |(phase, job)| {
        let common::chain::JobState::Open { attempt, backoff_ms } = job.state else { return None };
        let key = *chain.keys.get(phase)?;
        Some(OpenJob { chain, phase: *phase, job, key, attempt, backoff: Millis(backoff_ms) })
    })
}

/// Of several chains that hold the same job, the one that runs it; the others wait for its result.
pub(crate) fn owners<'a>(chains: &[&'a ChainSeen]) -> Owners<'a> {
    let mut owners = Owners::new();
    for chain in chains {
        for job in open_jobs(chain) {
            owners.entry(job.key).or_insert(&chain.record.id);
        }
    }
    owners
}

pub(crate) type Owners<'a> = BTreeMap<JobKey, &'a ChainId>;

fn is_owner(owners: &Owners<'_>, job: &OpenJob<'_>) -> bool {
    owners.get(&job.key) == Some(&&job.chain.record.id)
}

/// Plans that were applied and have no chains yet (the apply is one write; the chains follow from it).
fn new_chains(state: &State) -> Vec<Effect> {
    let records = state.index.unmade.iter().filter_map(|id| {
        let plan = state.plans.get(&id.plan)?;
        ChainRecord::from_plan(plan, id)
    });
    records.map(|record| Effect::CreateChain { record }).collect()
}

/// Writes of the chain that its own record, the slots and the store ask for.
fn chain_writes<'a>(
    state: &'a State,
    now: Millis,
    chain: &'a ChainSeen,
    owners: &'a Owners<'a>,
) -> impl Iterator<Item = Effect> + 'a {
    open_jobs(chain).filter_map(move |job| {
        let written = match state.committed.get(&job.key) {
            Some(done) => Some(crate::transition::up_to_date(&chain.record, job.phase, done.clone())),
            None if !is_owner(owners, &job) => None,
            None => commit::of_finished(state, &job).or_else(|| lease::ended(state, now, &job)),
        };
        let (record, notes) = written?;
        let guard = state.slots.get(&job.key).map(|seen| (job.key, seen.revision));
        Some(Effect::WriteChain { record, expected: chain.revision, guard, notes })
    })
}
