//! Slots read and written: taking, renewing, telling the end, being fenced.

use super::{ending, stopping};
use crate::attempt::{AttemptState, Claim, Run, Saves, Take, Verdict};
use crate::effect::ABSENT;
use crate::event::{Change, Changed, ReadOutcome, Refused, WriteOutcome};
use crate::fence::{self, Standing};
use crate::options::Options;
use crate::state::{Mode, Orphan, RunId, State};
use crate::tries::Tries;
use common::ids::Revision;
use common::job_key::JobKey;
use common::slot::{Cause, Failure, Slot, SlotState};
use common::units::Millis;

pub(super) fn at_start(state: &mut State, now: Millis, slots: Vec<(JobKey, Revision, Slot)>) -> Changed {
    let mut changed = Changed::nothing();
    for (key, revision, slot) in slots {
        if fence::is_orphan(&slot, &state.options.node, state.options.incarnation) {
            state.orphans.insert(key, Orphan { revision, slot, retry_at: now });
            changed.add(Changed::one(Change::OrphanFound { key }));
        }
    }
    changed
}

pub(super) fn read(
    state: &mut State,
    now: Millis,
    key: JobKey,
    outcome: ReadOutcome,
) -> Result<Changed, Refused> {
    let ids: Vec<RunId> = state.runs.keys().filter(|id| id.key == key).copied().collect();
    if ids.is_empty() {
        return Err(Refused::NobodyWaits(key));
    }
    let mut changed = Changed::nothing();
    for id in ids {
        changed.add(match &outcome {
            ReadOutcome::Unavailable { .. } => postpone(state, now, id),
            ReadOutcome::Absent => absent(state, now, id),
            ReadOutcome::Found { revision, slot } => found(state, now, id, *revision, slot),
        });
    }
    Ok(changed)
}

fn postpone(state: &mut State, now: Millis, id: RunId) -> Changed {
    let again = now.plus(state.options.retry_after);
    let Some(run) = state.runs.get_mut(&id) else { return Changed::nothing() };
    if let AttemptState::Taking(Take::Read { retry_at, .. }) = &mut run.state {
        *retry_at = again;
    }
    if let Some(claim) = run.state.claim_mut()
        && claim.read_at.is_some()
    {
        claim.read_at = Some(again);
    }
    Changed::nothing()
}

/// Slots are never deleted: one that is gone was lost by the bus. An attempt at hand makes its slot anew, if
/// nobody else did; a mere offer is made again by the coordinator.
fn absent(state: &mut State, now: Millis, id: RunId) -> Changed {
    let Some(run) = state.runs.get(&id) else { return Changed::nothing() };
    if run.state.claim().is_none() {
        return give_up(state, now, id, "the slot is gone".to_owned());
    }
    let mut changed = resume_claim(state, now, id, ABSENT, None);
    let message = "the bus has lost its slot, which is written anew".to_owned();
    changed.add(Changed::one(Change::Trouble { run: id, message }));
    changed
}

/// The slot is not ours to work for.
fn give_up(state: &mut State, now: Millis, id: RunId, why: String) -> Changed {
    let Some(run) = state.runs.get_mut(&id) else { return Changed::nothing() };
    match run.state {
        AttemptState::Taking(_) => drop_offer(state, id, why),
        AttemptState::Cleaning { .. } | AttemptState::Stopping { claim: None, .. } => Changed::nothing(),
        _ => ending::lose(&mut state.ledger, run, why, now),
    }
}

pub(super) fn drop_offer(state: &mut State, id: RunId, why: String) -> Changed {
    state.runs.remove(&id);
    state.ledger.release(&id);
    Changed::one(Change::Dropped { run: id, why })
}

fn found(state: &mut State, now: Millis, id: RunId, revision: Revision, slot: &Slot) -> Changed {
    let Some(run) = state.runs.get(&id) else { return Changed::nothing() };
    let verdict = match &run.state {
        AttemptState::Closing { verdict, .. } => Some(verdict),
        _ => None,
    };
    let us = state.options.incarnation;
    let standing = fence::judge(slot, &id, &run.offer, &state.options.node, us, verdict);
    if let Some(claim) = run.state.claim() {
        // A read that was on its way while we wrote tells of the past.
        if claim.read_at.is_none() && revision <= claim.revision {
            return Changed::nothing();
        }
        return match standing {
            Standing::Lost { to } => give_up(state, now, id, to),
            Standing::Told => told(state, id),
            Standing::Offered | Standing::Behind { .. } => resume_claim(state, now, id, revision, None),
            Standing::Held { beat, yields } => {
                let mut changed = resume_claim(state, now, id, revision, Some(beat));
                changed.add(stopping::asked(state, now, id, yields));
                changed
            }
        };
    }
    if !matches!(run.state, AttemptState::Taking(Take::Read { .. })) {
        return Changed::nothing();
    }
    match standing {
        Standing::Offered => admit(state, now, id, revision),
        Standing::Held { beat, yields } => {
            let mut changed = adopt(state, now, id, revision, beat);
            changed.add(stopping::asked(state, now, id, yields));
            changed
        }
        Standing::Told => drop_offer(state, id, "it is told already".to_owned()),
        Standing::Behind { to } => drop_offer(state, id, to),
        Standing::Lost { to } => drop_offer(state, id, to),
    }
}

