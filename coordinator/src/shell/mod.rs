//! The coordinator process: one loop owns the core's state; tasks feed it facts and perform its effects.
//!
//! | module | holds |
//! |--|--|
//! | [`client`] | typed access to buckets, beats and offers |
//! | [`serve`](mod@serve) | the loop |
//! | `feed` | watches and beats into events |
//! | `perform` | one effect into what came of it |

pub mod client;
pub(crate) mod feed;
mod perform;
pub mod serve;

pub use client::Client;
pub use serve::{ServeOptions, serve};
