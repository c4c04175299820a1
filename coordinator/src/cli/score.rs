//! `coord score`: hands over to `trainer score`, the only program that knows the models.

use super::args::ScoreArgs;
use super::context::absolute;
use super::exit::{Exit, Fault};
use anyhow::{Context as _, Result};
use std::ffi::OsString;
use std::path::PathBuf;
use tokio::process::Command;

/// The verb, as it is typed.
const VERB: &str = "score";
/// What clap ends with when a command line is wrong.
const WRONG_USAGE: i32 = 2;

/// What stands behind `coord score` is not for us to understand: it is set apart by `--`.
pub fn set_apart(line: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut line: Vec<OsString> = line.collect();
    if line.get(1).is_some_and(|verb| verb == VERB) {
        line.insert(2, "--".into());
    }
    line
}

pub async fn run(args: &ScoreArgs) -> Result<Exit> {
    let trainer = beside("trainer", "COORD_TRAINER")?;
    let mut command = Command::new(&trainer);
    command.arg(VERB).args(&args.arguments).kill_on_drop(true);
    // Without an end of its own on a live bus; Ctrl-C reaches both.
    let ended = command.status().await.with_context(|| format!("starting {}", trainer.display()))?;
    Ok(match ended.code() {
        Some(0) => Exit::Ok,
        Some(WRONG_USAGE) => Exit::Usage,
        _ => Exit::Error,
    })
}

/// A program that lies beside this one, unless a variable names it.
pub fn beside(name: &str, variable: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program")?;
    let path = match std::env::var_os(variable).filter(|v| !v.is_empty()) {
        Some(named) => PathBuf::from(named),
        None => own.with_file_name(name),
    };
    if path.is_file() {
        return absolute(&path);
    }
    Err(Fault::new(Exit::Error, format!("the program {name} is not at {}", path.display()))
        .way_out(format!("build it (make build), or name it in {variable}"))
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::{Cli, Verb};
    use clap::Parser;

    #[test]
    fn what_is_for_the_trainer_reaches_it_untouched() {
        let line = "coord score --model m.pth --data - -o json --help --verbose";
        let cli = Cli::try_parse_from(set_apart(line.split(' ').map(OsString::from))).unwrap();
        let Verb::Score(args) = cli.verb else { panic!("{:?}", cli.verb) };
        let passed: Vec<_> = line.split(' ').skip(2).map(OsString::from).collect();
        assert_eq!(args.arguments, passed);
        assert!(!cli.global.verbose && cli.global.data.is_none());
        let other = ["coord", "status", "score"].map(OsString::from);
        assert_eq!(set_apart(other.clone().into_iter()), other);
    }
}
