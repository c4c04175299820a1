//! Whose a slot is. The record alone decides; a refused write is only a reason to look.

use crate::attempt::Verdict;
use crate::state::RunId;
use common::ids::{Incarnation, NodeId};
use common::messages::JobOffer;
use common::slot::{Slot, SlotState, Yield};

/// What a slot's record means for one attempt of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Ours to take: this very offer stands.
    Offered,
    /// We hold it.
    Held { beat: u64, yields: Option<Yield> },
    /// It tells the end we told it (the answer to our write was lost).
    Told,
    /// The record is older than the offer that this attempt came by. Attempts and offers only grow, so the bus
    /// has lost its newest writes: who holds the attempt writes over it.
    Behind { to: String },
    /// Nothing more may be done for this attempt.
    Lost { to: String },
}

/// Judges `slot` for the attempt `id` that came by `offer`. `verdict` is what we may have told already.
pub fn judge(
    slot: &Slot,
    id: &RunId,
    offer: &JobOffer,
    node: &NodeId,
    us: Incarnation,
    verdict: Option<&Verdict>,
) -> Standing {
    if (slot.attempt, slot.offer) < (id.attempt, offer.offer) {
        return Standing::Behind { to: format!("the slot is at {} offer {}", slot.attempt, slot.offer) };
    }
    if slot.attempt != id.attempt {
        return lost(format!("attempt {} is in force", slot.attempt));
    }
    match &slot.state {
        // Also after a loss of the bus's newest writes: then our Held is gone, and the offer stands again.
        SlotState::Offered { place } if slot.offer == offer.offer && *place == offer.place => {
            Standing::Offered
        }
        SlotState::Offered { place } => lost(format!("it was offered again, to {}", place.node)),
        SlotState::Held { place, incarnation, beat, yields, .. }
            if place.node == *node && *incarnation == us =>
        {
            Standing::Held { beat: *beat, yields: yields.clone() }
        }
        SlotState::Held { place, .. } => lost(format!("{} holds it", place.node)),
        SlotState::Finished { manifest, .. } => match verdict {
            Some(Verdict::Finished { manifest: told, .. }) if told == manifest => Standing::Told,
            _ => lost("it is told finished".to_owned()),
        },
        SlotState::Failed { failure, .. } => match verdict {
            Some(Verdict::Failed(told)) if told == failure => Standing::Told,
            _ => lost(format!("it is told failed: {}", failure.message)),
        },
        SlotState::Declined { reason, .. } => lost(format!("it was declined: {reason}")),
        SlotState::Closed { because } => lost(format!("closed: {because}")),
    }
}

fn lost(to: String) -> Standing {
    Standing::Lost { to }
}

/// The record that says `state` of this attempt.
pub fn record(offer: &JobOffer, state: SlotState) -> Slot {
    Slot { job: offer.job.clone(), attempt: offer.attempt, offer: offer.offer, state }
}

/// Whether two records are the same claim: same attempt and same offer. A late answer about an older offer is
/// not about this one.
pub fn same_claim(slot: &Slot, offer: &JobOffer) -> bool {
    slot.attempt == offer.attempt && slot.offer == offer.offer
}

/// A slot that an earlier life of this node holds.
pub fn is_orphan(slot: &Slot, node: &NodeId, us: Incarnation) -> bool {
    matches!(&slot.state, SlotState::Held { place, incarnation, .. } if place.node == *node && *incarnation != us)
}
