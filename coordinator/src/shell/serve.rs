//! `coord serve`: the one loop that owns the state. Any number of these may run; each change is a
//! compare-and-swap, so they can not harm each other.

use super::audit;
use super::client::{Client, ClientError};
use super::feed::{self, BUCKETS, Fed};
use super::perform::{Tools, perform};
use super::rebuild;
use artifacts::Store;
use bus::{BusError, BusLayout, SharedBus};
use common::ids::Revision;
use common::units::Millis;
use coordinator_core::{
    Changed, Effect, EffectKey, Event, Note, Options, State, apply, due, invariants, news,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Facts that may wait for the loop.
const FEED_MAX: usize = 4096;
/// Effects under way at once; the rest stays due.
const EFFECTS_MAX: usize = 256;
/// Deadlines (leases, offers, back-offs) are looked at this often when nothing else happens.
const TICK: Duration = Duration::from_millis(200);
/// A turn of the loop comes at least each [`TICK`]; one that took so much longer means that we were stopped.
const STANDSTILL: Duration = Duration::from_secs(2);
/// JetStream is asked this often whether it answers.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// An effect that changed nothing (the bus was away, a race was lost) is not tried again sooner.
const COOL_DOWN: Millis = Millis(300);
/// What feeds the loop has no last words: it only has to let go.
const FEEDERS_END: Duration = Duration::from_secs(3);

pub struct ServeOptions {
    pub core: Options,
    /// The address of the bus as it was named: under it the store remembers the buckets' lives.
    pub bus_address: String,
}

/// Runs until `stop`, through outages of the bus.
///
/// Errors: only what waiting can not mend (the bus refuses us, JetStream is off).
pub async fn serve(
    bus: SharedBus,
    store: Store,
    options: ServeOptions,
    stop: CancellationToken,
) -> Result<(), BusError> {
    let (client, started) = (Client::new(bus.clone()), Instant::now());
    let tools = Tools { client, store, started, kept_plans: Arc::default() };
    loop {
        ensure_layout(&bus, &stop).await?;
        mend_loss(&tools, &options.bus_address, &stop).await;
        match session(&tools, &options.core, &stop).await {
            Ended::Stopped => return Ok(()),
            Ended::Reload(e @ BusError::HistoryLost { .. }) => {
                tracing::error!(error = %e, "loading everything again");
            }
            Ended::Reload(e) if e.class() == bus::ErrorClass::Permanent => return Err(e),
            Ended::Reload(e) => tracing::warn!(error = %e, "loading everything again"),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Buckets and streams, waiting through elections; a permanent error ends it.
async fn ensure_layout(bus: &SharedBus, stop: &CancellationToken) -> Result<(), BusError> {
    loop {
        match bus.ensure(&BusLayout::default()).await {
            Ok(()) => return Ok(()),
            Err(e) if e.class() == bus::ErrorClass::Permanent => return Err(e),
            Err(e) => tracing::warn!(error = %e, "buckets not ready yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Buckets that were lost are made anew from the store, before anything is decided on them. Waits for the store:
/// without it nothing can run either.
async fn mend_loss(tools: &Tools, address: &str, stop: &CancellationToken) {
    while let Err(error) = rebuild::after_loss(&tools.client, &tools.store, address).await {
        tracing::warn!(%error, "can not tell yet whether the bus has lost its memory");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

enum Ended {
    Stopped,
    Reload(BusError),
}

/// One life of the state: from empty, through loading, until it must be loaded again.
async fn session(tools: &Tools, options: &Options, stop: &CancellationToken) -> Ended {
    let state = State::new(options.clone());
    let (to, mut fed) = mpsc::channel(FEED_MAX);
    let over = stop.child_token();
    let mut feeders = JoinSet::new();
    for bucket in BUCKETS {
        feeders.spawn(feed::watch(tools.client.clone(), bucket, to.clone(), over.clone()));
    }
    feeders.spawn(feed::beats(tools.client.clone(), to.clone(), over.clone()));
    feeders.spawn(probe(tools.clone(), to, over.clone()));
    // Ends with its sender.
    let (audit, telling) = audit::teller(tools.client.clone());
    feeders.spawn(telling);

    let mut under_way = UnderWay::default();
    let mut known = Known { state, buckets_left: BUCKETS.len(), audit };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut turned = Instant::now();
    let ended = 'turns: loop {
        tokio::select! {
            () = stop.cancelled() => break Ended::Stopped,
            _ = tick.tick() => {}
            done = under_way.next(), if !under_way.is_empty() => {
                let (key, facts) = done;
                let moved = known.take_all(tools.now(), facts);
                under_way.finished(key, tools.now(), moved);
            }
            got = fed.recv() => match got.map(|fed| known.take(tools.now(), fed)) {
                Some(Ok(())) => {}
                Some(Err(e)) => break Ended::Reload(e),
                None => break Ended::Stopped,
            },
        }
        // Whatever else has arrived is looked at before deciding, so that a burst costs one decision.
        while let Ok(more) = fed.try_recv() {
            if let Err(e) = known.take(tools.now(), more) {
                break 'turns Ended::Reload(e);
            }
        }
        // This process stood still (a paused machine, a stopped group): nobody's silence meanwhile counts.
        // It stands still while it waits above, so this comes right before the decision.
        if turned.elapsed() > STANDSTILL {
            tracing::warn!(for_s = turned.elapsed().as_secs(), "this process stood still");
            known.take_all(tools.now(), vec![Event::StoodStill]);
        }
        turned = Instant::now();
        for effect in due(&known.state, tools.now()) {
            under_way.start(tools, effect);
        }
    };
    under_way.drain().await;
    over.cancel();
    drop(known);
    let gone = async { while feeders.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FEEDERS_END, gone).await;
    ended
}

/// The state, and how much of the buckets is still to be read.
struct Known {
    state: State,
    buckets_left: usize,
    audit: mpsc::Sender<(Note, Revision)>,
}

impl Known {
    /// `Err` when everything must be loaded again.
    fn take(&mut self, now: Millis, fed: Fed) -> Result<(), BusError> {
        match fed {
            Fed::Fact(event) => drop(self.take_all(now, vec![event])),
            Fed::UpToDate => {
                self.buckets_left = self.buckets_left.saturating_sub(1);
                if self.buckets_left == 0 {
                    let (chains, active) = (self.state.chains.len(), self.state.active.len());
                    tracing::info!(chains, active, "loaded");
                    self.take_all(now, vec![Event::Loaded]);
                }
            }
            Fed::Broken(e) => return Err(e),
        }
        Ok(())
    }

    /// Applies facts; true when one of them changed the state.
    fn take_all(&mut self, now: Millis, facts: Vec<Event>) -> bool {
        let mut moved = false;
        for fact in facts {
            let news = news(&self.state, &fact);
            match apply(&mut self.state, now, fact) {
                Ok(Changed::Yes) => {
                    moved = true;
                    // Tracking holds up nobody: what finds no room is dropped.
                    news.into_iter().for_each(|note| drop(self.audit.try_send(note)));
                }
                Ok(Changed::No) => {}
                Err(refused) => tracing::debug!(%refused, "fact refused"),
            }
        }
        // Records come from outside (another version, another configuration): told, never asserted.
        if cfg!(debug_assertions) && moved {
            for broken in invariants::check(&self.state) {
                tracing::error!(invariant = broken.invariant, "{}", broken.text);
            }
        }
        moved
    }
}

/// Asks JetStream itself now and then: while it does not answer, nobody can renew a lease, so none may run
/// out here.
async fn probe(tools: Tools, to: mpsc::Sender<Fed>, stop: CancellationToken) {
    let (mut up, mut lives) = (true, None);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PROBE_EVERY) => {}
        }
        let answers = tools.client.bus.is_connected() && tools.client.bus.info().await.is_ok();
        if answers != up {
            up = answers;
            let event = if up { Event::BusBack } else { Event::BusLost };
            tracing::warn!(up, "the bus {}", if up { "answers again" } else { "does not answer" });
            if to.send(Fed::Fact(event)).await.is_err() {
                return;
            }
        }
        if up && let Some(lost) = lost(&tools, &mut lives).await {
            // A closed channel means that the loop is gone, and with it whoever wants to know.
            let _ = to.send(Fed::Broken(lost)).await;
            return;
        }
    }
}

/// Whether a bucket is gone, or another one than when this began. A watch of a bucket that is gone waits for
/// it to come back, which only the set-up at the start of a session brings about.
async fn lost(tools: &Tools, lives: &mut Option<rebuild::Lives>) -> Option<BusError> {
    match tools.client.lives().await {
        Ok(now) => {
            let before = lives.get_or_insert_with(|| now.clone());
            let changed = before.iter().find(|(name, life)| now.get(*name) != Some(life))?;
            let (seen, found) = (bus::Sequence(0), bus::Sequence(0));
            Some(BusError::HistoryLost { name: changed.0.clone(), seen, found })
        }
        // Also while its servers elect a leader: the session that follows finds it as it was.
        Err(ClientError::Bus(gone @ BusError::StreamNotFound { .. })) => Some(gone),
        Err(_) => None,
    }
}

/// Effects being performed, and those that rest before they are tried again.
#[derive(Default)]
struct UnderWay {
    tasks: JoinSet<(EffectKey, Vec<Event>)>,
    keys: BTreeMap<EffectKey, Option<Millis>>,
}

impl UnderWay {
    fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    fn start(&mut self, tools: &Tools, effect: Effect) {
        let (key, now) = (effect.key(), tools.now());
        match self.keys.get(&key) {
            Some(None) => return,
            Some(Some(rests_until)) if now < *rests_until => return,
            _ => {}
        }
        if self.tasks.len() >= EFFECTS_MAX {
            return;
        }
        self.keys.insert(key.clone(), None);
        let tools = tools.clone();
        self.tasks.spawn(async move { (key, perform(&tools, effect).await) });
    }

    /// Waits for the next one; only called while there is one.
    async fn next(&mut self) -> (EffectKey, Vec<Event>) {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(done)) => return done,
                Some(Err(e)) => {
                    // A panicking effect would otherwise block its key for ever: all keys may be tried again.
                    tracing::error!(error = %e, "an effect panicked");
                    self.keys.clear();
                }
                None => std::future::pending().await,
            }
        }
    }

    fn finished(&mut self, key: EffectKey, now: Millis, moved: bool) {
        if moved {
            self.keys.remove(&key);
        } else {
            self.keys.insert(key, Some(now.plus(COOL_DOWN)));
        }
        if self.keys.len() > 4 * EFFECTS_MAX {
            self.keys.retain(|_, rests| rests.is_none_or(|until| now < until));
        }
    }

    /// Lets what is under way come to its end, for a short while: each has its own time-out.
    async fn drain(&mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
    }
}
