//! `coord simulate`: a plan played on a fleet that may be another than the one there is. The same placement
//! decides as in the coordinator; nothing is written.

mod fleet;

use super::args::SimulateArgs;
use super::context::{Context, unknown};
use super::exit::Exit;
use super::link::{Link, Need};
use super::needs::{self, Models};
use super::{applying, planning};
use crate::output;
use anyhow::Result;
use common::plan::Plan;
use coordinator_core::placement::Fleet;
use coordinator_core::planner::history::{History, Size};
use coordinator_core::planner::predict::{Question, forecast, utilization, what_if};
use std::collections::BTreeMap;
use std::path::Path;

pub async fn run(context: &Context, args: &SimulateArgs) -> Result<Exit> {
    let config = context.config()?;
    // A file that is none is told before a server is started.
    let written = args.fleet.as_deref().map(|path| fleet::read(path, &config)).transpose()?;
    let from_file = match Path::new(&args.plan).is_file() {
        true => Some(applying::read_plan_file(Path::new(&args.plan))?),
        false => None,
    };
    let link = context.connect_or_start_local(Need::Read).await?;
    let read = read(context, &link, args, from_file, written).await;
    link.close().await;
    let (mut plan, history, (fleet, models)) = read?;
    ask_by_fleet(&config, &mut plan, &history, &models);
    let depends_on = planning::depends_on(&config);
    let question =
        Question { plan: &plan, fleet: &fleet, depends_on: &depends_on, history: &history, seed: args.seed };
    let told = forecast(&question);
    let changes = if told.impossible.is_empty() { what_if(&question) } else { Vec::new() };
    let used = utilization(&question, &told);
    context.out.page(
        output::forecast::simulation_json(&plan, &told, &changes, used, args.seed),
        || output::forecast::simulation(&plan, &told, &changes, used, args.seed),
        || told.jobs.keys().cloned().collect(),
    );
    Ok(if told.impossible.is_empty() { Exit::Ok } else { Exit::Impossible })
}

type Known = (Plan, History, (Fleet, Models));

async fn read(
    context: &Context,
    link: &Link,
    args: &SimulateArgs,
    from_file: Option<Plan>,
    written: Option<(Fleet, Models)>,
) -> Result<Known> {
    let plan = match from_file {
        Some(plan) => plan,
        None => {
            let plans = link.plans().await?;
            let known: Vec<String> = plans.iter().map(|p| p.id.to_string()).collect();
            match plans.into_iter().find(|p| p.id.as_str() == args.plan) {
                Some(plan) => plan,
                None => return Err(unknown("plan (file or id)", &args.plan, &known).into()),
            }
        }
    };
    let fleet = match written {
        Some(written) => written,
        None => {
            let beats = link.beats(&context.config()?, context.out).await?;
            (Fleet::of_beats(&beats), needs::models(&beats))
        }
    };
    let history = needs::history(context, link, &link.base().await?, &BTreeMap::new()).await;
    Ok((plan, history, fleet))
}

/// A plan asks for memory by the models of the fleet it was made for; here it may be another one.
fn ask_by_fleet(config: &common::config::Config, plan: &mut Plan, history: &History, models: &Models) {
    for job in &mut plan.jobs {
        let (name, size) = (&job.spec.name, Size::of(&job.spec.inputs.semantic));
        let need = needs::memory_need(config, models, history, &name.dataset, name.phase, &size);
        let policy = job.spec.need.policy;
        job.spec.need = common::plan::MemoryNeed { policy, ..need };
    }
}
