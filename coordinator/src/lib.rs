//! `coord`: the command line and the coordinator process. A shell: it reads, performs and prints; every
//! decision is made in `coordinator-core`.
//!
//! | module | holds | may touch |
//! |--|--|--|
//! | [`cli`] | one file a verb, and what they share | bus, store, captures, terminal through `output` |
//! | [`output`] | everything that is printed | nothing but its arguments |
//! | [`shell`] | the one loop of `coord serve`, and typed access to the buckets | bus, store |

pub mod cli;
pub mod output;
pub mod shell;
