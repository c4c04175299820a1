//! What an attempt takes from the object store and what it puts there.
//!
//! | file | holds |
//! |--|--|
//! | `inputs` | captures, parents' files and the checkpoint to resume from, brought to this disk |
//! | `captures` | captures of a data folder that is not on this machine |
//! | `checkpoints` | checkpoints of an attempt: stored whole, found again, the old ones removed |
//! | `results` | the result: files first, manifest last |

pub mod captures;
pub mod checkpoints;
pub mod inputs;
pub mod results;

use agent_core::Problem;
use artifacts::{ArtifactError, VerifyError};
use common::slot::Cause;

/// A problem of the machine, the network or the store.
pub(crate) fn infrastructure(transient: bool, message: impl ToString) -> Problem {
    Problem { transient, cause: Cause::Infrastructure, message: message.to_string() }
}

pub(crate) fn artifact(error: ArtifactError) -> Problem {
    infrastructure(error.is_transient(), error)
}

pub(crate) fn verify(error: VerifyError) -> Problem {
    infrastructure(error.is_transient(), error)
}
