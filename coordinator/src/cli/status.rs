//! `coord status` and `coord explain`.

use super::args::{ExplainArgs, StatusArgs};
use super::context::{Context, core_options, now, unknown};
use super::exit::Exit;
use super::link::{Link, Need};
use super::observe::Observer;
use super::rows::rows;
use crate::output;
use anyhow::Result;
use common::ids::{JobId, JobName, PlanId};
use common::plan::Plan;

pub async fn run(context: &Context, args: &StatusArgs) -> Result<Exit> {
    let link = context.connect_or_start_local(Need::Read).await?;
    let result = status(context, &link, args).await;
    link.close().await;
    result.map(|()| Exit::Ok)
}

async fn status(context: &Context, link: &Link, args: &StatusArgs) -> Result<()> {
    let mut observer = Observer::load(link, core_options(&context.config()?)).await?;
    let plans = observer.plans(&args.plan)?;
    let ids: Vec<PlanId> = plans.iter().map(|p| p.id.clone()).collect();
    observer.hear_nodes(&ids).await?;
    let (state, at) = (&observer.state, observer.now());
    let pages: Vec<_> = plans.into_iter().map(|p| (p.clone(), rows(state, at, &p))).collect();
    context.out.page(
        output::jobs::status_json(&pages, now()),
        || output::jobs::status(&pages, now()),
        || {
            pages
                .iter()
                .flat_map(|(p, rows)| rows.iter().map(move |r| format!("{}:{}", p.id, r.job)))
                .collect()
        },
    );
    Ok(())
}

pub async fn explain(context: &Context, args: &ExplainArgs) -> Result<Exit> {
    let link = context.connect_or_start_local(Need::Read).await?;
    let result = explain_over(context, &link, args).await;
    link.close().await;
    result.map(|()| Exit::Ok)
}

async fn explain_over(context: &Context, link: &Link, args: &ExplainArgs) -> Result<()> {
    let config = context.config()?;
    let mut observer = Observer::load(link, core_options(&config)).await?;
    let plan = plan_with(&observer, &args.job, args.plan.as_deref())?;
    // Reasons are per node: all of them should have spoken.
    if link.whose != super::link::Whose::Nobody {
        let beats = link.beats(&config, context.out).await?;
        for beat in beats.into_values() {
            let event = coordinator_core::Event::Beat { beat: Box::new(beat) };
            let now = observer.now();
            let _older = coordinator_core::apply(&mut observer.state, now, event);
        }
    }
    let id = JobId { plan: plan.id.clone(), name: args.job.clone() };
    let row = rows(&observer.state, observer.now(), &plan).into_iter().find(|r| r.job == args.job);
    match coordinator_core::explain(&observer.state, observer.now(), &id) {
        Some(why) => context.out.page(
            output::jobs::explain_json(&why),
            || output::jobs::explain(&why, row.as_ref()),
            || vec![id.to_string()],
        ),
        // In the plan and in no chain: decided by the plan alone, or not taken up yet.
        None => {
            let row = row.ok_or_else(|| unknown("job", &args.job.to_string(), &[]))?;
            let text = row.message.clone().unwrap_or_default();
            context.out.page(
                output::schema("explain", &row),
                || format!("{} of plan {}: {} {text}", row.job, plan.id, row.state),
                || vec![id.to_string()],
            );
        }
    }
    Ok(())
}

/// The plan asked for, else the newest that holds the job; best one that a chain holds.
pub fn plan_with(observer: &Observer, job: &JobName, plan: Option<&str>) -> Result<Plan> {
    let plans = observer.plans(plan.unwrap_or("all"))?;
    let known: Vec<String> =
        plans.iter().flat_map(|p| p.jobs.iter().map(|j| j.spec.name.to_string())).collect();
    let with_job = plans.into_iter().rev().find(|p| p.job(job).is_some());
    with_job.ok_or_else(|| {
        let mut known = known;
        known.sort();
        known.dedup();
        unknown("job", &job.to_string(), &known).into()
    })
}
