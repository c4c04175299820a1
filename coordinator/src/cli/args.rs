//! What can be typed. The seed's flag names work where they make sense (`--force-retrain`,
//! `--priority-datasets`, `--output-dir`, `--dry-run`, `--verbose`).

use crate::output::Format;
use clap::{Args, Parser, Subcommand};
use common::ids::{JobName, NodeId, Phase};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Plans, places and follows the retraining of CAN-bus intrusion detectors.
#[derive(Debug, Parser)]
#[command(name = "coord", version, propagate_version = true, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 ok, 1 error, 2 changes pending (plan --detailed-exitcode), 3 impossible on this \
    fleet, 4 stale plan, 5 a phase failed, 6 bus or store not reachable, 64 wrong usage, 130 interrupted"
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The bus: nats://host:port, several servers of one cluster parted by commas
    #[arg(long, global = true, env = "COORD_NATS_URL", value_name = "URL")]
    pub nats: Option<String>,
    /// Login token of the bus
    #[arg(long, global = true, env = "COORD_NATS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub nats_token: Option<String>,
    /// Where results are kept: file:///folder or s3://bucket/prefix
    #[arg(long, global = true, env = "COORD_STORE", value_name = "URL")]
    pub store: Option<String>,
    /// Folder with base.yaml, gpu_profiles.yaml, datasets.yaml, pipeline.yaml [default: conf, if there]
    #[arg(long, global = true, env = "COORD_CONF", value_name = "DIR")]
    pub conf: Option<PathBuf>,
    /// One setting, e.g. lr=0.0005 or teacher.gat.epochs=20; may be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Folder that holds the dataset folders, as every agent sees it
    #[arg(long, global = true, env = "COORD_DATA", value_name = "FOLDER")]
    pub data: Option<String>,
    /// Where plan, results, models and logs are written
    #[arg(
        long,
        global = true,
        env = "COORD_OUTPUT_DIR",
        value_name = "DIR",
        default_value = "outputs/retraining"
    )]
    pub output_dir: PathBuf,
    /// Home of the cluster on this machine (`coord local`)
    #[arg(long, global = true, env = "COORD_HOME", value_name = "DIR", default_value = ".coord")]
    pub home: PathBuf,
    /// Form of what goes to stdout
    #[arg(long, short, global = true, env = "COORD_OUTPUT", value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Say more: all reasons, and the log on stderr
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Say what would be retrained, and why; writes nothing
    Plan(PlanCommand),
    /// Play a plan on another fleet: one more GPU, a lost node
    Simulate(SimulateArgs),
    /// Run exactly a plan; refuses when the world has moved since
    Apply(ApplyArgs),
    /// plan + apply + follow + export
    #[command(alias = "retrain")]
    Run(RunCommand),
    /// Watch a plan until it ends
    Follow(FollowArgs),
    /// Write results and models of a plan to --output-dir
    Export(FollowArgs),
    /// Where each job is
    #[command(alias = "ps")]
    Status(StatusArgs),
    /// Every reason why a job is not running
    Explain(ExplainArgs),
    /// Stop jobs and what depends on them
    Cancel(ChangeArgs),
    /// Offer jobs no more until they are resumed; what runs saves a checkpoint and yields
    Pause(ChangeArgs),
    /// Let paused jobs go on
    Resume(ChangeArgs),
    /// Try again what failed or was cancelled, and what was skipped because of it
    Retry(ChangeArgs),
    /// The machines, their devices and free memory
    Nodes,
    /// Take a machine out of service, and back
    #[command(subcommand)]
    Node(NodeVerb),
    /// What happened
    Events(EventsArgs),
    /// What a job's trainers wrote, attempt by attempt
    Logs(LogsArgs),
    /// Make, list and check captures
    #[command(subcommand)]
    Data(DataVerb),
    /// Score captures, or a live bus, with a trained model (as `trainer score`)
    #[command(disable_help_flag = true)]
    Score(ScoreArgs),
    /// The configuration as resolved
    #[command(subcommand)]
    Config(ConfigVerb),
    /// Make plans, chains and registry anew from the store, after the bus has lost them; replaces nothing
    Rebuild(RebuildArgs),
    /// The coordinator as a service; run two or more for safety
    Serve(ServeArgs),
    /// Everything on this machine: bus, coordinator, one agent
    #[command(subcommand)]
    Local(LocalVerb),
    /// Version of this program and of what it writes
    Version,
}

