//! `coord run`: plan + apply + follow + export, on a cluster that is there.

use super::args::RunCommand;
use super::context::Context;
use super::exit::Exit;
use super::link::{Link, Need};
use super::planning::Hear;
use super::{apply, applying, exporting, following, plan, planning};
use anyhow::Result;

pub async fn run(context: &Context, args: &RunCommand) -> Result<Exit> {
    if args.dry_run {
        let link = context.connect_or_start_local(Need::Read).await?;
        let planned = planning::make(context, &link, &args.plan, Hear::Nodes).await;
        link.close().await;
        let planned = planned?;
        plan::print(context, &planned, None);
        return Ok(plan::exit_of(&planned, false));
    }
    let link = context.connect().await?;
    run_over(context, &link, args).await
}

async fn run_over(context: &Context, link: &Link, args: &RunCommand) -> Result<Exit> {
    let planned = planning::make(context, link, &args.plan, Hear::Nodes).await?;
    let exit = plan::exit_of(&planned, false);
    if planned.jobs_to_run() == 0 {
        let running = planning::running_elsewhere(&planned.plan);
        if running.is_empty() {
            exporting::up_to_date(context, link, &planned).await?;
            return Ok(exit);
        }
        // Asked for twice: the second one watches as well.
        let names: Vec<String> = running.iter().map(ToString::to_string).collect();
        context.out.talk(&format!("already running in plan {}: following it", names.join(", ")));
        return following::follow_and_export(context, link, &running).await;
    }
    plan::say(context, &planned);
    if exit == Exit::Impossible {
        return Ok(exit);
    }
    context.open_store(link.store_url.as_deref())?;
    let applied = applying::apply(link, planned.plan.clone()).await?;
    if args.detach {
        apply::tell(context, &planned.plan, applied, link.whose);
        return Ok(exit);
    }
    let followed =
        following::follow_and_export(context, link, std::slice::from_ref(&planned.plan.id)).await?;
    // Captures that could not be read are an error even when all else went well.
    Ok(if followed == Exit::Ok { exit } else { followed })
}
