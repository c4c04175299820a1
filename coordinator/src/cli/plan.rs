//! `coord plan`: what would be retrained, and why. Writes nothing but the file asked for.

use super::args::PlanCommand;
use super::context::Context;
use super::exit::Exit;
use super::link::Need;
use super::planning::{self, Hear, Planned};
use crate::output;
use anyhow::{Context as _, Result};
use common::ids::Phase;
use common::plan::Decision;
use std::path::Path;

pub async fn run(context: &Context, args: &PlanCommand) -> Result<Exit> {
    let link = context.connect_or_start_local(Need::Read).await?;
    let planned = planning::make(context, &link, &args.plan, Hear::Nodes).await;
    link.close().await;
    let planned = planned?;
    if let Some(path) = &args.out {
        write(path, &planned)?;
    }
    print(context, &planned, args.out.as_deref());
    Ok(exit_of(&planned, args.detailed_exitcode))
}

/// The page of a plan.
pub fn print(context: &Context, planned: &Planned, file: Option<&Path>) {
    let (plan, forecast) = (&planned.plan, &planned.forecast);
    context.out.page(
        output::plan::json(plan, forecast),
        || output::plan::page(plan, forecast, !planned.fleet.rooms.is_empty(), context.out.verbose, file),
        || plan.to_run().map(|j| j.spec.name.to_string()).collect(),
    );
    tell_missing_data(context, planned);
}

/// The page of a plan on the way to something else: talk, since the data is what comes of it.
pub fn say(context: &Context, planned: &Planned) {
    if context.out.format == output::Format::Table {
        let fleet_seen = !planned.fleet.rooms.is_empty();
        let verbose = context.out.verbose;
        context.out.talk(&output::plan::page(&planned.plan, &planned.forecast, fleet_seen, verbose, None));
    }
    tell_missing_data(context, planned);
}

fn tell_missing_data(context: &Context, planned: &Planned) {
    for (job, problem) in planning::without_data(&planned.plan) {
        // All phases of a dataset are blocked by the same captures: told once.
        if job.phase == Phase::Teacher {
            context.out.talk(&format!("error: {}: {problem}", job.dataset));
        }
    }
}

pub fn exit_of(planned: &Planned, detailed: bool) -> Exit {
    let changes = planned.plan.jobs.iter().any(|j| matches!(j.decision, Decision::Run { .. }));
    if !planned.forecast.impossible.is_empty() {
        Exit::Impossible
    } else if !planning::without_data(&planned.plan).is_empty() {
        Exit::Error
    } else if detailed && changes {
        Exit::ChangesPending
    } else {
        Exit::Ok
    }
}

/// The file that `coord apply` takes.
pub fn write(path: &Path, planned: &Planned) -> Result<()> {
    let text = output::pretty(&output::plan::json(&planned.plan, &planned.forecast)) + "\n";
    write_whole(path, text.as_bytes())
}

/// Writes a file whole or not at all; folders on the way are made.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        std::fs::write(&draft, bytes)?;
        std::fs::rename(&draft, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}
