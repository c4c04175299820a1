//! `coord local`: a whole cluster on this machine, for as long as it is needed.
//!
//! | module | holds |
//! |--|--|
//! | [`home`] | files, owner and address of a local cluster |
//! | [`cluster`] | its processes: nats-server, coordinator, agent |
//! | `supervise`, `child` | keeping one process running; one process |

mod child;
pub mod cluster;
pub mod home;
mod supervise;

use super::args::{LocalRunCommand, RunCommand};
use super::context::{Context, core_options};
use super::exit::{Exit, Fault};
use super::following::{self, Ended, interrupted};
use super::link::or_empty;
use super::observe::Observer;
use super::planning::Hear;
use super::{applying, exporting, plan, planning};
use anyhow::Result;
use cluster::Cluster;
use common::ids::{NodeId, PlanId};
use common::messages::NodeBeat;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// The agent's first beat must have been heard by then.
const AGENT_START_MAX: Duration = Duration::from_secs(30);

/// Keeps a cluster until Ctrl-C.
pub async fn up(context: &Context) -> Result<Exit> {
    let config = context.config()?;
    let mut cluster = Cluster::start_bus(context).await?;
    let interrupted = interrupted()?;
    let ended = match cluster.start_workers(context, &config) {
        Ok(()) => {
            context.out.talk(&format!(
                "local cluster of {} is up; `coord run --data FOLDER` retrains, Ctrl-C stops it",
                context.home().root().display()
            ));
            tokio::select! {
                () = interrupted => Ok(Exit::Ok),
                error = cluster.given_up() => Err(error),
            }
        }
        Err(error) => Err(error),
    };
    context.out.talk("stopping");
    cluster.stop().await;
    ended
}

/// One run from nothing to nothing: what it started it stops.
pub async fn run(context: &Context, args: &LocalRunCommand) -> Result<Exit> {
    if args.dry_run {
        let command = RunCommand { plan: args.plan.clone(), dry_run: true, detach: false };
        return super::run::run(context, &command).await;
    }
    // A wrong folder or setting is told before anything is started.
    context.config()?;
    context.data_root()?;
    let mut cluster = Cluster::start_bus(context).await?;
    let interrupted = interrupted()?;
    let ended = tokio::select! {
        ended = work(context, &mut cluster, args) => ended,
        () = interrupted => Ok(Exit::Interrupted),
    };
    if matches!(ended, Ok(Exit::Interrupted)) {
        context.out.talk("stopping; what runs is saved, and the next `coord local run` goes on with it");
    }
    cluster.stop().await;
    ended
}

async fn work(context: &Context, cluster: &mut Cluster, args: &LocalRunCommand) -> Result<Exit> {
    let unfinished = unfinished(cluster).await?;
    if !unfinished.is_empty() {
        let names: Vec<String> = unfinished.iter().map(ToString::to_string).collect();
        context.out.talk(&format!(
            "plan {} was not finished: going on with it (`coord cancel` would end it); nothing is planned anew",
            names.join(", ")
        ));
        start_workers(context, cluster).await?;
        return follow(context, cluster, &unfinished).await;
    }
    let planned = planning::make(context, &cluster.link, &args.plan, Hear::Known(BTreeMap::new())).await?;
    let exit = plan::exit_of(&planned, false);
    if planned.jobs_to_run() == 0 {
        exporting::up_to_date(context, &cluster.link, &planned).await?;
        return Ok(exit);
    }
    let beats = start_workers(context, cluster).await?;
    // Again, with the agent there: now place and time can be told, and what fits nowhere.
    let planned = planning::make(context, &cluster.link, &args.plan, Hear::Known(beats)).await?;
    plan::say(context, &planned);
    let exit = plan::exit_of(&planned, false);
    if exit == Exit::Impossible {
        return Ok(exit);
    }
    applying::apply(&cluster.link, planned.plan.clone()).await?;
    let followed = follow(context, cluster, &[planned.plan.id]).await?;
    // Captures that could not be read are an error even when all else went well.
    Ok(if followed == Exit::Ok { exit } else { followed })
}

/// Plans that an earlier run left behind.
async fn unfinished(cluster: &Cluster) -> Result<Vec<PlanId>> {
    let base = or_empty(cluster.link.client.base().await)?;
    let ids: BTreeSet<PlanId> = base.running.into_values().collect();
    Ok(ids.into_iter().collect())
}

/// Starts coordinator and agent, and waits until the agent speaks.
async fn start_workers(context: &Context, cluster: &mut Cluster) -> Result<BTreeMap<NodeId, NodeBeat>> {
    let config = context.config()?;
    cluster.start_workers(context, &config)?;
    let deadline = Instant::now() + AGENT_START_MAX;
    let link = cluster.link.handle();
    let heard = async {
        while Instant::now() < deadline {
            let beats = link.beats(&config, context.out).await?;
            if !beats.is_empty() {
                return Ok(beats);
            }
        }
        let what = format!("the node-agent did not speak within {} s", AGENT_START_MAX.as_secs());
        Err(Fault::new(Exit::Unavailable, what).way_out("its log: orchestrator_logs/node-agent.log").into())
    };
    tokio::select! {
        heard = heard => heard,
        error = cluster.given_up() => Err(error),
    }
}

async fn follow(context: &Context, cluster: &mut Cluster, ids: &[PlanId]) -> Result<Exit> {
    let config = context.config()?;
    let mut observer = Observer::load(&cluster.link, core_options(&config)).await?;
    let plans = following::plans_of(&observer, ids)?;
    let ended = tokio::select! {
        ended = following::follow(context, &mut observer, &plans) => ended?,
        error = cluster.given_up() => return Err(error),
    };
    match ended {
        Ended::Detached => Ok(Exit::Interrupted),
        Ended::Over { failed } => {
            exporting::export(context, &cluster.link, &observer, &plans).await?;
            Ok(following::exit_of(context, &failed))
        }
    }
}