/// Still ours after a refused or unanswered write: go on from the revision that was found.
fn resume_claim(state: &mut State, now: Millis, id: RunId, at: Revision, beat: Option<u64>) -> Changed {
    if let Some(claim) = state.runs.get_mut(&id).and_then(|run| run.state.claim_mut()) {
        claim.revision = at;
        claim.beat = beat.map_or(claim.beat, |found| found.max(claim.beat));
        claim.read_at = None;
        claim.write_at = now;
    }
    Changed::nothing()
}

/// The offer stands: reserve now and write, or say why not.
fn admit(state: &mut State, now: Millis, id: RunId, revision: Revision) -> Changed {
    let closed = state.closed_because();
    let Some(run) = state.runs.get_mut(&id) else { return Changed::nothing() };
    let reserved = state.ledger.keeps_for(&id);
    let room = match closed {
        Some(because) => Err(because),
        None if reserved => Ok(()),
        None => {
            let place = &run.offer.place;
            state.ledger.reserve(id, &place.device, place.reserve_mib).map_err(|no| no.to_string())
        }
    };
    run.state = AttemptState::Taking(match room {
        Ok(()) => Take::Hold { revision },
        Err(reason) => {
            state.ledger.release(&id);
            Take::Decline { revision, reason, retry_at: now }
        }
    });
    Changed::nothing()
}

/// The slot says that we hold it: our write was stored.
fn adopt(state: &mut State, now: Millis, id: RunId, revision: Revision, beat: u64) -> Changed {
    let mut changed = Changed::nothing();
    let held_here = |run: &Run| run.id.key == id.key && run.id != id && run.state.claim().is_some();
    let others: Vec<RunId> = state.runs.values().filter(|run| held_here(run)).map(|run| run.id).collect();
    if others.iter().any(|other| other.attempt > id.attempt) {
        return drop_offer(state, id, "a newer attempt runs here".to_owned());
    }
    for older in others {
        changed.add(give_up(state, now, older, format!("attempt {} is in force", id.attempt)));
    }
    let Some(run) = state.runs.get_mut(&id) else { return changed };
    let place = &run.offer.place;
    let room = match state.ledger.keeps_for(&id) {
        true => Ok(()),
        false => state.ledger.reserve(id, &place.device, place.reserve_mib),
    };
    changed.add(Changed::one(Change::Took { run: id }));
    changed.add(lease_differs(&state.options, run));
    let write_at = now.plus(run.renew_every(&state.options));
    let claim = Claim { revision, beat, write_at, read_at: None, held_since: now, yields: None };
    // The slot says that we hold it, so what we can not do has to be told there.
    let failure = match room {
        _ if matches!(state.mode, Mode::Stopping { .. }) => {
            Some((Cause::Preemption, "agent stopping".to_owned()))
        }
        Err(no_room) => Some((Cause::Infrastructure, no_room.to_string())),
        Ok(()) => None,
    };
    match failure {
        Some((cause, message)) => {
            let failure = Failure::new(cause, message);
            changed.add(ending::fail(&mut state.ledger, run, claim, Saves::default(), failure, now, now));
        }
        None => run.state = AttemptState::Fetching { claim, since: now, tries: Tries::new(now) },
    }
    changed
}

/// Told, because only one side's configuration was changed then.
fn lease_differs(options: &Options, run: &Run) -> Changed {
    let (ours, asked) = (options.renew_every, run.renew_every(options));
    if ours == asked {
        return Changed::nothing();
    }
    let message = format!(
        "the coordinator's lease is {}, this agent's configuration says {} (cluster.lease_s): renewed each {asked}",
        Millis(run.offer.lease_ms),
        Millis(ours.0.saturating_mul(3)),
    );
    Changed::one(Change::Trouble { run: run.id, message })
}

