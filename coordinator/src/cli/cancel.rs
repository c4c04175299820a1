//! `coord cancel`: ends jobs and what depends on them, by a compare-and-swap on each chain. A holder loses
//! its slot with it and stops at its next renewal.

use super::args::CancelArgs;
use super::context::{Context, unknown};
use super::exit::{Exit, Fault};
use super::link::{Link, Need, or_empty};
use crate::output;
use crate::output::jobs::Cancelled;
use crate::shell::client::Written;
use crate::shell::{audit, kept};
use anyhow::Result;
use common::chain::ChainRecord;
use common::ids::{ChainId, JobName, Phase, Revision};
use coordinator_core::planner::selector::Selector;
use coordinator_core::transition;

/// Races against a coordinator that makes or writes the same record; each loss means that it went on.
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

/// A chain as it is in the bucket, or as it would be made.
struct Target {
    record: ChainRecord,
    /// `None`: applied, and no coordinator has made it yet.
    revision: Option<Revision>,
}

/// Every chain there is or will be. Plans are read first: a chain made meanwhile is met when it is written.
async fn targets(link: &Link) -> Result<Vec<Target>> {
    let plans = link.plans().await?;
    let chains = or_empty(link.client.chains().await)?;
    let mut targets = Vec::new();
    for plan in &plans {
        for dataset in plan.by_dataset().into_keys() {
            let id = ChainId { plan: plan.id.clone(), dataset: dataset.clone() };
            if !chains.contains_key(&id)
                && let Some(record) = ChainRecord::from_plan(plan, &id)
            {
                targets.push(Target { record, revision: None });
            }
        }
    }
    let made = chains.into_values().map(|at| Target { record: at.value, revision: Some(at.revision) });
    targets.extend(made);
    targets.sort_by(|a, b| a.record.id.cmp(&b.record.id));
    Ok(targets)
}

fn what(word: &str, targets: &[Target]) -> Result<What> {
    let plans: Vec<String> = targets.iter().map(|t| t.record.id.plan.to_string()).collect();
    if plans.iter().any(|id| id == word) {
        return Ok(What::Plan(word.to_owned()));
    }
    let datasets: Vec<String> = targets.iter().map(|t| t.record.id.dataset.to_string()).collect();
    let is_plain = !word.contains(['*', ',', '/']) && word != "all";
    let is_known = datasets.iter().any(|d| d == word) || word.parse::<Phase>().is_ok();
    if is_plain && !is_known {
        let mut known = [plans, datasets].concat();
        known.sort();
        known.dedup();
        return Err(unknown("plan or dataset", word, &known).into());
    }
    Ok(What::Jobs(word.parse()?))
}

async fn cancel(context: &Context, link: &Link, args: &CancelArgs) -> Result<()> {
    let targets = targets(link).await?;
    let what = what(&args.what, &targets)?;
    let mut done = Vec::new();
    // Where the store is known, the records of what is over are kept there too.
    let store = link.store_url.as_deref().and_then(|url| context.open_store(Some(url)).ok());
    for target in targets {
        if let Some((cancelled, record)) = cancel_chain(link, target, &what, args).await? {
            if let Some(store) = store.as_ref().filter(|_| record.is_finished() && !args.dry_run) {
                kept::put_over(store, &record).await;
            }
            done.push(cancelled);
        }
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
    mut at: Target,
    what: &What,
    args: &CancelArgs,
) -> Result<Option<(Done, ChainRecord)>> {
    let id = at.record.id.clone();
    for _ in 0..TRIES_MAX {
        let phases = what.phases(&at.record);
        let Some((next, notes)) = transition::cancel(&at.record, &phases, &args.reason) else {
            return Ok(None);
        };
        let done = (id.clone(), names(&id, phases.iter()), dependents(&at.record, &next, &phases));
        if args.dry_run {
            return Ok(Some((done, next)));
        }
        match link.client.write_chain(&next, at.revision).await? {
            Written::Yes(revision) => {
                audit::tell(&link.client, &notes, revision).await;
                return Ok(Some((done, next)));
            }
            Written::Lost => match link.client.chain(&id).await? {
                // Our own write, whose answer was lost on the way.
                Some(newer) if newer.value == next => return Ok(Some((done, next))),
                Some(newer) => at = Target { record: newer.value, revision: Some(newer.revision) },
                None => return Ok(None),
            },
        }
    }
    Err(Fault::new(Exit::Error, format!("chain {id} changed {TRIES_MAX} times while it was to be cancelled"))
        .way_out("try again")
        .into())
}

fn names<'p>(id: &ChainId, phases: impl Iterator<Item = &'p Phase>) -> Vec<JobName> {
    phases.map(|phase| JobName::new(id.dataset.clone(), *phase)).collect()
}

/// Jobs that end with the named ones, though nobody named them.
fn dependents(before: &ChainRecord, after: &ChainRecord, named: &[Phase]) -> Vec<JobName> {
    let ended = after.jobs.iter().filter(|(phase, job)| {
        let was_over = before.jobs.get(phase).is_some_and(|j| j.state.is_terminal());
        job.state.is_terminal() && !was_over && !named.contains(phase)
    });
    names(&after.id, ended.map(|(phase, _)| phase))
}
