//! What an attempt takes from the object store and what it puts there.
//!
//! | file | holds |
//! |--|--|
//! | `inputs` | captures, parents' files and the checkpoint to resume from, brought to this disk |
//! | `captures` | captures of a data folder that is not on this machine |
//! | `checkpoints` | checkpoints of an attempt: stored whole, found again, the old ones removed |
//! | `prepared` | prepared graphs, so that no second machine makes them |
//! | `results` | the result: files first, manifest last |
//! | `kept` | finished results that the store does not have yet, put aside for a later attempt |

pub mod captures;
pub mod checkpoints;
pub mod inputs;
pub mod kept;
pub mod prepared;
pub mod results;

use agent_core::{Nature, Problem};
use artifacts::{ArtifactError, VerifyError};
use common::slot::Cause;

fn problem(nature: Nature, cause: Cause, message: impl ToString) -> Problem {
    Problem { nature, cause, message: message.to_string() }
}

/// What is not as it has to be, and stays so.
pub(crate) fn lasting(message: impl ToString) -> Problem {
    problem(Nature::Final, Cause::Infrastructure, message)
}

/// Reading from the store. What is missing or damaged there stays so; a full disk of ours or a refusal can be
/// mended, or is a trouble of this node alone (its credentials): another one may be luckier.
pub(crate) fn reading(error: ArtifactError) -> Problem {
    use ArtifactError::*;
    match &error {
        Unavailable { .. } | TimedOut { .. } => problem(Nature::Away, Cause::Infrastructure, error),
        Local { .. } | Denied { .. } | Full { .. } | Store { .. } => {
            problem(Nature::Refused, Cause::Infrastructure, error)
        }
        BadUrl { .. }
        | BadKey { .. }
        | Missing { .. }
        | TooLarge { .. }
        | TooMany { .. }
        | Corrupt { .. } => lasting(error),
    }
}

/// Writing to the store. Only a file of this machine that can not be read is for good: whatever the store
/// refuses, somebody may mend while the file is kept here.
pub(crate) fn writing(error: ArtifactError) -> Problem {
    use ArtifactError::*;
    match &error {
        Unavailable { .. } | TimedOut { .. } => problem(Nature::Away, Cause::Infrastructure, error),
        Local { .. } => lasting(error),
        _ => problem(Nature::Refused, Cause::Store, error),
    }
}

pub(crate) fn verify(error: VerifyError) -> Problem {
    match error {
        VerifyError::Unavailable(error) | VerifyError::Store(error) => reading(error),
        not_whole => lasting(not_whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn local() -> ArtifactError {
        let source = io::ErrorKind::StorageFull.into();
        ArtifactError::Local { path: "/scratch/w".into(), doing: "write", source }
    }

    #[test]
    fn who_has_to_act_is_told_by_the_nature_of_a_problem() {
        let (at, cause) = ("s3://b/k".to_owned(), "no".to_owned());
        let denied = || ArtifactError::Denied { at: at.clone(), cause: cause.clone() };
        let full = ArtifactError::Full { at: at.clone(), cause: cause.clone() };
        let away = || ArtifactError::Unavailable { at: at.clone(), cause: cause.clone() };
        for problem in [writing(denied()), writing(full)] {
            assert_eq!((problem.nature, problem.cause), (Nature::Refused, Cause::Store));
        }
        assert_eq!((writing(away()).nature, reading(away()).nature), (Nature::Away, Nature::Away));
        assert_eq!(writing(ArtifactError::Missing { at: at.clone() }).nature, Nature::Refused, "no bucket");
        assert_eq!(reading(ArtifactError::Missing { at: at.clone() }).nature, Nature::Final);
        assert_eq!(writing(local()).nature, Nature::Final, "our file is gone");
        for problem in [reading(local()), reading(denied())] {
            assert_eq!((problem.nature, problem.cause), (Nature::Refused, Cause::Infrastructure));
        }
    }
}
