//! `coord apply`: runs exactly a plan.

use super::applying::{self, Applied};
use super::args::{ApplyArgs, PlanArgs};
use super::context::Context;
use super::exit::{Exit, Fault};
use super::link::{Link, Need, Whose};
use super::planning::{self, Hear};
use crate::output;
use anyhow::Result;
use common::ids::PlanId;
use common::plan::Plan;
use std::path::{Path, PathBuf};

pub async fn run(context: &Context, args: &ApplyArgs) -> Result<Exit> {
    // A file that is no plan is told before a server is started.
    let from_file = match plan_file(context, args) {
        Some(path) => Some(applying::read_plan_file(&path)?),
        None => None,
    };
    let link = context.connect_or_start_local(Need::Write).await?;
    let result = apply(context, &link, args, from_file).await;
    link.close().await;
    result
}

async fn apply(context: &Context, link: &Link, args: &ApplyArgs, from_file: Option<Plan>) -> Result<Exit> {
    let plan = match (from_file, &args.plan) {
        (Some(plan), _) => plan,
        (None, Some(id)) => plan_by_id(context, link, id).await?,
        (None, None) => return Err(Fault::new(Exit::Usage, "name a plan").into()),
    };
    let applied = applying::apply(link, plan.clone()).await?;
    tell(context, &plan, applied, link.whose);
    Ok(Exit::Ok)
}

/// Says what came of an apply, and what can be done next.
pub fn tell(context: &Context, plan: &Plan, applied: Applied, whose: Whose) {
    let page = output::plan::applied_json(plan, applied);
    context.out.page(
        page,
        || output::plan::applied(plan, applied, whose == Whose::Nobody),
        || vec![plan.id.to_string()],
    );
}

fn plan_file(context: &Context, args: &ApplyArgs) -> Option<PathBuf> {
    if let Some(path) = &args.plan_file {
        return Some(path.clone());
    }
    let given = args.plan.as_deref()?;
    let path = Path::new(given);
    // `p12ab` is an id even when a folder of that name lies around.
    if path.is_file() || given.contains('/') || given.ends_with(".json") {
        return Some(path.to_owned());
    }
    let written = context.global.output_dir.join(format!("{given}_plan.json"));
    written.is_file().then_some(written)
}

/// A plan known by id only: one that was applied, or the one that the same command would make now.
async fn plan_by_id(context: &Context, link: &Link, id: &str) -> Result<Plan> {
    let id: PlanId = id.parse()?;
    if let Some(plan) = link.plans().await?.into_iter().find(|p| p.id == id) {
        return Ok(plan);
    }
    let planned = planning::make(context, link, &PlanArgs::default(), Hear::Nodes).await?;
    if planned.plan.id == id {
        return Ok(planned.plan);
    }
    let message = format!("plan {id} is not what would be planned now (that is {})", planned.plan.id);
    Err(Fault::new(Exit::Stale, message)
        .way_out(
            "plans made with flags are kept in files: `coord plan … --out FILE`, then `coord apply FILE`",
        )
        .into())
}
