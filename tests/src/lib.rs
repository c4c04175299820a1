//! The harness: what the suites in `tests/` share.
//!
//! | module | holds |
//! |--|--|
//! | [`fake`] | the fake trainer: the real protocol, time and faults by script |
//! | [`sim`] | seeded simulator: both cores, a bus, a store and machines under faults, on a virtual clock |
//!
//! Suites: `sim_seeds` (thousands of seeds, all invariants), `sim_mutants` (broken rules must be caught),
//! `architecture` (who may see whom).

pub mod fake;
pub mod sim;
