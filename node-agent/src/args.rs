//! The command line.

use common::ids::NodeId;
use gpu::CpuPolicy;
use std::path::PathBuf;
use telemetry::LogFormat;

/// Runs the phases of one machine: takes offers, starts trainers, uploads what they make.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "node-agent", version)]
pub struct Args {
    /// nats-server to speak to; several of one cluster parted by commas.
    #[arg(long, env = "COORD_NATS_URL", default_value = "nats://127.0.0.1:4222", value_name = "URL")]
    pub nats: String,
    #[arg(long, env = "COORD_NATS_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub nats_token: Option<String>,
    /// Credentials file of a NATS user.
    #[arg(long, env = "COORD_NATS_CREDS", value_name = "FILE")]
    pub nats_creds: Option<PathBuf>,
    /// Object store: s3://bucket/prefix, or a folder that every machine sees.
    #[arg(long, env = "COORD_STORE_URL", value_name = "URL")]
    pub store: String,
    /// Name of this machine in the fleet.
    #[arg(long, env = "COORD_NODE", value_name = "NAME")]
    pub node: NodeId,
    /// Trainer program; default: `trainer` beside this program.
    #[arg(long, env = "COORD_TRAINER", value_name = "PATH")]
    pub trainer: Option<PathBuf>,
    /// Folder of this agent alone: scratch, cache, logs.
    #[arg(long, env = "COORD_WORK_DIR", value_name = "DIR")]
    pub work_dir: PathBuf,
    /// Folder of configuration files (base.yaml, gpu_profiles.yaml, pipeline.yaml).
    #[arg(long, env = "COORD_CONF", value_name = "DIR")]
    pub conf: Option<PathBuf>,
    /// One setting, for example cluster.lease_s=30; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Whether the processors of this machine take jobs: yes, no, or auto (only without a GPU).
    #[arg(long, default_value = "auto", value_name = "WHEN")]
    pub cpu: CpuPolicy,
    /// Give up when no nats-server answers for so many seconds at the start.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub connect_timeout: u64,
    /// Log lines: human or json.
    #[arg(long, default_value = "human", value_parser = log_format, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("{other:?} is not human or json")),
    }
}
