//! Real processes under faults: three nats-servers, an S3 server, two coordinators, three agents with scripted
//! GPUs, fake trainers. At the end every job of every plan has exactly one result.
//!
//! `COORD_CHAOS_S` = seconds of faults (60), `COORD_CHAOS_SEED` = which ones (new each time, and printed).
//!
//! | module | holds |
//! |--|--|
//! | `servers` | three nats-servers of one cluster |
//! | `proxy` | what stands between two processes |
//! | `disk` | small disks of the agents, which can be filled |
//! | `site` | all processes of a site |
//! | `faults` | what breaks when, by seed |
//! | `history` | what the bus tells of it |
//! | `checks` | what must hold of a history |
//! | `takeover` | how long the others take to go on |

mod checks;
mod disk;
mod faults;
mod history;
mod proxy;
mod servers;
mod site;
mod takeover;

use common::chain::ChainRecord;
use common::ids::{Attempt, Phase};
use common::job_key::JobKey;
use common::slot::{Slot, SlotState};
use faults::Chaos;
use harness::processes::wait_for;
use history::{History, Seen, Told};
use site::Site;
use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use takeover::{Times, Victim};

/// 10 epochs of 200 ms: long enough to be hit in the middle.
const SCRIPT: &str = r#"{"epochs": 10, "epoch_ms": 200}"#;
/// Jobs that outlast the loss of all servers.
const LONG_SCRIPT: &str = r#"{"epochs": 10, "epoch_ms": 2000}"#;
/// From the end of all faults to the last commit: leases that must run out, back-offs, slow machines.
const SETTLE_LIMIT: Duration = Duration::from_secs(240);
const APPLY_LIMIT: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_millis(100);

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn fresh_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_millis() as u64) % 1_000_000
}

/// Breaks things for `seconds` while plan follows plan; returns how many were applied.
fn break_things(site: &mut Site, history: &History, chaos: &mut Chaos, seconds: u64) -> u32 {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut plans = 0;
    while Instant::now() < until {
        if all_finished(site, history, plans) {
            plans += 1;
            apply_amid_faults(site, chaos, plans);
        }
        chaos.step(site);
        std::thread::sleep(STEP);
    }
    plans
}

