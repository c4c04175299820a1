//! `coord logs`: what a job's trainers wrote, attempt by attempt. What is over comes from the archive in the
//! store; what is not, or is not archived yet, from the stream, which is read on over lost connections.

mod reader;

use super::args::LogsArgs;
use super::context::{Context, core_options};
use super::exit::{Exit, Fault};
use super::following::interrupted;
use super::link::{Link, Need};
use super::observe::Observer;
use super::status::plan_with;
use anyhow::Result;
use bus::{BusError, ConsumerSpec, Deliveries};
use common::chain::{JobRecord, JobState, PastAttempt};
use common::ids::{Attempt, ChainId, JobName};
use common::job_key::JobKey;
use common::logs::LogPiece;
use common::plan::{Decision, Plan};
use common::registry::CommittedRef;
use common::{subjects, wire};
use futures::StreamExt;
use reader::Reader;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Silence after which the stored pieces count as read.
const QUIET: Duration = Duration::from_secs(1);
/// The state of the job is looked at so often.
const LOOK: Duration = Duration::from_millis(100);
/// Lines that were written before the job was over are waited for so long.
const LAST_LINES: Duration = Duration::from_secs(10);

pub async fn run(context: &Context, args: &LogsArgs) -> Result<Exit> {
    let link = context.connect_or_start_local(Need::Read).await?;
    let result = tokio::select! {
        read = logs(context, &link, args) => read.map(|()| Exit::Ok),
        () = interrupted()? => Ok(Exit::Interrupted),
    };
    link.close().await;
    result
}

async fn logs(context: &Context, link: &Link, args: &LogsArgs) -> Result<()> {
    let mut observer = Observer::load(link, core_options(&context.config()?)).await?;
    let plan = plan_with(&observer, &args.job, args.plan.as_deref())?;
    let store = match &link.store_url {
        Some(url) => Some(context.open_store(Some(url))?),
        None => None,
    };
    let mut sight = Sight::of(&observer, &plan, &args.job);
    while args.follow && sight.key.is_none() && !sight.over {
        observer.take(LOOK).await?;
        sight = Sight::of(&observer, &plan, &args.job);
    }
    let Some(key) = sight.key else {
        let message = format!("{} of plan {} has not been started", args.job, plan.id);
        return Err(Fault::new(Exit::Error, message)
            .way_out(format!("`coord explain {}` tells why; `--follow` waits for it", args.job))
            .into());
    };
    let mut reader = Reader::new(context.out, store, args.job.clone(), key, args.attempt.map(Attempt));
    for attempt in &sight.attempts {
        if reader.archived(*attempt).await?
            && let Some(past) = sight.ended(*attempt)
        {
            reader.ended(past);
        }
    }
    match args.follow {
        true => follow(link, &mut observer, &plan, &args.job, &mut reader).await?,
        false if sight.attempts.iter().all(|attempt| reader.is_over(*attempt)) => {}
        false => {
            read_stored(link, &mut reader).await?;
            sight.past.iter().for_each(|past| reader.ended(past));
        }
    }
    if reader.is_silent() {
        context.out.talk(&format!("{}: no attempt has written a log", args.job));
    }
    Ok(())
}

async fn follow(
    link: &Link,
    observer: &mut Observer,
    plan: &Plan,
    job: &JobName,
    reader: &mut Reader,
) -> Result<()> {
    let mut pieces = consume(link, reader.key()).await?;
    let mut over_since: Option<Instant> = None;
    loop {
        // One after the other, so that neither is broken off in the middle.
        observer.take(LOOK).await?;
        while let Some(piece) = next(&mut pieces, LOOK).await? {
            reader.piece(&piece).await?;
        }
        let sight = Sight::of(observer, plan, job);
        sight.past.iter().for_each(|past| reader.ended_when_read(past, LAST_LINES));
        if !sight.over {
            over_since = None;
            continue;
        }
        let since = *over_since.get_or_insert_with(Instant::now);
        let newest = sight.attempts.last().copied();
        let all_read = newest.is_none_or(|attempt| reader.is_over(attempt));
        if all_read || since.elapsed() > LAST_LINES {
            if let Some(newest) = newest.filter(|_| !all_read)
                && !reader.archived(newest).await?
            {
                reader.unfinished(newest);
            }
            sight.past.iter().for_each(|past| reader.ended(past));
            return Ok(());
        }
    }
}