/// What to plan.
#[derive(Debug, Clone, Default, Args)]
pub struct PlanArgs {
    /// Only these datasets [default: every folder with captures below --data]
    #[arg(long, short, visible_alias = "datasets", value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub dataset: Vec<String>,
    /// Only these phases: teacher, student, fusion
    #[arg(long, value_name = "PHASE", num_args = 1.., value_delimiter = ',')]
    pub only: Vec<Phase>,
    /// Run even what is up to date: all, DATASET, PHASE or DATASET/PHASE, with * and commas [no value: all]
    #[arg(long, visible_alias = "force-retrain", value_name = "SELECTOR", num_args = 0..=1, require_equals = true,
          default_missing_value = "all")]
    pub force: Vec<String>,
    /// With --force: also what depends on the forced jobs
    #[arg(long, requires = "force")]
    pub downstream: bool,
    /// These datasets first, in this order
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub priority_datasets: Vec<String>,
}

#[derive(Debug, Args)]
pub struct PlanCommand {
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Exit 2 when something is to be run
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Write the plan to this file, for `coord apply`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// File of `plan --out`, or the id of a plan
    #[arg(value_name = "PLAN", required_unless_present = "plan_file")]
    pub plan: Option<String>,
    /// The same, as a flag
    #[arg(long, value_name = "FILE", conflicts_with = "plan")]
    pub plan_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SimulateArgs {
    /// File with the fleet: written by hand in YAML, or by `coord nodes -o json` [default: the nodes there are]
    #[arg(long, value_name = "FILE")]
    pub fleet: Option<PathBuf>,
    /// File of `plan --out`, or the id of a plan
    #[arg(long, value_name = "PLAN")]
    pub plan: String,
    /// Show one possible future instead of the usual lengths (they vary as the measured ones did)
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

#[derive(Debug, Args)]
pub struct RunCommand {
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Only say what would be done, as `coord plan`
    #[arg(long)]
    pub dry_run: bool,
    /// Return as soon as the plan is applied
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Args)]
pub struct FollowArgs {
    /// Plan id, or `last`
    #[arg(default_value = "last")]
    pub plan: String,
}

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Plan id, `last`, or `all`
    #[arg(default_value = "last")]
    pub plan: String,
}

#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// DATASET/PHASE
    pub job: JobName,
    /// Plan id [default: the newest plan that holds the job]
    #[arg(long)]
    pub plan: Option<String>,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// DATASET/PHASE
    pub job: JobName,
    /// Plan id [default: the newest plan that holds the job]
    #[arg(long)]
    pub plan: Option<String>,
    /// Only this attempt, counted from 1
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// Go on as they are written, until the job is over
    #[arg(long, short)]
    pub follow: bool,
}

#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Plan id, or a selector: all, DATASET, PHASE, DATASET/PHASE, with * and commas
    pub what: String,
    /// Why; kept in the record
    #[arg(long)]
    pub reason: Option<String>,
    /// Only list what would change, dependents first
    #[arg(long)]
    pub dry_run: bool,
    /// Ask nothing; without a terminal nothing is asked anyway
    #[arg(long, short)]
    pub yes: bool,
}

impl ChangeArgs {
    pub fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or("by an operator")
    }
}

#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// Place nothing new there; what runs goes on
    Cordon(NodeArgs),
    /// Place nothing new there, and move what runs: it saves a checkpoint, yields, and goes on elsewhere
    Drain(DrainArgs),
    /// Take jobs again, whatever closed the node
    Uncordon(NodeArgs),
    /// Place nothing new there until somebody has looked at it; what runs goes on
    Quarantine(NodeArgs),
}

#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Name of the node, as in `coord nodes`
    pub node: NodeId,
    /// Why; shown by `nodes` and `explain`
    #[arg(long, default_value = "no reason given")]
    pub reason: String,
    /// Also when no node of this name is heard
    #[arg(long)]
    pub absent: bool,
}

#[derive(Debug, Args)]
pub struct DrainArgs {
    #[command(flatten)]
    pub node: NodeArgs,
    /// What runs may end by itself until then (90s, 10m, 2h); what still runs is asked to yield
    /// [default: asked at once]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub deadline: Option<Duration>,
    /// Ask at once all the same; the deadline is then the time to save a checkpoint
    #[arg(long)]
    pub checkpoint: bool,
}

