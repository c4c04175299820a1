//! What must hold of a history, whatever was killed meanwhile. Each check returns what it found wrong.

use crate::history::Told;
use crate::site::CARDS;
use artifacts::Store;
use common::chain::{ChainRecord, JobState};
use common::ids::{Attempt, ChainId, Phase};
use common::job_key::JobKey;
use common::manifest::COMMITTED_MARKER;
use common::plan::Plan;
use common::registry::CommittedRef;
use common::slot::{Place, SlotState};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// All of them.
pub async fn all(told: &Told, store: &Store) -> Vec<String> {
    let mut wrong = nothing_lost(told);
    wrong.extend(one_result_a_key(told));
    wrong.extend(commits_stay(told));
    wrong.extend(one_commit_in_the_audit(told));
    wrong.extend(one_place_an_offer(told));
    wrong.extend(one_holder_an_attempt(told));
    wrong.extend(no_card_over_committed(told));
    wrong.extend(results_are_whole(told, store).await);
    wrong
}

fn results(told: &Told) -> impl Iterator<Item = (&ChainRecord, Phase, &CommittedRef)> {
    let of_chain = |chain: &'_ ChainRecord| chain.jobs.keys().copied().collect::<Vec<_>>();
    told.chains.values().flat_map(move |chain| {
        let phases = of_chain(chain).into_iter();
        phases.filter_map(move |phase| Some((chain, phase, chain.jobs[&phase].state.result()?)))
    })
}

/// The chains that follow from plans.
pub fn chains_of(plans: &[Plan]) -> Vec<ChainId> {
    let of_plan = |plan: &Plan| {
        let ids = plan.by_dataset().into_keys();
        let ids = ids.map(|dataset| ChainId { plan: plan.id.clone(), dataset: dataset.clone() });
        ids.filter(|id| ChainRecord::from_plan(plan, id).is_some()).collect::<Vec<_>>()
    };
    plans.iter().flat_map(of_plan).collect()
}

/// Every plan has its chains, and every job of them its result.
fn nothing_lost(told: &Told) -> Vec<String> {
    let unmade = chains_of(&told.plans).into_iter().filter(|id| !told.chains.contains_key(id));
    let unmade: Vec<String> = unmade.map(|id| format!("{id} was never made")).collect();
    let jobs =
        told.chains.values().flat_map(|c| c.jobs.iter().map(move |(phase, job)| (c.job_id(*phase), job)));
    let without = jobs.filter(|(_, job)| job.state.result().is_none());
    unmade
        .into_iter()
        .chain(without.map(|(id, job)| format!("{id} has no result: {:?}", job.state)))
        .collect()
}

/// I1: all records name the same attempt and manifest for a key.
fn one_result_a_key(told: &Told) -> Vec<String> {
    let mut by_key: BTreeMap<JobKey, BTreeSet<(Attempt, String)>> = BTreeMap::new();
    for (_, _, result) in results(told) {
        by_key.entry(result.key).or_default().insert((result.attempt, result.manifest.to_string()));
    }
    let twice = by_key.into_iter().filter(|(_, found)| found.len() > 1);
    twice.map(|(key, found)| format!("{key} was committed more than once: {found:?}")).collect()
}

/// A job once seen with a result is never seen without it, or with another.
fn commits_stay(told: &Told) -> Vec<String> {
    let mut known: BTreeMap<(&ChainId, Phase), &CommittedRef> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (_, chain) in &told.seen.chains {
        for (phase, job) in &chain.jobs {
            let at = (&chain.id, *phase);
            match (known.get(&at), job.state.result()) {
                (None, Some(result)) => drop(known.insert(at, result)),
                (Some(before), now) if now != Some(*before) => {
                    wrong.push(format!("{} {phase}: {before:?} became {now:?}", chain.id));
                }
                _ => {}
            }
        }
    }
    wrong
}

