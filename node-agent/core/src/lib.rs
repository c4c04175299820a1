//! Every decision of a node agent, as pure functions: no I/O, no clock, no randomness, no async, no hash maps.
//!
//! [`apply`] tells the [`State`] a fact; [`due`] computes from the state alone what should happen now. `due`
//! may be asked as often as one likes: whoever performs effects leaves out those whose [`Effect::key`] is
//! already at work, and tells the outcome as an [`Event`]. [`Event::Tick`] lets time pass.
//!
//! | module | holds |
//! |--|--|
//! | [`options`] | names and time limits of this agent |
//! | [`state`] | [`State`]: the ledger, the attempts at hand, whether the agent is stopping |
//! | [`attempt`] | [`AttemptState`]: the way of one attempt, drawn |
//! | [`tries`] | something that is tried until it works or patience is over |
//! | [`ceilings`] | what ran out of memory here, by phase, size and model of device |
//! | [`pace`] | the rate of a training against its own median: what the watchdog measures |
//! | [`ledger`] | memory of each device in whole MiB: who reserved how much, what foreign processes use |
//! | [`event`], [`effect`] | what the world tells, and what is asked of it |
//! | [`fence`] | whose a slot is, judged from its record |
//! | [`apply`](mod@apply) | one file per kind of fact |
//! | [`due`](mod@due) | state to effects |
//! | [`beat`](mod@beat) | state to the beat of the node |
//! | [`invariants`] | what must hold after every event; checked after each in tests and debug builds |

pub mod apply;
pub mod attempt;
pub mod beat;
pub mod ceilings;
pub mod due;
pub mod effect;
pub mod event;
pub mod fence;
pub mod invariants;
pub mod ledger;
pub mod options;
pub mod pace;
pub mod state;
pub mod tries;

pub use apply::apply;
pub use attempt::{
    AttemptState, Child, Claim, FinishedChild, Inputs, LastWord, LocalCheckpoint, Run, Saves, StopWhy, Take,
    Verdict,
};
pub use beat::beat;
pub use ceilings::Ceilings;
pub use due::due;
pub use effect::{ABSENT, Effect, SavedRun};
pub use event::{Change, Changed, ChildExit, Event, ReadOutcome, Refused, WriteOutcome};
pub use ledger::{DeviceFacts, Ledger, NoRoom, ProcessUse};
pub use options::{Options, PhaseLimits};
pub use pace::Pace;
pub use state::{Mode, Orphan, RunId, State};
pub use tries::{Nature, Problem, Tries};
