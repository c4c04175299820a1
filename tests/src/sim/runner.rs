//! Many seeds on all cores, and the line that repeats a failure.

use super::{Mutant, World};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often a run came by which place.
pub type Marks = BTreeMap<&'static str, u64>;

/// What came of one seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Over every write, with the number of events and the last state of chance: equal for equal runs only.
    pub digest: (u64, u64, u64),
    pub virtual_ms: u64,
    pub marks: Marks,
}

/// Plays one seed; `Err` says which rule broke.
pub fn run(seed: u64, mutant: Option<Mutant>, tracing: bool) -> Result<Outcome, String> {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, mutant, tracing);
        world.play().map(|()| Outcome {
            digest: (world.history.finish(), world.events, world.rng.state()),
            virtual_ms: world.now,
            marks: std::mem::take(&mut world.history.marks),
        })
    }));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(format!("a core panicked: {}", text.unwrap_or_default()))
    })
}

/// Sums over many seeds.
#[derive(Debug, Default)]
pub struct Totals {
    pub seeds: AtomicU64,
    pub virtual_ms: AtomicU64,
    pub marks: Mutex<Marks>,
}

/// Plays seeds `from..from + count` on all cores; `Err` with the lowest failing seed that was met and its
/// broken rule. After the first failure no further seed is begun.
pub fn run_many(from: u64, count: u64, mutant: Option<Mutant>) -> Result<Totals, (u64, String)> {
    let totals = Totals::default();
    let next = AtomicU64::new(from);
    let failure: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + count {
                return;
            }
            match run(seed, mutant, false) {
                Ok(outcome) => {
                    totals.seeds.fetch_add(1, Ordering::Relaxed);
                    let mut marks = totals.marks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    outcome.marks.into_iter().for_each(|(place, n)| *marks.entry(place).or_default() += n);
                    totals.virtual_ms.fetch_add(outcome.virtual_ms, Ordering::Relaxed);
                }
                Err(rule) => {
                    next.store(from + count, Ordering::Relaxed);
                    let mut first = failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    if first.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                        *first = Some((seed, rule));
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    match failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        Some(failure) => Err(failure),
        None => Ok(totals),
    }
}

/// What a person runs to see a failing seed again.
pub fn repro(seed: u64) -> String {
    format!("SIM_TRACE=1 SIM_SEED={seed} cargo test -p harness --test sim_seeds -- one_seed --nocapture")
}
