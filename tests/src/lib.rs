//! The harness: what the suites in `tests/` share.
//!
//! | module | holds |
//! |--|--|
//! | [`fake`] | the fake trainer: the real protocol, time and faults by script |
//! | [`processes`] | real processes of this machine: found, killed and watched by pid |
//! | [`sim`] | seeded simulator: both cores, a bus, a store and machines under faults, on a virtual clock |
//!
//! Suites: `sim_seeds` (thousands of seeds, all invariants), `sim_mutants` (broken rules must be caught),
//! `faults` (real processes, each killed in the middle), `chaos` (a site of three nats-servers, S3, two
//! coordinators and three agents under random faults), `architecture` (who may see whom).

pub mod fake;
pub mod processes;
pub mod sim;
