//! The invariants of `ARCHITECTURE.md`, held against the run: some by the cores' own checks after every
//! `apply`, the others here, against the whole history.
//!
//! | file | checks |
//! |--|--|
//! | here | after every `apply` and every decision: the cores' own, I3 |
//! | `writes` | at every write of the bus and every start of a child: I1, I2, I3, I4, I11, leases, fences |
//! | `plans` | each plan: I8, I10 |
//! | `audit` | every few seconds: I5, I6, I12 |
//! | `rest` | at the end: I5, I9, nothing left over |

pub mod audit;
pub mod plans;
pub mod rest;
pub mod writes;

use super::World;
use super::coordinator;
use common::job_key::JobKey;
use common::registry::CommittedRef;
use coordinator_core::{Effect, invariants};
use std::collections::BTreeMap;

/// What no single moment shows.
#[derive(Default)]
pub struct History {
    /// Every commit there ever was.
    pub commits: BTreeMap<JobKey, CommittedRef>,
    pub at_rest: bool,
    /// How often the run came by a place worth coming by: what no seed reaches, no seed checks.
    pub marks: BTreeMap<&'static str, u64>,
    digest: u64,
}

impl History {
    pub fn mark(&mut self, place: &'static str) {
        *self.marks.entry(place).or_default() += 1;
    }

    /// FNV-1a over words: enough to tell two runs apart.
    pub fn digest(&mut self, words: &[u64]) {
        for word in words {
            self.digest = (self.digest ^ word).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub fn finish(&self) -> u64 {
        self.digest
    }
}

/// After every `apply` of a coordinator.
pub fn coordinator_state(w: &mut World, c: usize) {
    let Some(state) = w.coordinators[c].state.as_ref() else { return };
    if let Some(broken) = invariants::check(state).into_iter().next() {
        w.violated(broken.invariant, format!("coordinator {c}: {}", broken.text));
    }
}

/// After every `apply` of an agent.
pub fn agent_state(w: &mut World, n: usize) {
    let Some(state) = w.nodes[n].agent.as_ref() else { return };
    if let Err(broken) = agent_core::invariants::check(state) {
        w.violated("agent", format!("{n}: {broken}"));
    }
}

/// After every decision of a coordinator.
pub fn decision(w: &mut World, c: usize, effects: &[Effect]) {
    let now = coordinator::now(w, c);
    let Some(state) = w.coordinators[c].state.as_ref() else { return };
    let broken = invariants::check_offers(state, now, effects).into_iter();
    if let Some(broken) = broken.chain(invariants::check_indexes(state)).next() {
        w.violated(broken.invariant, format!("coordinator {c}: {}", broken.text));
    }
}
