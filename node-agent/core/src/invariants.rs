//! What must hold after every event. These are claims about our own code, never about the world.

use crate::attempt::{AttemptState, Take};
use crate::state::State;

/// The first broken rule, in words.
pub fn check(state: &State) -> Result<(), String> {
    for device in state.ledger.devices() {
        let (reserved, budget) = (device.reserved_mib(), device.budget_mib());
        if reserved > budget {
            return Err(format!("{}: {reserved} reserved of {budget}", device.id()));
        }
    }
    for (id, run) in &state.runs {
        if *id != run.id || run.offer.key != id.key || run.offer.attempt != id.attempt {
            return Err(format!("{id} is filed under a wrong name"));
        }
        let must_have = match &run.state {
            AttemptState::Taking(Take::Hold { .. }) => true,
            AttemptState::Taking(Take::Read { reserved, .. }) => *reserved,
            AttemptState::Fetching { .. } | AttemptState::Starting { .. } | AttemptState::Running { .. } => {
                true
            }
            AttemptState::Stopping { child, .. } => child.is_some(),
            _ => continue,
        };
        if must_have && !state.ledger.has(id) {
            return Err(format!("{id} works without reserved memory"));
        }
    }
    // One claim for a key: a newer attempt is taken only when the slot says so, and that ends the older one.
    let mut claimed = state.runs.values().filter(|r| r.state.claim().is_some()).map(|r| r.id.key);
    let mut last = None;
    if claimed.any(|key| last.replace(key) == Some(key)) {
        return Err("two attempts of one job are held here".to_owned());
    }
    Ok(())
}
