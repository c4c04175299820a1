//! `coord cancel`: ends jobs and what depends on them, by a compare-and-swap on each chain. A holder loses
//! its slot with it and stops at its next renewal.

use super::args::CancelArgs;
use super::context::{Context, unknown};
use super::exit::{Exit, Fault};
use super::link::{Link, Need};
use crate::output;
use crate::output::jobs::Cancelled;
use crate::shell::client::{At, Written};
use anyhow::Result;
use common::chain::ChainRecord;
use common::ids::{ChainId, JobName, Phase};
use coordinator_core::planner::selector::Selector;
use coordinator_core::transition;

/// Races against a coordinator that writes the same record; each loss means that it went on.
const TRIES_MAX: u32 = 20;

pub async fn run(context: &Context, args: &CancelArgs) -> Result<Exit> {
    let link = context.connect_or_start_local(Need::Write).await?;
    let result = cancel(context, &link, args).await;
    link.close().await;
    result.map(|()| Exit::Ok)
}

/// What the word of the command names.
enum What {
    Plan(String),
    Jobs(Selector),
}

impl What {
    fn phases(&self, record: &ChainRecord) -> Vec<Phase> {
        let open = record.jobs.iter().filter(|(_, job)| !job.state.is_terminal()).map(|(phase, _)| *phase);
        match self {
            What::Plan(id) if record.id.plan.as_str() == id => open.collect(),
            What::Plan(_) => Vec::new(),
            What::Jobs(selector) => {
                open.filter(|p| selector.matches(&JobName::new(record.id.dataset.clone(), *p))).collect()
            }
        }
    }
}

async fn cancel(context: &Context, link: &Link, args: &CancelArgs) -> Result<()> {
    let chains = super::link::or_empty(link.client.chains().await)?;
    let plans: Vec<String> = chains.keys().map(|id| id.plan.to_string()).collect();
    let datasets: Vec<String> = chains.keys().map(|id| id.dataset.to_string()).collect();
    let what = match plans.contains(&args.what) {
        true => What::Plan(args.what.clone()),
        false => What::Jobs(args.what.parse()?),
    };
    let is_plain = !args.what.contains(['*', ',', '/']) && args.what != "all";
    let is_known = datasets.contains(&args.what) || args.what.parse::<Phase>().is_ok();
    if is_plain && !is_known && matches!(what, What::Jobs(_)) {
        let mut known = [plans, datasets].concat();
        known.dedup();
        return Err(unknown("plan or dataset", &args.what, &known).into());
    }
    let mut done = Vec::new();
    for (id, at) in chains {
        done.extend(cancel_chain(link, id, at, &what, args).await?);
    }
    let page: Vec<Cancelled<'_>> = done
        .iter()
        .map(|(id, named, dependents)| Cancelled {
            plan: &id.plan,
            named: named.clone(),
            dependents: dependents.clone(),
        })
        .collect();
    context.out.page(
        output::jobs::cancel_json(&page, &args.reason, !args.dry_run),
        || output::jobs::cancel(&page, !args.dry_run),
        || page.iter().flat_map(|c| c.named.iter().chain(&c.dependents)).map(ToString::to_string).collect(),
    );
    Ok(())
}

type Done = (ChainId, Vec<JobName>, Vec<JobName>);

async fn cancel_chain(
    link: &Link,
    id: ChainId,
    mut at: At<ChainRecord>,
    what: &What,
    args: &CancelArgs,
) -> Result<Option<Done>> {
    for _ in 0..TRIES_MAX {
        let phases = what.phases(&at.value);
        let Some(next) = transition::cancel(&at.value, &phases, &args.reason) else { return Ok(None) };
        let name = |phase: &Phase| JobName::new(id.dataset.clone(), *phase);
        let ended = next.jobs.iter().filter(|(phase, job)| {
            let before = at.value.jobs.get(phase).is_some_and(|j| j.state.is_terminal());
            job.state.is_terminal() && !before && !phases.contains(phase)
        });
        let dependents = ended.map(|(phase, _)| name(phase)).collect();
        let done = Some((id.clone(), phases.iter().map(name).collect(), dependents));
        if args.dry_run {
            return Ok(done);
        }
        match link.client.update_chain(&next, at.revision).await? {
            Written::Yes(_) => return Ok(done),
            Written::Lost => match link.client.chain(&id).await? {
                Some(newer) => at = newer,
                None => return Ok(None),
            },
        }
    }
    Err(Fault::new(Exit::Error, format!("chain {id} changed {TRIES_MAX} times while it was to be cancelled"))
        .way_out("try again")
        .into())
}
