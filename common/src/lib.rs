//! Vocabulary of the whole system: what coordinator, agents and trainers say to each other and keep.
//! No I/O here, no clock, no async: types, their invariants and their wire form.
//!
//! | module | holds |
//! |--|--|
//! | [`ids`], [`units`] | names and quantities as types |
//! | [`digest`], [`job_key`] | what makes two results "the same" |
//! | [`config`] | configuration as written and as resolved |
//! | [`plan`] | what was asked (bucket `plans`) |
//! | [`chain`] | state of the jobs of one dataset of a plan (bucket `chains`) |
//! | [`slot`] | right to run a job (bucket `slots`) |
//! | [`manifest`], [`registry`] | results in the store, and which of them is in use |
//! | [`messages`] | offers, beats and events on the bus |
//! | [`logs`] | log lines of attempts on the bus, and where they are kept |
//! | [`trainer_protocol`] | frames between an agent and its trainer child |
//! | [`spelling`] | "did you mean" |
//! | [`subjects`], [`wire`] | names on the bus and the versioned MessagePack envelope |

pub mod chain;
pub mod config;
pub mod digest;
pub mod ids;
pub mod job_key;
pub mod logs;
pub mod manifest;
pub mod messages;
pub mod node;
pub mod plan;
pub mod registry;
pub mod slot;
pub mod spelling;
pub mod subjects;
pub mod trainer_protocol;
pub mod units;
pub mod wire;
