//! Every decision of the coordinator, as pure functions: no clock, no randomness, no I/O, no order of a
//! hash map. Three verbs:
//!
//! * [`apply`]: the world told us a fact (a record seen in a bucket, a beat, a verified manifest);
//! * [`due`]: what should happen now, from the state alone, so that a restarted coordinator that has loaded
//!   the buckets says the same as the one that died;
//! * [`explain`]: every reason why a job is not running.
//!
//! The state holds only what was *observed*. Nothing is changed here and then written out: `due` asks for a
//! write against the revision it saw, and the state follows when that write is seen in the bucket. A lost
//! race is therefore no special case: the other's record arrives and `due` thinks again.
//!
//! | module | holds |
//! |--|--|
//! | [`state`] | what was observed |
//! | [`index`] | what of it still asks for something |
//! | [`apply`] | facts into state, stale ones refused |
//! | [`due`] | state into effects: chains, leases, offers, verification, commit, publishing |
//! | [`by_hand`] | what operators change: pause, resume, another try |
//! | [`transition`] | a chain record into the next one: commit + unlock, retry, cancel |
//! | [`standing`] | what was decided about nodes, and what speaks against one |
//! | [`placement`] | which device a job goes to, or why none |
//! | [`news`](mod@news) | what others did, for the audit stream |
//! | [`explain`] | why a job is not running |
//! | [`rebuild`] | the buckets from what the object store keeps |
//! | [`view`] | a job as people see it: record and slot together |
//! | [`planner`] | what must be retrained, and why |
//! | [`invariants`] | what must hold after every `apply` |

pub mod apply;
pub mod by_hand;
pub mod due;
pub mod effect;
pub mod explain;
pub mod index;
pub mod invariants;
pub mod news;
pub mod options;
pub mod placement;
pub mod planner;
pub mod rebuild;
pub mod standing;
pub mod state;
pub mod transition;
pub mod view;

pub use apply::{Changed, Event, Refused, apply};
pub use due::due;
pub use effect::{Effect, EffectKey, Note};
pub use explain::explain;
pub use news::news;
pub use options::Options;
pub use state::State;
