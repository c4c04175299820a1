//! The agent as a process: a real nats-server, a folder store, the fake trainer; the test plays the
//! coordinator.
//!
//! | file | tests |
//! |--|--|
//! | `world` | the surroundings, and what a coordinator does |
//! | `way` | from the offer to a verified result; devices; resuming |
//! | `faults` | lost slots, dead trainers, dead agents, a restarted bus |
//! | `hang` | a trainer that hangs |
//! | `health` | cards in trouble, cards not free yet, memory that ran out |
//! | `logs` | lines of trainers on their way |
//! | `store` | a store that refuses, captures that differ |
//! | `refusals` | what the agent does not start with |

mod faults;
mod hang;
mod health;
mod logs;
mod refusals;
mod store;
mod way;
mod world;
