//! The node agent: the shell around `agent-core`. It decides nothing; it performs what is due and tells what
//! came of it.
//!
//! | module | holds |
//! |--|--|
//! | [`args`], [`start`] | command line; what must be in order before anything starts, with exit codes |
//! | [`agent`] | the one loop that owns the state |
//! | [`perform`] | effects become tasks, their outcomes events |
//! | [`runs`] | spans and cancellation of the attempts at hand |
//! | [`slots`], [`intake`] | slots on the bus; offers from the bus |
//! | [`beats`], [`devices`] | two threads of their own: beats out, looks at the devices in |
//! | [`process`] | the trainer child: its own group, its pipes, its end |
//! | [`store`] | inputs from the object store; checkpoints and results to it |
//! | [`ceilings`] | what ran out of memory, over restarts |
//! | [`logs`] | trainers' logs to the bus and the store |
//! | [`settings`] | configuration to options and tuning |
//! | [`workdir`], [`housekeeping`] | folders of this agent, the lock on them, and their limits |
//! | [`rival`] | two agents of one name: one of them goes |
//! | [`clock`] | milliseconds of this process |

pub mod agent;
pub mod args;
pub mod beats;
pub mod ceilings;
pub mod clock;
pub mod devices;
pub mod housekeeping;
pub mod intake;
pub mod logs;
pub mod perform;
pub mod process;
pub mod rival;
pub mod runs;
pub mod settings;
pub mod slots;
pub mod start;
pub mod store;
pub mod workdir;
