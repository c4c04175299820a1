//! An invitation came. Nothing is believed of it before the slot was read.

use crate::attempt::{AttemptState, Run, Take};
use crate::event::{Changed, Refused};
use crate::state::{RunId, State};
use common::messages::JobOffer;
use common::units::Millis;

pub(super) fn invited(state: &mut State, now: Millis, offer: JobOffer) -> Result<Changed, Refused> {
    let id = RunId { key: offer.key, attempt: offer.attempt };
    if offer.place.node != state.options.node {
        return Err(Refused::NotForUs(id));
    }
    if let Some(known) = state.runs.get(&id) {
        // Only a newer offer of an attempt that was not taken yet says something new.
        if !matches!(known.state, AttemptState::Taking(_)) || known.offer.offer >= offer.offer {
            return Err(Refused::KnownOffer(id));
        }
        state.ledger.release(&id);
    } else if state.runs.len() >= state.options.runs_max {
        return Err(Refused::TooMany { at_hand: state.runs.len() });
    }
    let take = Take::Read { retry_at: now, reserved: false };
    state.runs.insert(id, Run { id, offer, since: now, state: AttemptState::Taking(take) });
    Ok(Changed::nothing())
}
