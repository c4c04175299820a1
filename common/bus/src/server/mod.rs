//! A private nats-server: found on the machine, started as a child on the loopback address with its own store,
//! and restarted on the same port so that clients reconnect by themselves.
//!
//! [`find`] looks for a binary that is new enough and says why it refused others. [`NatsServer`] is the child.
//! Not for production clusters: those run their own servers.

mod config;
mod error;
mod find;
mod lock;
mod process;
mod run;
mod version;

pub use error::{Refusal, ServerError};
pub use find::{FoundServer, find};
pub use run::{NatsServer, ServerOptions};
pub use version::{MINIMUM_VERSION, ServerVersion};