async fn read_stored(link: &Link, reader: &mut Reader) -> Result<()> {
    let mut pieces = consume(link, reader.key()).await?;
    while let Some(piece) = next(&mut pieces, QUIET).await? {
        reader.piece(&piece).await?;
    }
    Ok(())
}

/// Every piece that the stream has of a job; `None` on a bus where nobody ever made the stream.
async fn consume(link: &Link, key: JobKey) -> Result<Option<Deliveries>> {
    let spec = ConsumerSpec::new(subjects::STREAM_LOGS).filter(subjects::logs_of(&key));
    match link.client.bus.consume(spec).await {
        Ok(deliveries) => Ok(Some(deliveries)),
        Err(BusError::StreamNotFound { .. }) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The next piece that this build understands, if one comes within `wait`.
async fn next(pieces: &mut Option<Deliveries>, wait: Duration) -> Result<Option<LogPiece>> {
    let Some(deliveries) = pieces else { return Ok(None) };
    loop {
        let Ok(delivery) = tokio::time::timeout(wait, deliveries.next()).await else { return Ok(None) };
        let Some(delivery) = delivery.transpose()? else { return Ok(None) };
        delivery.ack().await?;
        match wire::decode::<LogPiece>(&delivery.payload) {
            Ok(piece) => return Ok(Some(piece)),
            Err(e) => tracing::warn!(subject = delivery.subject, error = %e, "log lines not understood"),
        }
    }
}

/// What is known of the job's attempts.
struct Sight {
    key: Option<JobKey>,
    over: bool,
    attempts: BTreeSet<Attempt>,
    past: Vec<PastAttempt>,
}

impl Sight {
    fn of(observer: &Observer, plan: &Plan, job: &JobName) -> Sight {
        let id = ChainId { plan: plan.id.clone(), dataset: job.dataset.clone() };
        let chain = observer.state.chains.get(&id);
        match chain.and_then(|chain| chain.record.jobs.get(&job.phase)) {
            Some(record) => Sight::of_record(record),
            // In no chain: decided by the plan alone, or not taken up yet.
            None => match plan.job(job).map(|planned| &planned.decision) {
                Some(Decision::Run { .. }) | None => Sight::nothing(None, false),
                Some(
                    Decision::UpToDate { committed } | Decision::Excluded { committed: Some(committed), .. },
                ) => Sight::of_result(committed),
                Some(Decision::Blocked { .. } | Decision::Excluded { committed: None, .. }) => {
                    Sight::nothing(None, true)
                }
            },
        }
    }

    fn nothing(key: Option<JobKey>, over: bool) -> Sight {
        Sight { key, over, attempts: BTreeSet::new(), past: Vec::new() }
    }

    fn of_result(committed: &CommittedRef) -> Sight {
        let attempts = BTreeSet::from([committed.attempt]);
        Sight { attempts, ..Sight::nothing(Some(committed.key), true) }
    }

    fn of_record(record: &JobRecord) -> Sight {
        if let JobState::UpToDate { committed } = &record.state {
            return Sight::of_result(committed);
        }
        let mut attempts: BTreeSet<Attempt> = record.past.iter().map(|past| past.attempt).collect();
        attempts.extend(record.open_attempt());
        attempts.extend(record.state.result().map(|committed| committed.attempt));
        let over = record.state.is_terminal();
        Sight { key: record.key(), over, attempts, past: record.past.clone() }
    }

    fn ended(&self, attempt: Attempt) -> Option<&PastAttempt> {
        self.past.iter().find(|past| past.attempt == attempt)
    }
}
