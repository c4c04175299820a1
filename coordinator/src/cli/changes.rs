//! `coord cancel`, `pause`, `resume`, `retry`: changes of jobs by a compare-and-swap on each chain. A holder that
//! is cancelled loses its slot with it and stops at its next renewal; one that is paused is asked to save first.

use super::args::ChangeArgs;
use super::context::{Context, unknown};
use super::exit::{Exit, Fault};
use super::link::{Link, Need, or_empty};
use crate::output;
use crate::output::changes::{Changed, Words};
use crate::shell::client::Written;
use crate::shell::{audit, kept};
use anyhow::Result;
use common::chain::{ChainRecord, JobRecord};
use common::ids::{ChainId, DatasetId, JobName, Phase, Revision};
use coordinator_core::effect::Note;
use coordinator_core::planner::selector::Selector;
use coordinator_core::{by_hand, transition};
use std::collections::BTreeMap;

/// Races against a coordinator that makes or writes the same record; each loss means that it went on.
const TRIES_MAX: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Cancel,
    Pause,
    Resume,
    Retry,
}

impl Change {
    fn words(self) -> Words {
        match self {
            Change::Cancel => Words {
                verb: "cancel",
                done: "cancelled",
                dependents: "depends on what is cancelled",
                matching: "that is not over",
            },
            Change::Pause => Words {
                verb: "pause",
                done: "paused",
                dependents: "waits for what is paused",
                matching: "that is not over or paused",
            },
            Change::Resume => Words {
                verb: "resume",
                done: "resumed",
                dependents: "waited for what is resumed",
                matching: "that is paused",
            },
            Change::Retry => Words {
                verb: "retry",
                done: "retried",
                dependents: "was skipped because of it",
                matching: "of the newest plan that ended without a result",
            },
        }
    }

    /// Whether a job is one that this change is about.
    fn concerns(self, job: &JobRecord) -> bool {
        match self {
            Change::Cancel => !job.state.is_terminal(),
            Change::Pause => !job.state.is_terminal() && job.paused.is_none(),
            Change::Resume => !job.state.is_terminal() && job.paused.is_some(),
            Change::Retry => by_hand::is_lost(&job.state),
        }
    }

    fn of(
        self,
        record: &ChainRecord,
        phases: &[Phase],
        reason: &str,
    ) -> Result<Option<(ChainRecord, Vec<Note>)>, Fault> {
        match self {
            Change::Cancel => Ok(transition::cancel(record, phases, reason)),
            Change::Pause => Ok(by_hand::pause(record, phases, reason)),
            Change::Resume => Ok(by_hand::resume(record, phases)),
            Change::Retry => by_hand::reopen(record, phases).map_err(|needs| {
                let way_out = format!("retry {} (what was skipped because of it follows)", needs.parent);
                Fault::new(Exit::Error, needs.to_string()).way_out(way_out)
            }),
        }
    }
}

pub async fn run(context: &Context, change: Change, args: &ChangeArgs) -> Result<Exit> {
    let link = context.connect_or_start_local(Need::Write).await?;
    let result = make(context, &link, change, args).await;
    link.close().await;
    result
}

async fn make(context: &Context, link: &Link, change: Change, args: &ChangeArgs) -> Result<Exit> {
    let targets = targets(link).await?;
    let what = what(&args.what, &targets)?;
    let concerned = match (&what, change) {
        // What older plans lost, newer ones have taken up or given up.
        (What::Jobs(_), Change::Retry) => newest(targets),
        _ => targets,
    };
    let mut preview = Vec::new();
    for target in &concerned {
        preview.extend(drafted(target, &what, change, args)?.map(|draft| draft.told));
    }
    let words = change.words();
    if args.dry_run || preview.is_empty() {
        show(context, &words, &preview, args, false);
        return Ok(Exit::Ok);
    }
    if change != Change::Resume && !args.yes && context.out.can_ask() {
        context.out.talk(output::changes::text(&words, &preview, false).trim_end());
        if !context.out.ask(&format!("{} these jobs?", words.verb)).await {
            context.out.talk("nothing was changed");
            return Ok(Exit::Interrupted);
        }
    }
    let mut done = Vec::new();
    // Where the store is known, the records of what is over are kept there too.
    let store = link.store_url.as_deref().and_then(|url| context.open_store(Some(url)).ok());
    for target in concerned {
        let Some((told, record)) = write(link, target, &what, change, args).await? else { continue };
        // What is tried again is no longer over: the store must not say so.
        if let Some(store) = store.as_ref().filter(|_| record.is_finished() || change == Change::Retry) {
            kept::put_over(store, &record).await;
        }
        done.push(told);
    }
    show(context, &words, &done, args, true);
    Ok(Exit::Ok)
}