/// Faults go on while a plan is applied.
fn apply_amid_faults(site: &mut Site, chaos: &mut Chaos, round: u32) {
    let apply = site.applier(round);
    let (done, wait) = channel::<()>();
    let applying = std::thread::spawn(move || {
        apply.run(APPLY_LIMIT);
        drop(done);
    });
    while let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(STEP) {
        chaos.step(site);
    }
    applying.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Whether `plans` plans were applied, and every chain of them is there and over.
fn all_finished(site: &Site, history: &History, plans: u32) -> bool {
    let applied = history.plans(&site.runtime).filter(|applied| applied.len() >= plans as usize);
    let (Some(applied), Some(chains)) = (applied, history.chains(&site.runtime)) else { return false };
    checks::chains_of(&applied).iter().all(|id| chains.get(id).is_some_and(ChainRecord::is_finished))
}

/// One site at a time: each is ten processes and more.
fn alone() -> MutexGuard<'static, ()> {
    static SITE: Mutex<()> = Mutex::new(());
    SITE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the end of `plans` plans, and fails with the logs when it does not come.
fn settle(site: Site, history: &History, plans: u32, about: &str) -> Site {
    let begun = Instant::now();
    while !all_finished(&site, history, plans) {
        if begun.elapsed() > SETTLE_LIMIT {
            let logs = site.logs();
            panic!("{about}: not over after {SETTLE_LIMIT:?}; see {:?}\n{logs}", site.keep());
        }
        std::thread::sleep(STEP);
    }
    println!("chaos: settled after {:?}", begun.elapsed());
    // Markers and pointers follow the commit.
    std::thread::sleep(Duration::from_secs(3));
    site
}

/// Everything that must hold at the end; a failed test keeps the folder of its site.
fn judge(site: Site, told: &Told, mut wrong: Vec<String>, about: &str) {
    wrong.extend(site.runtime.block_on(checks::all(told, &site.store())));
    let replicas = site.servers.replicas();
    if replicas.len() < 6 || replicas.iter().any(|(_, copies)| *copies != 3) {
        wrong.push(format!("not every bucket and stream has three copies: {replicas:?}"));
    }
    if !wrong.is_empty() {
        panic!("{about}: {}\nsee {:?}", wrong.join("\n"), site.keep());
    }
}

#[test]
fn every_job_is_committed_exactly_once_whatever_breaks() {
    let _alone = alone();
    let seed = setting("COORD_CHAOS_SEED").unwrap_or_else(fresh_seed);
    let seconds = setting("COORD_CHAOS_S").unwrap_or(60);
    let about = format!("COORD_CHAOS_SEED={seed} COORD_CHAOS_S={seconds}");
    println!("chaos: {about}");
    let mut site = Site::start(SCRIPT);
    let history = History::follow(&site.runtime, site.connect());
    let mut chaos = Chaos::new(seed);

    let plans = break_things(&mut site, &history, &mut chaos, seconds);
    chaos.heal(&mut site);
    let site = settle(site, &history, plans, &about);
    let told = history.end(&site.runtime);
    println!(
        "chaos: {plans} plans, {} chains, {} offers, {} slot records; {:?}",
        told.chains.len(),
        told.offers.len(),
        told.seen.slots.len(),
        chaos.happened
    );
    judge(site, &told, Vec::new(), &about);
}

/// Every coordinator is active: after a kill -9 of one the other goes on, and when the leader of the bus dies with
/// it, as soon as that has another. `COORD_TAKEOVER_ROUNDS` = plans of each kind (1).
#[test]
fn when_a_coordinator_dies_the_others_go_on() {
    let _alone = alone();
    let rounds = setting("COORD_TAKEOVER_ROUNDS").unwrap_or(1);
    let mut site = Site::start(SCRIPT);
    let history = History::follow(&site.runtime, site.connect());
    let mut plans = 0;
    for victim in [Victim::Nobody, Victim::Coordinator, Victim::LeaderAndCoordinator] {
        let mut times = Times::default();
        for _ in 0..rounds {
            plans += 1;
            takeover::round(&mut site, &history, plans, victim, &mut times);
        }
        println!("takeover: {}", times.row(&format!("{victim:?}")));
        assert!(times.is_complete(), "nothing was committed after the death of {victim:?}");
    }
    let about = "takeover";
    let site = settle(site, &history, plans, about);
    let told = history.end(&site.runtime);
    judge(site, &told, Vec::new(), about);
}

/// All buckets and streams are gone at once, in the middle of a plan. The coordinators notice, and take results,
/// plans and chains from the store; agents write the slots of what they run anew, and go on.
#[test]
fn the_bus_may_lose_everything_it_knew() {
    let _alone = alone();
    let mut site = Site::start(LONG_SCRIPT);
    let history = History::follow(&site.runtime, site.connect());
    site.applier(1).run(APPLY_LIMIT);
    let held_students = |seen: &Seen| {
        let held = |slot: &Slot| matches!(slot.state, SlotState::Held { .. });
        seen.slots.iter().any(|(_, _, slot)| slot.job.name.phase == Phase::Student && held(slot))
    };
    wait_for("a student that runs on a committed teacher", APPLY_LIMIT, || {
        history.read(held_students).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    let before = history.read(|seen| seen.slots.iter().map(|(_, key, slot)| (*key, slot.attempt)).collect());
    let before: BTreeMap<JobKey, Attempt> = before;
    drop(history);
    site.servers.lose_everything();

    let bus = site.connect();
    wait_for("buckets made anew", SETTLE_LIMIT, || {
        site.runtime.block_on(bus.kv(common::subjects::BUCKET_SLOTS).created()).ok()
    });
    let history = History::follow(&site.runtime, bus);
    let site = settle(site, &history, 1, "after the loss");
    let told = history.end(&site.runtime);
    let mut wrong = Vec::new();
    // Nothing had gone wrong with any attempt: all of them went on, or were found committed.
    for job in told.chains.values().flat_map(|chain| chain.jobs.values()) {
        let result = job.state.result().map(|r| (r.key, r.attempt));
        let Some((key, attempt)) = result else { continue };
        if before.get(&key).is_some_and(|known| *known != attempt) {
            wrong.push(format!("{}: {attempt} was made again after {:?}", job.spec.name, before[&key]));
        }
    }
    judge(site, &told, wrong, "after the loss");
}