/// The audit stream tells each commit at most once (a killed coordinator may have told none), and truly.
fn one_commit_in_the_audit(told: &Told) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut commits: BTreeMap<_, Vec<Option<Attempt>>> = BTreeMap::new();
    for event in told.events.iter().filter(|e| e.kind == "committed") {
        commits.entry(event.job.clone()).or_default().push(event.attempt);
    }
    for (job, attempts) in commits {
        let record = job.as_ref().and_then(|job| {
            let id = ChainId { plan: job.plan.clone(), dataset: job.name.dataset.clone() };
            told.chains.get(&id)?.jobs.get(&job.name.phase)
        });
        let truth = match record.map(|r| &r.state) {
            Some(JobState::Committed { committed, .. }) => Some(committed.attempt),
            _ => None,
        };
        if attempts != [truth] {
            wrong.push(format!("audit of {job:?}: committed {attempts:?}, the record says {truth:?}"));
        }
    }
    wrong
}

/// An offer of an attempt names one place, however often it is said.
fn one_place_an_offer(told: &Told) -> Vec<String> {
    let mut places: BTreeMap<_, BTreeSet<&Place>> = BTreeMap::new();
    for offer in &told.offers {
        places.entry((offer.key, offer.attempt, offer.offer)).or_default().insert(&offer.place);
    }
    let twice = places.into_iter().filter(|(_, found)| found.len() > 1);
    twice.map(|(offer, found)| format!("offer {offer:?} went to several places: {found:?}")).collect()
}

/// A lease of an attempt has one holder, and attempts of a key go upwards only.
fn one_holder_an_attempt(told: &Told) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut holders: BTreeMap<(JobKey, Attempt), BTreeSet<String>> = BTreeMap::new();
    let mut newest: BTreeMap<JobKey, Attempt> = BTreeMap::new();
    for (_, key, slot) in &told.seen.slots {
        if let SlotState::Held { place, incarnation, .. } = &slot.state {
            holders.entry((*key, slot.attempt)).or_default().insert(format!("{}/{incarnation}", place.node));
        }
        let before = newest.insert(*key, slot.attempt).unwrap_or(slot.attempt);
        if before > slot.attempt {
            wrong.push(format!("{key}: attempt {before} was followed by {}", slot.attempt));
        }
    }
    let twice = holders.into_iter().filter(|(_, found)| found.len() > 1);
    wrong.extend(twice.map(|(attempt, found)| format!("{attempt:?} had several holders: {found:?}")));
    wrong
}

/// Longest time in which a slot may still say `Held` after its memory was given back: the last checkpoint is
/// saved before the end is told.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// I3: what holders keep of a card is at most nine tenths of it. Offers may overlap, since two coordinators place
/// at the same moment; the agent's ledger admits one of them and declines the other.
fn no_card_over_committed(told: &Told) -> Vec<String> {
    let mut held: BTreeMap<JobKey, Place> = BTreeMap::new();
    let mut over_since: BTreeMap<usize, Instant> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (at, key, slot) in &told.seen.slots {
        match &slot.state {
            SlotState::Held { place, .. } => drop(held.insert(*key, place.clone())),
            _ => drop(held.remove(key)),
        }
        for (i, total) in CARDS.iter().enumerate() {
            let on_card = held.values().filter(|p| p.device.as_str() == format!("GPU-{i}"));
            let sum: u64 = on_card.map(|p| p.reserve_mib.0).sum();
            if sum <= total * 9 / 10 {
                over_since.remove(&i);
            } else if at.duration_since(*over_since.entry(i).or_insert(*at)) > TOLD_WITHIN {
                wrong.push(format!("GPU-{i}: {sum} MiB of {total} are held: {held:?}"));
            }
        }
    }
    wrong
}

/// Each result lies whole in the store, under its marker.
async fn results_are_whole(told: &Told, store: &Store) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut looked: BTreeSet<JobKey> = BTreeSet::new();
    for (chain, phase, result) in results(told) {
        if !looked.insert(result.key) {
            continue;
        }
        if let Err(e) = artifacts::run::verify_run(store, &result.prefix(), &result.manifest).await {
            wrong.push(format!("{} {phase}: {e}", chain.id));
        }
        let marker = format!("{}/{COMMITTED_MARKER}", result.key.run_prefix());
        let text = store.get(&marker, 4096).await.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let truth = format!("{}\n{}\n", result.attempt, result.manifest);
        if !matches!(&text, Ok(text) if *text == truth) {
            wrong.push(format!("{} {phase}: its marker says {text:?}, the record {result:?}", chain.id));
        }
    }
    wrong
}