fn show(context: &Context, words: &Words, page: &[Changed], args: &ChangeArgs, done: bool) {
    context.out.page(
        output::changes::json(words, page, args.reason(), done),
        || output::changes::text(words, page, done),
        || page.iter().flat_map(|c| c.named.iter().chain(&c.dependents)).map(ToString::to_string).collect(),
    );
}

/// What the word of the command names.
enum What {
    Plan(String),
    Jobs(Selector),
}

impl What {
    fn phases(&self, record: &ChainRecord, change: Change) -> Vec<Phase> {
        let concerned = record.jobs.iter().filter(|(_, job)| change.concerns(job)).map(|(phase, _)| *phase);
        match self {
            What::Plan(id) if record.id.plan.as_str() == id => concerned.collect(),
            What::Plan(_) => Vec::new(),
            What::Jobs(selector) => {
                concerned.filter(|p| selector.matches(&JobName::new(record.id.dataset.clone(), *p))).collect()
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

/// Of each dataset the chain of the newest plan.
fn newest(targets: Vec<Target>) -> Vec<Target> {
    let age = |t: &Target| (t.record.plan_created, t.record.id.plan.clone());
    let mut newest: BTreeMap<DatasetId, Target> = BTreeMap::new();
    for target in targets {
        let dataset = target.record.id.dataset.clone();
        if newest.get(&dataset).is_none_or(|known| age(known) < age(&target)) {
            newest.insert(dataset, target);
        }
    }
    newest.into_values().collect()
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

/// A chain as it is to be, and what to tell of it.
struct Draft {
    next: ChainRecord,
    notes: Vec<Note>,
    told: Changed,
}

fn drafted(at: &Target, what: &What, change: Change, args: &ChangeArgs) -> Result<Option<Draft>, Fault> {
    let phases = what.phases(&at.record, change);
    let Some((next, notes)) = change.of(&at.record, &phases, args.reason())? else { return Ok(None) };
    let id = &at.record.id;
    let named = phases.iter().map(|phase| JobName::new(id.dataset.clone(), *phase)).collect();
    let dependents = match change {
        Change::Pause | Change::Resume => waiting_for(&next, &phases),
        Change::Cancel | Change::Retry => moved(&at.record, &next, &phases),
    };
    Ok(Some(Draft { next, notes, told: Changed { plan: id.plan.clone(), named, dependents } }))
}

async fn write(
    link: &Link,
    mut at: Target,
    what: &What,
    change: Change,
    args: &ChangeArgs,
) -> Result<Option<(Changed, ChainRecord)>> {
    let id = at.record.id.clone();
    for _ in 0..TRIES_MAX {
        let Some(Draft { next, notes, told }) = drafted(&at, what, change, args)? else { return Ok(None) };
        match link.client.write_chain(&next, at.revision).await? {
            Written::Yes(revision) => {
                audit::tell(&link.client, &notes, revision).await;
                return Ok(Some((told, next)));
            }
            Written::Lost => match link.client.chain(&id).await? {
                // Our own write, whose answer was lost on the way.
                Some(newer) if newer.value == next => return Ok(Some((told, next))),
                Some(newer) => at = Target { record: newer.value, revision: Some(newer.revision) },
                None => return Ok(None),
            },
        }
    }
    Err(Fault::new(Exit::Error, format!("chain {id} changed {TRIES_MAX} times while it was to be written"))
        .way_out("try again")
        .into())
}

/// Jobs whose state changes with the named ones, though nobody named them.
fn moved(before: &ChainRecord, after: &ChainRecord, named: &[Phase]) -> Vec<JobName> {
    let moved = after.jobs.iter().filter(|(phase, job)| {
        let was = before.jobs.get(phase).map(|j| j.state.is_terminal());
        was != Some(job.state.is_terminal()) && !named.contains(phase)
    });
    moved.map(|(phase, _)| JobName::new(after.id.dataset.clone(), *phase)).collect()
}

/// Jobs that are not over and build on the named ones, directly or not.
fn waiting_for(record: &ChainRecord, named: &[Phase]) -> Vec<JobName> {
    let mut line: Vec<Phase> = named.to_vec();
    // Parents come before their dependents.
    for (phase, job) in record.jobs.iter().filter(|(_, job)| !job.state.is_terminal()) {
        if job.spec.inputs.parents.keys().any(|parent| line.contains(parent)) && !line.contains(phase) {
            line.push(*phase);
        }
    }
    let waiting = line.into_iter().filter(|phase| !named.contains(phase));
    waiting.map(|phase| JobName::new(record.id.dataset.clone(), phase)).collect()
}
