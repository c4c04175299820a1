//! The verbs, one file each, and what they share. Here errors become exit codes; everything that is printed
//! is built in [`crate::output`].
//!
//! | module | holds |
//! |--|--|
//! | [`args`] | what can be typed |
//! | [`exit`] | exit codes and errors that carry one |
//! | [`context`], [`link`] | flags, configuration and folders; the way to the bus |
//! | [`planning`], [`applying`], [`following`], [`exporting`] | the four steps of a run |
//! | `needs` | what earlier runs tell of memory and length |
//! | [`observe`], [`rows`] | the cluster's state as a looker-on has it, job by job |
//! | `plan`, `simulate`, `apply`, `run`, `follow`, `status`, `changes`, `nodes`, `node`, `events`, `logs`, `data`, [`score`], `show`, `serve` | verbs |
//! | [`local`] | a whole cluster on this machine |

mod apply;
pub mod applying;
pub mod args;
pub mod changes;
pub mod context;
mod data;
mod events;
pub mod exit;
pub mod exporting;
mod follow;
pub mod following;
pub mod link;
pub mod local;
mod logs;
mod needs;
mod node;
mod nodes;
pub mod observe;
mod plan;
pub mod planning;
mod rebuild;
pub mod rows;
mod run;
pub mod score;
mod serve;
mod show;
mod simulate;
mod status;

use crate::output::error::{Failure, render};
use anyhow::Result;
use args::{Cli, LocalVerb, Verb};
use changes::Change;
use context::Context;
use exit::{Exit, exit_of, way_out_of};
use telemetry::{LogConfig, LogFormat, Service};

/// Runs one command line to its end, failures printed.
pub async fn main(cli: Cli) -> Exit {
    let context = Context::new(cli.global.clone());
    let guard = match telemetry::init(service(&cli.verb), log_config(&context, &cli.verb)) {
        Ok(guard) => guard,
        Err(error) => return fail(&context, &anyhow::Error::from(error)),
    };
    let exit = match dispatch(&context, &cli.verb).await {
        Ok(exit) => exit,
        Err(error) => fail(&context, &error),
    };
    guard.shutdown();
    exit
}

async fn dispatch(context: &Context, verb: &Verb) -> Result<Exit> {
    match verb {
        Verb::Plan(command) => plan::run(context, command).await,
        Verb::Simulate(args) => simulate::run(context, args).await,
        Verb::Apply(args) => apply::run(context, args).await,
        Verb::Run(command) => run::run(context, command).await,
        Verb::Follow(args) => follow::run(context, args).await,
        Verb::Export(args) => follow::export(context, args).await,
        Verb::Status(args) => status::run(context, args).await,
        Verb::Explain(args) => status::explain(context, args).await,
        Verb::Cancel(args) => changes::run(context, Change::Cancel, args).await,
        Verb::Pause(args) => changes::run(context, Change::Pause, args).await,
        Verb::Resume(args) => changes::run(context, Change::Resume, args).await,
        Verb::Retry(args) => changes::run(context, Change::Retry, args).await,
        Verb::Nodes => nodes::run(context).await,
        Verb::Node(verb) => node::run(context, verb).await,
        Verb::Events(args) => events::run(context, args).await,
        Verb::Logs(args) => logs::run(context, args).await,
        Verb::Data(verb) => data::run(context, verb).await,
        Verb::Score(args) => score::run(args).await,
        Verb::Config(verb) => show::config(context, verb),
        Verb::Rebuild(args) => rebuild::run(context, args).await,
        Verb::Serve(args) => serve::run(context, args).await,
        Verb::Local(LocalVerb::Run(command)) => local::run(context, command).await,
        Verb::Local(LocalVerb::Up) => local::up(context).await,
        Verb::Version => Ok(show::version(context)),
    }
}

fn fail(context: &Context, error: &anyhow::Error) -> Exit {
    let exit = exit_of(error);
    let failure = Failure {
        message: error.to_string(),
        causes: error.chain().skip(1).map(ToString::to_string).collect(),
        way_out: way_out_of(error),
        exit_code: exit.code(),
        verb: None,
    };
    context.out.talk(&render(&failure, context.out.format));
    exit
}

fn service(verb: &Verb) -> Service {
    let instance = match verb {
        Verb::Serve(_) => format!("serve-{}", std::process::id()),
        Verb::Local(_) => "local".to_owned(),
        _ => "cli".to_owned(),
    };
    Service { name: "coord", instance }
}

/// A service logs to stderr. A local cluster's supervisor logs to a file beside its children's. Other verbs
/// keep to themselves, unless something is wrong or `--verbose` was given.
fn log_config(context: &Context, verb: &Verb) -> LogConfig {
    let verbose = context.global.verbose;
    let level = |chatty: bool| if chatty { "info" } else { "warn" }.to_owned();
    let format = LogFormat::Human;
    match verb {
        Verb::Serve(args) => LogConfig {
            stderr: args.log_dir.is_none(),
            dir: args.log_dir.clone(),
            format,
            level: level(true),
        },
        Verb::Local(LocalVerb::Up) => LogConfig {
            dir: Some(context.global.output_dir.join("coordinator_logs")),
            format,
            level: level(true),
            stderr: verbose,
        },
        Verb::Local(LocalVerb::Run(command)) if !command.dry_run => LogConfig {
            dir: Some(context.global.output_dir.join("coordinator_logs")),
            format,
            level: level(true),
            stderr: verbose,
        },
        // Log lines would tear the live display.
        Verb::Run(_) | Verb::Follow(_) => {
            LogConfig { dir: None, format, level: level(verbose), stderr: !context.out.is_live() || verbose }
        }
        _ => LogConfig { dir: None, format, level: level(verbose), stderr: true },
    }
}