pub(super) fn written(
    state: &mut State,
    now: Millis,
    key: JobKey,
    wrote: &Slot,
    outcome: WriteOutcome,
) -> Result<Changed, Refused> {
    if let Some(changed) = orphan_written(state, now, key, wrote, &outcome) {
        return Ok(changed);
    }
    let id = RunId { key, attempt: wrote.attempt };
    let again = now.plus(state.options.retry_after);
    let run = state.runs.get_mut(&id).filter(|run| fence::same_claim(wrote, &run.offer));
    let run = run.ok_or(Refused::UnknownRun(id))?;
    let renew_at = now.plus(run.renew_every(&state.options));
    if let AttemptState::Taking(take) = run.state.clone() {
        return Ok(take_written(state, now, id, take, wrote, outcome));
    }
    let Some(claim) = run.state.claim_mut() else {
        return Err(Refused::OutOfTurn { run: id, what: "a write of its slot" });
    };
    match outcome {
        WriteOutcome::Written { revision } => {
            claim.revision = revision;
            match &wrote.state {
                SlotState::Held { beat, .. } => {
                    claim.beat = *beat;
                    // A last word that became due meanwhile is not put off.
                    if !matches!(run.state, AttemptState::Closing { .. }) {
                        set_write_at(run, renew_at);
                    }
                }
                _ => return Ok(told(state, id)),
            }
            Ok(Changed::nothing())
        }
        WriteOutcome::Conflict => {
            claim.read_at = Some(now);
            Ok(Changed::nothing())
        }
        WriteOutcome::Unavailable { message } => {
            claim.write_at = again;
            Ok(Changed::one(Change::Trouble { run: id, message }))
        }
    }
}

fn set_write_at(run: &mut Run, at: Millis) {
    if let Some(claim) = run.state.claim_mut() {
        claim.write_at = at;
    }
}

fn take_written(
    state: &mut State,
    now: Millis,
    id: RunId,
    take: Take,
    wrote: &Slot,
    outcome: WriteOutcome,
) -> Changed {
    let again = now.plus(state.options.retry_after);
    match (take, outcome) {
        (Take::Decline { reason, .. }, WriteOutcome::Written { .. }) => {
            state.runs.remove(&id);
            Changed::one(Change::Declined { run: id, reason })
        }
        (Take::Decline { .. }, WriteOutcome::Conflict) => {
            drop_offer(state, id, "the offer changed".to_owned())
        }
        (Take::Decline { revision, reason, .. }, WriteOutcome::Unavailable { .. }) => {
            set_take(state, id, Take::Decline { revision, reason, retry_at: again })
        }
        (_, WriteOutcome::Written { revision }) => match wrote.state {
            SlotState::Held { beat, .. } => adopt(state, now, id, revision, beat),
            _ => Changed::nothing(),
        },
        (_, WriteOutcome::Conflict) => {
            state.ledger.release(&id);
            set_take(state, id, Take::Read { retry_at: now, reserved: false })
        }
        // It may be ours already: keep the memory until the slot was read.
        (_, WriteOutcome::Unavailable { .. }) => {
            let reserved = state.ledger.has(&id);
            set_take(state, id, Take::Read { retry_at: again, reserved })
        }
    }
}

fn set_take(state: &mut State, id: RunId, take: Take) -> Changed {
    if let Some(run) = state.runs.get_mut(&id) {
        run.state = AttemptState::Taking(take);
    }
    Changed::nothing()
}

/// The slot knows how the attempt ended.
fn told(state: &mut State, id: RunId) -> Changed {
    let Some(run) = state.runs.get_mut(&id) else { return Changed::nothing() };
    state.ledger.release(&id);
    let stored = matches!(&run.state, AttemptState::Closing { verdict: Verdict::Finished { .. }, .. });
    run.state = AttemptState::Cleaning { keep: !stored };
    Changed::one(Change::Told { run: id })
}

fn orphan_written(
    state: &mut State,
    now: Millis,
    key: JobKey,
    wrote: &Slot,
    outcome: &WriteOutcome,
) -> Option<Changed> {
    let again = now.plus(state.options.retry_after);
    let orphan = state.orphans.get_mut(&key).filter(|o| o.slot.attempt == wrote.attempt)?;
    match outcome {
        // Refused: somebody moved the slot on, which is all we wanted.
        WriteOutcome::Written { .. } | WriteOutcome::Conflict => drop(state.orphans.remove(&key)),
        WriteOutcome::Unavailable { .. } => orphan.retry_at = again,
    }
    Some(Changed::nothing())
}
