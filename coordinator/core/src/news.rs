//! What others did, as lines for the audit stream: seen in their writes, since they tell nobody else.

use crate::apply::Event;
use crate::effect::{Note, NoteKind};
use crate::state::State;
use common::ids::{ChainId, Revision};
use common::slot::SlotState;

/// The line that a fact is worth, with the revision of the write; asked before the fact is applied. All
/// coordinators say the same, and one that only now reads the buckets says nothing.
pub fn news(state: &State, fact: &Event) -> Option<(Note, Revision)> {
    let Event::SlotSeen { key, slot, revision } = fact else { return None };
    let SlotState::Held { place, .. } = &slot.state else { return None };
    let before = state.slots.get(key).filter(|seen| seen.revision < *revision)?;
    if !matches!(before.slot.state, SlotState::Offered { .. }) || before.slot.attempt != slot.attempt {
        return None;
    }
    let id = ChainId { plan: slot.job.plan.clone(), dataset: slot.job.name.dataset.clone() };
    let record = &state.chains.get(&id)?.record;
    let text = format!("{} on {}", place.reserve_mib, place.device);
    let note = Note::of(record, slot.job.name.phase, NoteKind::Leased, text);
    Some((note.attempt(slot.attempt).node(Some(place.node.clone())), *revision))
}
