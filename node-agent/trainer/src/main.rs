//! `trainer run`: one attempt of one phase, spoken on stdin and stdout by [`common::trainer_protocol`].
//! `trainer score`: captures or live traffic scored by a trained model.

mod score_args;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use common::trainer_protocol::exit_code;
use telemetry::{LogConfig, LogFormat, Service};

#[derive(Parser)]
#[command(version, about = "Trains one phase (started by node-agent), and scores with what was trained")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take one Start frame on stdin, train, and report frames on stdout.
    Run(RunArgs),
    /// Score captures, or a live bus, window by window.
    Score(score_args::ScoreArgs),
}

#[derive(clap::Args)]
struct RunArgs {
    /// W3C trace context of the attempt; the one in the Start frame wins.
    #[arg(long, env = "TRACEPARENT")]
    traceparent: Option<String>,
    /// Folder of a log file beside the lines on stderr.
    #[arg(long)]
    log_dir: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "human")]
    log_format: Format,
    /// Filter of log lines; RUST_LOG wins.
    #[arg(long, default_value = "info")]
    log_level: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Human,
    Json,
}

fn main() -> anyhow::Result<()> {
    let command = Cli::parse().command;
    // Before logs and threads: the process is replaced.
    let restarted = trainer::runtime::restart_with_short_spin();
    let args = match command {
        Command::Run(args) => args,
        Command::Score(args) => std::process::exit(score_args::run(&args)),
    };
    let config = LogConfig {
        dir: args.log_dir,
        format: match args.log_format {
            Format::Human => LogFormat::Human,
            Format::Json => LogFormat::Json,
        },
        level: args.log_level,
        stderr: true,
    };
    let service = Service { name: "coord-trainer", instance: std::process::id().to_string() };
    let guard = telemetry::init(service, config).context("logs and traces")?;
    if let Err(error) = restarted {
        tracing::warn!(%error, "threads will spin long: slower beside other processes");
    }
    let orphaned = || {
        // Not `exit`: that would take libtorch's statics down under the feet of the training thread.
        // SAFETY: `_exit` ends the process without running anything of it.
        unsafe { libc::_exit(exit_code::ORPHANED) }
    };
    let code =
        trainer::session::serve(std::io::stdin(), std::io::stdout(), args.traceparent.as_deref(), orphaned);
    guard.shutdown();
    std::process::exit(code)
}
