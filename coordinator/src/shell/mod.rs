//! The coordinator process: one loop owns the core's state; tasks feed it facts and perform its effects.
//!
//! | module | holds |
//! |--|--|
//! | [`client`] | typed access to buckets, offers and events |
//! | [`records`] | the records of one bucket; patience with a bus that is away |
//! | [`audit`] | changes told on the audit stream |
//! | [`serve`](mod@serve) | the loop |
//! | [`kept`] | what the object store keeps of the records |
//! | [`rebuild`] | the buckets made anew from it |
//! | `feed` | watches and beats into events |
//! | `perform` | one effect into what came of it |

pub mod audit;
pub mod client;
pub(crate) mod feed;
pub mod kept;
mod perform;
pub mod rebuild;
pub mod records;
pub mod serve;

pub use client::Client;
pub use serve::{ServeOptions, serve};
