//! The processes of a local cluster: nats-server, coordinator, one agent.

use super::child::ChildSpec;
use super::home::{Home, HomeLock, Running};
use super::supervise::Kept;
use crate::cli::context::{Context, absolute, data_root_of};
use crate::cli::exit::{Exit, Fault};
use crate::cli::link::{Link, Whose, open_bus};
use crate::cli::score::beside;
use crate::shell::records::Patience;
use anyhow::{Context as _, Result};
use bus::BusLayout;
use bus::server::{NatsServer, ServerError, ServerOptions};
use common::config::Config;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Name of the one node.
pub const NODE: &str = "local";
/// Times in a row that nats-server may fail to start.
const NATS_FAILURES_MAX: u32 = 10;
/// The coordinator writes nothing at its end; it only has to let go.
const SERVE_GRACE: Duration = Duration::from_secs(8);
/// Beyond the agent's own grace for saving checkpoints.
const AGENT_GRACE_MORE: Duration = Duration::from_secs(10);

pub struct Cluster {
    pub link: Link,
    running: Running,
    home: Home,
    nats: JoinHandle<Result<(), ServerError>>,
    stop_nats: CancellationToken,
    workers: Option<Workers>,
    _lock: HomeLock,
}

struct Workers {
    serve: Kept,
    agent: Kept,
}

impl Cluster {
    /// Takes the home and starts its bus; nothing else yet.
    pub async fn start_bus(context: &Context) -> Result<Cluster> {
        let home = context.home();
        home.create()?;
        let lock = home.lock().await?;
        let server = NatsServer::start(ServerOptions::new(home.nats_dir())).await?;
        let data_url = context.global.data.as_deref().map(data_root_of).transpose()?.map(|d| d.url);
        let running = Running {
            nats_url: server.url(),
            token: server.token().to_owned(),
            store_url: context.global.store.clone().unwrap_or_else(|| home.store_url()),
            data_url: data_url.or_else(|| home.last().and_then(|l| l.data_url)),
            output_dir: absolute(&context.global.output_dir)?,
            pid: std::process::id(),
        };
        let bus = open_bus(&running.nats_url, Some(&running.token), Patience::NONE).await?;
        bus.ensure(&BusLayout::default()).await?;
        home.write_running(&running)?;
        let stop_nats = CancellationToken::new();
        let until = stop_nats.clone().cancelled_owned();
        let nats = tokio::spawn(server.supervise(until, NATS_FAILURES_MAX));
        let link = Link::new(bus, Whose::Local, Some(running.store_url.clone()));
        Ok(Cluster { link, running, home, nats, stop_nats, workers: None, _lock: lock })
    }

    pub fn is_working(&self) -> bool {
        self.workers.is_some()
    }

    /// Starts coordinator and agent.
    pub fn start_workers(&mut self, context: &Context, config: &Config) -> Result<()> {
        if self.workers.is_none() {
            let (serve, agent) = (self.serve_spec(context)?, self.agent_spec(context, config)?);
            self.workers = Some(Workers { serve: Kept::start(serve), agent: Kept::start(agent) });
        }
        Ok(())
    }

    /// Ends only when one of the processes was given up, with the reason.
    pub async fn given_up(&mut self) -> anyhow::Error {
        let workers = async {
            match &mut self.workers {
                Some(workers) => tokio::select! {
                    error = workers.serve.given_up() => error,
                    error = workers.agent.given_up() => error,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = workers => error,
            ended = &mut self.nats => match ended {
                Ok(Err(error)) => anyhow::Error::from(error).context("nats-server was given up"),
                Ok(Ok(())) | Err(_) => Fault::new(Exit::Unavailable, "nats-server ended unasked").into(),
            },
        }
    }

    /// In order: the agent saves and reports while there is a bus, the bus goes last.
    pub async fn stop(self) {
        if let Some(workers) = self.workers {
            workers.agent.stop().await;
            workers.serve.stop().await;
        }
        drop(self.link);
        self.stop_nats.cancel();
        if !self.nats.is_finished() {
            let _given_up_before = self.nats.await;
        }
    }

    fn serve_spec(&self, context: &Context) -> Result<ChildSpec> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut args: Vec<String> = vec!["serve".into(), "--verbose".into()];
        args.extend(["--nats", &self.running.nats_url, "--store", &self.running.store_url].map(String::from));
        args.extend(settings(context)?);
        Ok(ChildSpec {
            name: "coordinator",
            program,
            args,
            env: self.secrets(),
            log: self.running.output_dir.join("coordinator_logs/serve.log"),
            grace: SERVE_GRACE,
        })
    }

    fn agent_spec(&self, context: &Context, config: &Config) -> Result<ChildSpec> {
        let program = beside("node-agent", "COORD_NODE_AGENT")?;
        let trainer = beside("trainer", "COORD_TRAINER")?;
        let (work_dir, logs) = (self.home.agent_dir(), &self.running.output_dir);
        for folder in ["orchestrator_logs", "process_logs"] {
            link_folder(&work_dir.join(folder), &logs.join(folder))?;
        }
        let mut args: Vec<String> = Vec::new();
        args.extend(["--nats", &self.running.nats_url, "--store", &self.running.store_url].map(String::from));
        args.extend(["--node", NODE].map(String::from));
        args.extend(["--trainer".into(), trainer.display().to_string()]);
        args.extend(["--work-dir".into(), work_dir.display().to_string()]);
        args.extend(settings(context)?);
        Ok(ChildSpec {
            name: "node-agent",
            program,
            args,
            env: self.secrets(),
            log: logs.join("orchestrator_logs/node-agent.log"),
            grace: Duration::from_secs(u64::from(config.cluster.stop_grace_s)) + AGENT_GRACE_MORE,
        })
    }

    /// Not on the command line, where every user of the machine could read it.
    fn secrets(&self) -> Vec<(String, String)> {
        vec![("COORD_NATS_TOKEN".into(), self.running.token.clone())]
    }
}

/// The configuration as children are to resolve it; variables they inherit.
fn settings(context: &Context) -> Result<Vec<String>> {
    let mut args = Vec::new();
    if let Some(conf) = context.conf_dir() {
        args.extend(["--conf".into(), absolute(&conf)?.display().to_string()]);
    }
    for setting in &context.global.set {
        args.extend(["--set".into(), setting.clone()]);
    }
    Ok(args)
}

/// Makes `from` lead to `to`, so that a child's logs lie with the other outputs.
fn link_folder(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("making the log folder {}", to.display());
    std::fs::create_dir_all(to).with_context(what)?;
    if let Some(parent) = from.parent() {
        std::fs::create_dir_all(parent).with_context(what)?;
    }
    match std::fs::read_link(from) {
        Ok(leads_to) if leads_to == to => return Ok(()),
        Ok(_) => std::fs::remove_file(from).with_context(what)?,
        // A real folder of an agent that was started by hand keeps its logs.
        Err(_) if from.exists() => return Ok(()),
        Err(_) => {}
    }
    std::os::unix::fs::symlink(to, from).with_context(what)
}
