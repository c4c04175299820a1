//! From apply to lease, and to the start of the trainer: one job at a time, then all of a large plan at once.

use crate::figures::{quantile, row};
use crate::site::{Site, dataset};
use crate::{raw, size};
use bus::{KvEvent, SharedBus};
use common::slot::{Slot, SlotState};
use common::subjects::{BUCKET_PLANS, BUCKET_SLOTS};
use common::wire;
use futures::StreamExt;
use harness::processes::wait_for;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;

/// Short jobs when one comes after the other; long ones when all shall hold their lease at once.
const SHORT: &str = r#"{"epochs": 1, "epoch_ms": 1, "note_starts_in": "starts"}"#;
const LONG: &str = r#"{"epochs": 1, "epoch_ms": 20000, "note_starts_in": "starts"}"#;
const AGENTS: usize = 4;
const LIMIT: Duration = Duration::from_secs(300);

/// When the bus told what, since the epoch.
#[derive(Default)]
struct Seen {
    plans: Vec<Duration>,
    /// First lease of each dataset's job, by plan.
    held: BTreeMap<(String, String), Duration>,
}

type Shared = Arc<Mutex<Seen>>;

pub fn run() {
    let (jobs, rounds) = (size("COORD_BENCH_JOBS", 120), size("COORD_BENCH_ROUNDS", 30));
    let mut raw = raw::measure(rounds.max(1) * 4, jobs);
    println!("raw writes of a job (chain, offer, message, lease): {}", row(&mut raw.alone));
    println!("raw, {jobs} jobs at once: {:.0} jobs/s", raw.jobs_per_s);

    let (mut leases, mut starts) = one_by_one(rounds);
    println!("apply -> lease, one job: {}", row(&mut leases));
    println!("apply -> trainer started, one job: {}", row(&mut starts));
    let ratio = quantile(&mut leases, 0.5).as_secs_f64() / quantile(&mut raw.alone, 0.5).as_secs_f64();
    println!("apply -> lease over the raw writes, p50: {ratio:.1}");

    let took = all_at_once(jobs);
    let rate = jobs as f64 / took.as_secs_f64();
    println!("{jobs} jobs from apply to the last lease: {:.2} s, {rate:.0} jobs/s", took.as_secs_f64());
    println!("raw jobs/s over dispatched jobs/s: {:.1}", raw.jobs_per_s / rate);
}

/// Times from apply to lease and to the start of the trainer, on an idle site.
fn one_by_one(rounds: usize) -> (Vec<Duration>, Vec<Duration>) {
    let (site, seen) = site(1, rounds, SHORT);
    let (mut leases, mut starts) = (Vec::new(), Vec::new());
    for i in 0..rounds {
        let name = dataset(i);
        site.coord(&["run", "--detach", "--datasets", &name, "--only", "teacher"]);
        wait_for("a lease", LIMIT, || (look(&seen, |s| s.held.len()) > i).then_some(()));
        let note = site.folder().join("starts").join(format!("{name}.teacher.1"));
        let started = wait_for("the trainer's start", LIMIT, || started(&note));
        let (applied, held) = look(&seen, |s| (s.plans[i], *s.held.values().max().expect("one lease")));
        leases.push(held.saturating_sub(applied));
        starts.push(started.saturating_sub(applied));
        // The commit, so that the next round finds nobody busy.
        std::thread::sleep(Duration::from_millis(500));
    }
    (leases, starts)
}

/// From apply to the last lease of a plan.
fn all_at_once(jobs: usize) -> Duration {
    let (site, seen) = site(AGENTS, jobs, LONG);
    site.coord(&["run", "--detach", "--only", "teacher"]);
    wait_for("all leases", LIMIT, || (look(&seen, |s| s.held.len()) >= jobs).then_some(()));
    look(&seen, |s| s.held.values().max().expect("leases").saturating_sub(s.plans[0]))
}

fn site(agents: usize, datasets: usize, script: &str) -> (Site, Shared) {
    let mut site = Site::start();
    std::fs::create_dir_all(site.folder().join("starts")).expect("writable");
    site.make_captures(datasets);
    let script = script.replace("\"starts\"", &format!("{:?}", site.folder().join("starts")));
    (0..agents).for_each(|_| site.start_agent(&script));
    let bus = site.connect("bench");
    // The coordinator makes the buckets and hears the agents.
    wait_for("buckets", LIMIT, || site.runtime.block_on(bus.kv(BUCKET_SLOTS).created()).ok());
    let seen = Shared::default();
    follow(&site.runtime, &bus, &seen);
    std::thread::sleep(Duration::from_secs(8));
    (site, seen)
}

fn follow(runtime: &Runtime, bus: &SharedBus, seen: &Shared) {
    for bucket in [BUCKET_PLANS, BUCKET_SLOTS] {
        let (kv, seen) = (bus.kv(bucket), seen.clone());
        runtime.spawn(async move {
            let mut watch = kv.watch(None).await.expect("the bucket is there");
            while let Some(event) = watch.next().await {
                let KvEvent::Put { entry, .. } = event.expect("the server stays") else { continue };
                let at = now();
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                if bucket == BUCKET_PLANS {
                    seen.plans.push(at);
                    continue;
                }
                let slot: Slot = wire::decode(&entry.value).expect("a slot");
                if matches!(slot.state, SlotState::Held { .. }) {
                    let name = (slot.job.plan.to_string(), slot.job.name.to_string());
                    seen.held.entry(name).or_insert(at);
                }
            }
        });
    }
}

fn look<T>(seen: &Shared, read: impl FnOnce(&Seen) -> T) -> T {
    read(&seen.lock().unwrap_or_else(PoisonError::into_inner))
}

/// As the trainer noted it, in nanoseconds since the epoch.
fn started(note: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(note).ok()?;
    text.trim().parse().ok().map(Duration::from_nanos)
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970")
}
