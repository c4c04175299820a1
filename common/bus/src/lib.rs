//! The only door to the message bus: core NATS, JetStream streams and key buckets, at the level of bytes.
//! What the bytes mean is known in `common`; nothing outside this room uses async-nats.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`bus`] | the trait [`Bus`]: publish, subscribe, request, durable streams |
//! | [`kv`] | the trait [`Kv`]: get, compare-and-swap, list, watch |
//! | [`stream`] | consumers and deliveries of durable streams |
//! | [`layout`] | every bucket, stream and subject name in one table, with limits |
//! | [`error`] | [`BusError`] and its class: transient, conflict, permanent |
//! | [`retry`] | bounded, jittered repetition of what failed in passing |
//! | [`nats`] | the real bus |
//! | [`memory`] | its twin inside one process; `tests/contract` holds both to the same behaviour |
//! | [`server`] | finds nats-server and supervises a private one |
//! | [`monitor`] | what a server tells over HTTP of its set-up |
//! | [`key`], [`headers`] | revisions, sequences, key and subject rules; headers |
//!
//! May touch: sockets of the bus; the processes, files and ports of a private nats-server. Must not know: what a job is.

pub mod bus;
pub mod error;
pub mod headers;
pub mod key;
pub mod kv;
pub mod layout;
pub mod memory;
pub mod monitor;
pub mod nats;
pub mod retry;
pub mod server;
pub mod stream;

pub use bus::{Bus, BusInfo, Message, Messages, SharedBus};
pub use error::{BusError, ErrorClass, Result};
pub use headers::Headers;
pub use key::{Revision, Sequence};
pub use kv::{Entry, Kv, KvEvent, KvWatch, SharedKv};
pub use layout::{BusLayout, StreamLayout, names};
pub use memory::MemoryBus;
pub use nats::{NatsBus, NatsOptions};
pub use retry::{Backoff, retry_transient};
pub use stream::{ConsumerSpec, Deliver, Deliveries, Delivery};
