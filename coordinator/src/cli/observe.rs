//! What a coordinator would know, for verbs that only look: the core's state, fed from the same watches.

use super::exit::{Exit, Fault};
use super::link::Link;
use crate::shell::Client;
use crate::shell::feed::{self, BUCKETS, Fed};
use anyhow::Result;
use bus::BusError;
use common::chain::JobRecord;
use common::ids::{ChainId, DatasetId, PlanId};
use common::plan::Plan;
use common::units::Millis;
use coordinator_core::{Event, Options, State, apply};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Facts that may wait.
const FEED_MAX: usize = 1024;
/// The buckets must have been read by then.
const LOAD_MAX: Duration = Duration::from_secs(40);
/// Watches that broke and were begun anew, without a quiet time between.
const RESTARTS_MAX: u32 = 10;

pub struct Observer {
    pub state: State,
    client: Client,
    options: Options,
    started: Instant,
    fed: mpsc::Receiver<Fed>,
    buckets_left: usize,
    restarts: u32,
    _feeders: DropGuard,
}

impl Observer {
    /// Reads all buckets to their end, then goes on watching.
    ///
    /// Errors: a bus that does not answer in time.
    pub async fn load(link: &Link, options: Options) -> Result<Observer> {
        let (fed, feeders) = feed_from(&link.client);
        let mut observer = Observer {
            state: State::new(options.clone()),
            client: link.client.clone(),
            options,
            started: Instant::now(),
            fed,
            buckets_left: BUCKETS.len(),
            restarts: 0,
            _feeders: feeders,
        };
        let deadline = Instant::now() + LOAD_MAX;
        while observer.buckets_left > 0 {
            if Instant::now() > deadline {
                let what = format!("the buckets could not be read within {} s", LOAD_MAX.as_secs());
                return Err(Fault::new(Exit::Unavailable, what).way_out("is JetStream up? try again").into());
            }
            observer.take(Duration::from_millis(100)).await?;
        }
        Ok(observer)
    }

    pub fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as u64)
    }

    pub fn is_connected(&self) -> bool {
        self.client.bus.is_connected()
    }

    /// Takes in what arrives within `wait`; returns early when there was something.
    pub async fn take(&mut self, wait: Duration) -> Result<()> {
        let Ok(Some(first)) = tokio::time::timeout(wait, self.fed.recv()).await else { return Ok(()) };
        self.take_one(first).await?;
        while let Ok(more) = self.fed.try_recv() {
            self.take_one(more).await?;
        }
        Ok(())
    }

    async fn take_one(&mut self, fed: Fed) -> Result<()> {
        match fed {
            Fed::Fact(event) => {
                // What is refused is older than what is known: no news.
                let now = self.now();
                let _refused = apply(&mut self.state, now, event);
                self.restarts = 0;
            }
            Fed::UpToDate => self.bucket_read(),
            // Nobody made this bucket yet: nothing in it.
            Fed::Broken(BusError::StreamNotFound { .. }) if self.buckets_left > 0 => self.bucket_read(),
            Fed::Broken(e) if self.restarts >= RESTARTS_MAX => return Err(e.into()),
            Fed::Broken(e) => {
                tracing::warn!(error = %e, "watching anew");
                tokio::time::sleep(Duration::from_secs(1)).await;
                let (fed, feeders) = feed_from(&self.client);
                (self.fed, self._feeders) = (fed, feeders);
                self.state = State::new(self.options.clone());
                self.buckets_left = BUCKETS.len();
                self.restarts += 1;
            }
        }
        Ok(())
    }

    fn bucket_read(&mut self) {
        self.buckets_left = self.buckets_left.saturating_sub(1);
        if self.buckets_left == 0 {
            let now = self.now();
            let _refused = apply(&mut self.state, now, Event::Loaded);
        }
    }

    /// The plans that a word names: an id, `last`, or `all`; oldest first.
    pub fn plans(&self, word: &str) -> Result<Vec<Plan>> {
        let mut plans: Vec<Plan> = self.state.plans.values().cloned().collect();
        plans.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        match word {
            "all" => Ok(plans),
            "last" => Ok(plans.pop().into_iter().collect()),
            id => match plans.iter().position(|p| p.id.as_str() == id) {
                Some(at) => Ok(vec![plans.swap_remove(at)]),
                None => {
                    let known: Vec<String> = plans.iter().map(|p| p.id.to_string()).collect();
                    Err(super::context::unknown("plan", id, &known).into())
                }
            },
        }
    }

    /// Waits until every node that runs something of these plans has spoken, at most until it counts as silent.
    pub async fn hear_nodes(&mut self, plans: &[PlanId]) -> Result<()> {
        let deadline = Instant::now() + Duration::from_millis(self.options.unreachable.0);
        while self.silent_holders(plans) && Instant::now() < deadline {
            self.take(Duration::from_millis(100)).await?;
        }
        Ok(())
    }

    fn silent_holders(&self, plans: &[PlanId]) -> bool {
        let held = self.state.slots.values().filter(|s| plans.contains(&s.slot.job.plan));
        let mut places = held.filter_map(|s| s.slot.state.reserved());
        places.any(|p| !self.state.nodes.contains_key(&p.node))
    }

    /// Whether every job of the plan is over and what was committed is in use.
    pub fn is_over(&self, plan: &Plan) -> bool {
        let runs = |dataset: &DatasetId| plan.to_run().any(|j| j.spec.name.dataset == *dataset);
        plan.by_dataset().keys().filter(|d| runs(d)).all(|dataset| {
            let id = ChainId { plan: plan.id.clone(), dataset: (*dataset).clone() };
            self.state.chains.get(&id).is_some_and(|c| c.record.is_finished())
        })
    }

    /// Whether the registry has caught up with the results of a plan that is over.
    pub fn is_published(&self, plan: &Plan) -> bool {
        let chains = self.state.chains.values().filter(|c| c.record.id.plan == plan.id);
        // A result kept though its inputs changed (`--only`) does not become the one in use.
        let made = |job: &&JobRecord| job.state.result().is_some_and(|r| Some(r.key) == job.key());
        let mut results = chains.flat_map(|c| c.record.jobs.values()).filter(made);
        results.all(|job| {
            let seen = self.state.registry.get(&job.spec.name).map(|r| &r.entry);
            // A later plan's result is as good: ours was in use before it.
            seen.is_some_and(|e| Some(&e.committed) == job.state.result() || e.plan_created >= plan.created)
        })
    }
}

fn feed_from(client: &Client) -> (mpsc::Receiver<Fed>, DropGuard) {
    let (to, fed) = mpsc::channel(FEED_MAX);
    let stop = CancellationToken::new();
    for bucket in BUCKETS {
        tokio::spawn(feed::watch(client.clone(), bucket, to.clone(), stop.clone()));
    }
    tokio::spawn(feed::beats(client.clone(), to, stop.clone()));
    (fed, stop.drop_guard())
}
