//! Watching plans until they end.

use super::context::{Context, core_options, now};
use super::exit::{Exit, Fault};
use super::link::Link;
use super::observe::Observer;
use super::rows::{JobRow, rows};
use crate::output::progress::Progress;
use anyhow::Result;
use common::ids::PlanId;
use common::plan::Plan;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// The display is looked at so often.
const LOOK: Duration = Duration::from_millis(250);
/// How long the registry may take to catch up after the last commit.
const PUBLISH_MAX: Duration = Duration::from_secs(15);

/// How following ended.
pub enum Ended {
    /// Every job is over; those without a result.
    Over { failed: Vec<JobRow> },
    /// Ctrl-C or SIGTERM: the plans go on without us.
    Detached,
}

/// Watches until every job of the plans is over.
pub async fn follow(context: &Context, observer: &mut Observer, plans: &[Plan]) -> Result<Ended> {
    let mut progress = Progress::new(context.out);
    let interrupted = interrupted()?;
    tokio::pin!(interrupted);
    let watched = tokio::select! {
        watched = watch(observer, plans, &mut progress) => watched.map(|failed| Ended::Over { failed }),
        () = &mut interrupted => Ok(Ended::Detached),
    };
    progress.finish();
    watched
}

async fn watch(observer: &mut Observer, plans: &[Plan], progress: &mut Progress) -> Result<Vec<JobRow>> {
    let mut connected = true;
    loop {
        observer.take(LOOK).await?;
        let all: Vec<JobRow> = plans.iter().flat_map(|p| rows(&observer.state, observer.now(), p)).collect();
        progress.show(&all, now());
        if observer.is_connected() != connected {
            connected = !connected;
            progress.say(if connected {
                "the bus answers again"
            } else {
                "the bus does not answer; waiting"
            });
        }
        if plans.iter().all(|p| observer.is_over(p)) {
            wait_for_registry(observer, plans).await?;
            return Ok(all.into_iter().filter(|row| row.failed).collect());
        }
    }
}

/// The next plan compares against the registry: a run has ended only when it is there.
async fn wait_for_registry(observer: &mut Observer, plans: &[Plan]) -> Result<()> {
    let deadline = Instant::now() + PUBLISH_MAX;
    while !plans.iter().all(|p| observer.is_published(p)) && Instant::now() < deadline {
        observer.take(LOOK).await?;
    }
    Ok(())
}

/// Ends at SIGINT or SIGTERM.
pub fn interrupted() -> Result<impl Future<Output = ()>> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
    })
}

/// The end of a followed run as an exit code; failures are told.
pub fn exit_of(context: &Context, failed: &[JobRow]) -> Exit {
    if failed.is_empty() {
        return Exit::Ok;
    }
    for row in failed {
        let message = row.message.clone().unwrap_or_default();
        context.out.talk(&format!("error: {} {}: {}", row.job, row.state, message.trim()));
    }
    context
        .out
        .talk("  way out: `coord explain DATASET/PHASE` tells every attempt; a later run goes on from here");
    Exit::PhaseFailed
}

/// Follows plans on a running cluster to their end, then writes their outputs.
pub async fn follow_and_export(context: &Context, link: &Link, ids: &[PlanId]) -> Result<Exit> {
    let config = context.config()?;
    // Needed at the end: better missed now than then.
    context.open_store(link.store_url.as_deref())?;
    let mut observer = Observer::load(link, core_options(&config)).await?;
    let plans = plans_of(&observer, ids)?;
    match follow(context, &mut observer, &plans).await? {
        Ended::Detached => {
            let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
            context
                .out
                .talk(&format!("detached; the plan goes on. Come back: coord follow {}", names.join(" ")));
            Ok(Exit::Interrupted)
        }
        Ended::Over { failed } => {
            super::exporting::export(context, link, &observer, &plans).await?;
            Ok(exit_of(context, &failed))
        }
    }
}

pub fn plans_of(observer: &Observer, ids: &[PlanId]) -> Result<Vec<Plan>> {
    let find = |id: &PlanId| {
        let found = observer.state.plans.get(id).cloned();
        found.ok_or_else(|| Fault::new(Exit::Error, format!("there is no plan {id}")).into())
    };
    ids.iter().map(find).collect()
}
