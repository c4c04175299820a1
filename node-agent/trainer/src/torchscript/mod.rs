//! Models as TorchScript: one file with program and weights that libtorch runs without this crate and Python
//! without any class of ours (`torch.jit.load`).
//!
//! Tracing cannot make these: it would fix the number of nodes and graphs, which change with every window. So
//! the program is written here as text, layer by layer, in the restricted Python that torch itself stores in
//! such files, and the archive is the one of `.pth` files with an object in place of a dict:
//!
//! ```text
//! archive/code/__torch__.py   class Model(Module): attributes, forward
//! archive/data.pkl            the object: weights and numbers by attribute
//! archive/constants.pkl       ()
//! archive/data/<k>, byteorder, version
//! ```
//!
//! | file | what |
//! |--|--|
//! | `program` | lines of a program, attributes, the archive |
//! | `layers` | lines of convolutions, normalisations and pools |
//! | `pair` | a pair of detectors: graphs to scores and fusion states |
//! | `agent` | the fusion agent: scores and states to fused scores |

mod agent;
mod layers;
mod pair;
mod program;

pub use agent::write_agent;
pub use pair::{ROW_COLUMNS, write_pair};

#[cfg(test)]
mod tests;
