//! Exit codes, and errors that carry one. The numbers are a promise to scripts: they never change.

use crate::shell::client::ClientError;
use artifacts::{ArtifactError, VerifyError};
use bus::BusError;
use bus::server::ServerError;
use std::fmt;

/// How `coord` ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok,
    Error,
    /// `plan --detailed-exitcode`: something is to be run.
    ChangesPending,
    /// A job fits no device of the fleet.
    Impossible,
    /// The base of the plan moved.
    Stale,
    PhaseFailed,
    /// Bus or store can not be reached or refuse us.
    Unavailable,
    /// The command line itself is wrong.
    Usage,
    Interrupted,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Error => 1,
            Exit::ChangesPending => 2,
            Exit::Impossible => 3,
            Exit::Stale => 4,
            Exit::PhaseFailed => 5,
            Exit::Unavailable => 6,
            // EX_USAGE of sysexits.h; clap's own 2 would look like "changes pending".
            Exit::Usage => 64,
            Exit::Interrupted => 130,
        }
    }
}

/// An error of the command line: what, its exit code, and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub exit: Exit,
    pub message: String,
    /// What to do or which command to type next.
    pub way_out: Option<String>,
}

impl Fault {
    pub fn new(exit: Exit, message: impl Into<String>) -> Fault {
        Fault { exit, message: message.into(), way_out: None }
    }

    pub fn way_out(mut self, text: impl Into<String>) -> Fault {
        self.way_out = Some(text.into());
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// The exit code of an error: that of the first cause that has one.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    error.chain().find_map(exit_of_cause).unwrap_or(Exit::Error)
}

/// The way out that an error brings along, if it does not say so in its text already.
pub fn way_out_of(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| cause.downcast_ref::<Fault>()?.way_out.clone())
}

fn exit_of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Exit> {
    if let Some(fault) = cause.downcast_ref::<Fault>() {
        return Some(fault.exit);
    }
    if let Some(e) = cause.downcast_ref::<BusError>() {
        return Some(exit_of_bus(e));
    }
    if let Some(ClientError::Bus(e)) = cause.downcast_ref::<ClientError>() {
        return Some(exit_of_bus(e));
    }
    if let Some(e) = cause.downcast_ref::<ArtifactError>() {
        return Some(exit_of_store(e));
    }
    if let Some(VerifyError::Unavailable(e) | VerifyError::Store(e)) = cause.downcast_ref::<VerifyError>() {
        return Some(exit_of_store(e));
    }
    cause.downcast_ref::<ServerError>().map(|_| Exit::Unavailable)
}

fn exit_of_bus(error: &BusError) -> Exit {
    use BusError::*;
    match error {
        JetStreamDisabled { .. } | AuthRefused { .. } | ServerTooOld { .. } => Exit::Unavailable,
        e if e.is_transient() => Exit::Unavailable,
        _ => Exit::Error,
    }
}

fn exit_of_store(error: &ArtifactError) -> Exit {
    use ArtifactError::*;
    match error {
        Unavailable { .. } | TimedOut { .. } | Denied { .. } | Full { .. } => Exit::Unavailable,
        _ => Exit::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn the_numbers_are_the_documented_ones() {
        use Exit::*;
        let all =
            [Ok, Error, ChangesPending, Impossible, Stale, PhaseFailed, Unavailable, Usage, Interrupted];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 5, 6, 64, 130]);
    }

    #[test]
    fn the_code_is_found_below_any_context() {
        let away = || BusError::NatsUnreachable { url: "nats://x".into(), detail: "refused".into() };
        let wrapped = anyhow::Error::from(ClientError::Bus(away())).context("reading plans").context("plan");
        assert_eq!(exit_of(&wrapped), Exit::Unavailable);
        let off = anyhow::Error::from(BusError::JetStreamDisabled { url: "nats://x".into() });
        assert_eq!(exit_of(&off), Exit::Unavailable);
        let stale = anyhow::Error::from(Fault::new(Exit::Stale, "moved").way_out("coord plan"));
        assert_eq!((exit_of(&stale), way_out_of(&stale)), (Exit::Stale, Some("coord plan".into())));
        let plain: anyhow::Result<()> = Err(std::io::Error::other("x")).context("y");
        assert_eq!(exit_of(&plain.unwrap_err()), Exit::Error);
        let full = ArtifactError::Full { at: "s3://b".into(), cause: "quota".into() };
        assert_eq!(exit_of(&anyhow::Error::from(full)), Exit::Unavailable);
    }
}
