//! Weight files that Python loads safely: `torch.load(path, weights_only=True)`.
//!
//! The form is torch's own zip archive, holding a plain dict of dicts of tensors:
//!
//! ```text
//! archive/data.pkl     pickle, protocol 2: {section: {name: tensor}}
//! archive/byteorder    "little"
//! archive/data/<k>     raw bytes of tensor k, stored, aligned to 64 bytes
//! archive/version      "3\n"
//! archive/<extra>      bytes of our own beside them, which torch does not look at
//! ```
//!
//! The pickle names only `torch._utils._rebuild_tensor_v2`, storage types and `collections.OrderedDict`
//! (for the empty hooks of a tensor), all on the allow list of torch's safe loader.
//!
//! | file | what |
//! |--|--|
//! | `kind` | element types and their storage names |
//! | `pickle` | the opcodes that are written |
//! | `archive` | the zip container, whole or not there |
//! | `write` | dicts of tensors as an archive |
//! | `read` | the archive back as tensors |
//! | `unpickle` | a stack machine for the few opcodes state dicts use; executes nothing |

pub(crate) mod archive;
mod kind;
pub(crate) mod pickle;
mod read;
mod unpickle;
mod write;

pub use read::{Sections, read, read_extra};
pub use write::{write, write_with};

use std::path::PathBuf;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum PthError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a zip archive as torch.save writes it: {source}")]
    Zip { path: PathBuf, source: zip::result::ZipError },
    #[error("{path} cannot be read as weights: {why}")]
    Format { path: PathBuf, why: String },
    #[error("tensor `{name}` of kind {kind:?} has no storage type in a .pth file: convert it first")]
    Kind { name: String, kind: tch::Kind },
    #[error(transparent)]
    Torch(#[from] tch::TchError),
}
