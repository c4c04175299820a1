//! `coord follow` and `coord export`: a plan that was applied.

use super::args::FollowArgs;
use super::context::{Context, core_options};
use super::exit::{Exit, Fault};
use super::link::{Link, Need};
use super::observe::Observer;
use super::{exporting, following};
use anyhow::Result;
use common::plan::Plan;

pub async fn run(context: &Context, args: &FollowArgs) -> Result<Exit> {
    let link = context.connect().await?;
    let config = context.config()?;
    let observer = Observer::load(&link, core_options(&config)).await?;
    let plan = one_plan(&observer, &args.plan)?;
    drop(observer);
    following::follow_and_export(context, &link, &[plan.id]).await
}

pub async fn export(context: &Context, args: &FollowArgs) -> Result<Exit> {
    let link = context.connect_or_start_local(Need::Read).await?;
    let result = export_over(context, &link, args).await;
    link.close().await;
    result.map(|()| Exit::Ok)
}

async fn export_over(context: &Context, link: &Link, args: &FollowArgs) -> Result<()> {
    let config = context.config()?;
    let observer = Observer::load(link, core_options(&config)).await?;
    let plan = one_plan(&observer, &args.plan)?;
    exporting::export(context, link, &observer, &[plan]).await
}

fn one_plan(observer: &Observer, word: &str) -> Result<Plan> {
    let found = observer.plans(word)?.pop();
    found.ok_or_else(|| {
        Fault::new(Exit::Error, "no plan was ever applied here")
            .way_out("`coord run` plans and applies")
            .into()
    })
}