/// A number and its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no time: write a number with s, m or h, as 90s or 10m");
    let (number, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(bad)
}

#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// Only say what the store gives and what would run again
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Plan id, or `all`
    #[arg(default_value = "all")]
    pub plan: String,
    /// Go on as they happen
    #[arg(long, short)]
    pub follow: bool,
}

#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// Make sample captures below DIR
    Sample {
        #[arg(long, default_value_t = 42)]
        seed: u64,
        /// Minutes of traffic over all captures
        #[arg(long, default_value_t = 4.0)]
        minutes: f64,
        dir: PathBuf,
    },
    /// List the captures of the datasets below DIR
    Scan { dir: PathBuf },
    /// All problems of the datasets below DIR
    Check { dir: PathBuf },
}

#[derive(Debug, Args)]
pub struct ScoreArgs {
    /// Handed on; `coord score --help` tells which there are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Each value and where it came from
    Show {
        #[arg(long, default_value = "sample")]
        dataset: String,
        /// teacher, student or fusion [default: all]
        #[arg(long)]
        phase: Option<Phase>,
    },
}

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// How long to wait for the bus at the start, in seconds
    #[arg(long, default_value_t = 60)]
    pub connect_timeout: u64,
    /// Monitoring addresses of the nats-servers, http://host:port, parted by commas [default: port 8222 of
    /// each server named]
    #[arg(long, env = "COORD_NATS_MONITOR", value_name = "URL", value_delimiter = ',')]
    pub nats_monitor: Vec<String>,
    /// Folder of the log file [default: log on stderr]
    #[arg(long, value_name = "DIR")]
    pub log_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum LocalVerb {
    /// Start what is needed, retrain what is stale, write the results, stop
    Run(LocalRunCommand),
    /// Keep a cluster running on this machine until Ctrl-C
    Up,
}

#[derive(Debug, Args)]
pub struct LocalRunCommand {
    #[command(flatten)]
    pub plan: PlanArgs,
    /// Only say what would be done, as `coord plan`
    #[arg(long)]
    pub dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn plan_of(line: &str) -> PlanArgs {
        match Cli::try_parse_from(line.split_whitespace()).unwrap().verb {
            Verb::Plan(command) => command.plan,
            Verb::Local(LocalVerb::Run(command)) => command.plan,
            Verb::Run(command) => command.plan,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn force_takes_its_selector_with_an_equals_sign_only() {
        assert_eq!(plan_of("coord plan").force, Vec::<String>::new());
        assert_eq!(plan_of("coord plan --force").force, ["all"]);
        assert_eq!(
            plan_of("coord plan --force=set_*/fusion --force=hcrl_sa").force,
            ["set_*/fusion", "hcrl_sa"]
        );
        assert_eq!(plan_of("coord run --force-retrain").force, ["all"]);
        assert!(Cli::try_parse_from(["coord", "plan", "--downstream"]).is_err());
    }

    #[test]
    fn datasets_may_be_given_in_one_go_or_one_by_one() {
        assert_eq!(plan_of("coord local run --data d --datasets a b --output-dir o").dataset, ["a", "b"]);
        assert_eq!(plan_of("coord plan -d a,b --dataset c").dataset, ["a", "b", "c"]);
        assert_eq!(plan_of("coord plan --priority-datasets b a --only fusion").priority_datasets, ["b", "a"]);
    }

    #[test]
    fn global_flags_may_stand_behind_the_verb() {
        let cli =
            Cli::try_parse_from(["coord", "status", "-o", "json", "--home", "h", "--set", "lr=1"]).unwrap();
        assert_eq!((cli.global.output, cli.global.home), (Format::Json, PathBuf::from("h")));
        assert_eq!(cli.global.set, ["lr=1"]);
    }

    #[test]
    fn a_deadline_is_a_number_and_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "10", "m", "-1m", "1.5h", "10 m", "99999999999999999999h", "5ü"] {
            assert!(duration(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn an_unknown_phase_is_refused_with_the_known_ones() {
        let error = Cli::try_parse_from(["coord", "plan", "--only", "techer"]).unwrap_err().to_string();
        assert!(error.contains("use teacher, student or fusion"), "{error}");
    }
}
