//! Which device a job goes to, or every reason why none.
//!
//! | module | holds |
//! |--|--|
//! | [`space`] | the one rule whether a job fits a device now |
//! | [`room`] | the fleet as beats and slots show it |
//! | [`blocker`] | why one device can not take a job, in words |
//! | [`index`] | which nodes may have room, kept with each fact |
//! | [`board`] | the same fleet in numbers, for choosing quickly and for trying out |
//! | [`fill`] | one round: who waits is put in order, and each gets the best device that has room |
//! | [`play`] | what follows from here: rounds played forward over expected lengths |
//! | [`decide`] | the round that is really made: of a few orders the one that ends everything first |
//! | `queue` | from what was observed to a round and back |
//! | [`bound`] | what no placement can beat |
//!
//! The coordinator's decision, the forecast of `coord plan` and `coord simulate` all go through
//! [`decide::decide`].

pub mod blocker;
pub mod board;
pub mod bound;
pub mod decide;
pub mod fill;
pub mod index;
pub mod play;
pub(crate) mod queue;
pub mod room;
pub mod space;

pub use blocker::{Blocker, DeviceBlocked};
pub use room::{Fleet, Holder, Room};

use crate::state::State;
use common::ids::NodeId;
use common::job_key::JobKey;
use common::units::Millis;
use std::collections::BTreeMap;

/// Nodes that declined this job a moment ago.
pub fn declined(state: &State, key: &JobKey, now: Millis) -> BTreeMap<NodeId, Blocker> {
    let pause = state.options.decline_pause;
    let mut nodes = BTreeMap::new();
    if state.declined.is_empty() {
        return nodes;
    }
    for ((_, node), at) in state.declined.iter().filter(|((k, _), _)| k == key) {
        let since = now.since(*at);
        if since < pause {
            let reason = match state.slots.get(key).map(|s| &s.slot.state) {
                Some(common::slot::SlotState::Declined { place, reason }) if place.node == *node => {
                    reason.clone()
                }
                _ => "no room".to_owned(),
            };
            let again_in_ms = pause.0 - since.0;
            nodes.insert(node.clone(), Blocker::Declined { again_in_ms, reason });
        }
    }
    nodes
}
