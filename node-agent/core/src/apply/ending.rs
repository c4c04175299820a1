//! How an attempt is lost, fails, or comes to its last word.

use super::stopping;
use crate::attempt::{AttemptState, Child, Claim, LastWord, Run, Saves, StopWhy, Verdict};
use crate::event::{Change, Changed, ChildExit};
use crate::ledger::Ledger;
use common::slot::{Cause, Failure};
use common::trainer_protocol::{Done, FailureKind, exit_code};
use common::units::Millis;

/// Longest message of a failure, in characters: it travels in slots and chain records.
pub(super) const MESSAGE_MAX_CHARS: usize = 2_000;

/// The slot is somebody else's: the child is killed, nothing of it is kept. `run` is past taking.
pub(super) fn lose(ledger: &mut Ledger, run: &mut Run, by: String, now: Millis) -> Changed {
    let id = run.id;
    let why = StopWhy::Fenced { by: by.clone() };
    let stopping = |child, saves, why| AttemptState::Stopping {
        claim: None,
        child,
        saves,
        why,
        asked: true,
        kill_at: now,
    };
    run.state = match run.take_state() {
        AttemptState::Starting { .. } => stopping(None, Saves::default(), why),
        AttemptState::Running { child, saves, .. } => stopping(Some(child), saves, why),
        AttemptState::Stopping { child, saves, .. } => stopping(child, saves, why),
        _ => {
            ledger.release(&id);
            AttemptState::Cleaning { keep: true }
        }
    };
    Changed::one(Change::Fenced { run: id, by })
}

/// An attempt without a living child ends without a result: its newest checkpoint is saved if the store lacks
/// it, then the slot is told.
pub(super) fn fail(
    ledger: &mut Ledger,
    run: &mut Run,
    claim: Claim,
    saves: Saves,
    mut failure: Failure,
    until: Millis,
    now: Millis,
) -> Changed {
    ledger.release(&run.id);
    failure.message = shorten(&failure.message);
    if saves.unsaved().is_some() && until > now {
        run.state = AttemptState::Saving { claim, saves, failure, until };
        return Changed::nothing();
    }
    failure.checkpointed |= saves.stored.is_some();
    close(run, claim, Verdict::Failed(failure), now)
}

/// From here on the slot is told `verdict` until it knows it.
pub(super) fn close(run: &mut Run, mut claim: Claim, verdict: Verdict, now: Millis) -> Changed {
    claim.write_at = now;
    run.state = AttemptState::Closing { claim, verdict: verdict.clone() };
    Changed::one(Change::Ended { run: run.id, verdict })
}

/// What an ended child means: a result to upload, or a failure by whose fault.
pub(super) fn judge_exit<'a>(
    child: Option<&'a Child>,
    why: Option<&StopWhy>,
    exit: ChildExit,
    tail: &str,
    missing: &[String],
) -> Result<(&'a Child, Done), Failure> {
    let word = child.and_then(|c| c.last_word.as_ref());
    if let (Some(LastWord::Done(done)), Some(child), ChildExit::Code(exit_code::DONE), []) =
        (word, child, exit, missing)
    {
        return Ok((child, done.clone()));
    }
    let infrastructure = |message: String| (Cause::Infrastructure, with_tail(message, tail));
    let (cause, message) = match (why, exit, word) {
        (Some(StopWhy::Stuck { message } | StopWhy::Foreign { message }), ..) => {
            infrastructure(message.clone())
        }
        (Some(why @ (StopWhy::Shutdown | StopWhy::Asked { .. })), ..) => {
            (Cause::Preemption, stopping::yielded(why))
        }
        (_, ChildExit::Code(exit_code::FAILED), Some(LastWord::Failed { kind, message })) => {
            (cause_of(*kind), message.clone())
        }
        (_, ChildExit::Code(exit_code::OUT_OF_MEMORY), _) => {
            let told = child.and_then(|c| c.out_of_memory.clone());
            (Cause::OutOfMemory, told.unwrap_or_else(|| with_tail("out of memory".to_owned(), tail)))
        }
        (_, ChildExit::Code(exit_code::YIELDED), _) => {
            (Cause::Preemption, "the trainer was asked to yield".to_owned())
        }
        (_, ChildExit::Code(exit_code::DONE), Some(LastWord::Done(_))) => {
            infrastructure(format!("exit 0 without output: missing {}", missing.join(", ")))
        }
        (_, ChildExit::Code(exit_code::DONE), _) => infrastructure("exit 0 without output".to_owned()),
        (_, exit, _) => infrastructure(format!("the trainer ended with {exit}")),
    };
    Err(Failure::new(cause, message))
}

fn cause_of(kind: FailureKind) -> Cause {
    match kind {
        FailureKind::UserError => Cause::UserError,
        FailureKind::Diverged => Cause::Diverged,
        FailureKind::OutOfMemory => Cause::OutOfMemory,
        FailureKind::Device | FailureKind::Internal => Cause::Infrastructure,
    }
}

fn with_tail(message: String, tail: &str) -> String {
    match tail.trim_end() {
        "" => message,
        tail => format!("{message}; its last lines:\n{tail}"),
    }
}

/// Keeps the beginning (what happened) and the end (the newest lines).
fn shorten(message: &str) -> String {
    let chars = message.chars().count();
    if chars <= MESSAGE_MAX_CHARS {
        return message.to_owned();
    }
    let half = MESSAGE_MAX_CHARS / 2 - 3;
    let head: String = message.chars().take(half).collect();
    let tail: String = message.chars().skip(chars - half).collect();
    format!("{head} [..] {tail}")
}
