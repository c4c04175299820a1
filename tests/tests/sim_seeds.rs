//! Thousands of simulated runs of both cores under faults, each checked against every invariant.
//!
//! `SIM_SEEDS=100000` plays more of them, `SIM_SEED=1234` one (with `SIM_TRACE=1` its whole history).

use harness::sim::checks::writes;
use harness::sim::{run, runner};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Places that a thousand seeds come by at least once: what no seed reaches, no seed checks.
const WORTH_COMING_BY: &[&str] = &[
    writes::COMMITS,
    writes::LOST,
    "a child was killed before it began",
    "a child was stopped",
    "a child went on from a checkpoint",
    "a coordinator lost a race",
    "a coordinator noticed that it had stood still",
    "a job failed",
    "a job was cancelled",
    "a job was skipped",
    "a holder wrote its lost slot anew",
    "a holder was asked to yield",
    "a lease ran out",
    "a node was quarantined",
    "a restarted agent found its slot",
    "a slot went back in time",
    "a slot was closed over its holder",
    "a torn result was refused",
    "an agent was fenced",
    "an attempt diverged",
    "an attempt number of another plan was passed over",
    "an attempt ran out of memory",
    "an attempt made way for a higher priority",
    "an attempt was preempted",
    "an offer was declined",
    "an offer was made again",
    "a used number was found in the store",
    "another plan's result served",
    "jobs were paused",
    "the guard kept a decision on old news back",
    "the same plan was run again",
    "what was over was tried again by hand",
];

#[test]
fn thousands_of_seeds_keep_every_invariant() {
    let count = number("SIM_SEEDS").unwrap_or(5_000);
    let began = std::time::Instant::now();
    match runner::run_many(0, count, None) {
        Err((seed, rule)) => panic!("seed {seed} broke a rule: {rule}\nrepeat it: {}", runner::repro(seed)),
        Ok(totals) => {
            let marks = totals.marks.lock().unwrap();
            println!("{} seeds in {:.1?}", totals.seeds.into_inner(), began.elapsed());
            marks.iter().for_each(|(place, n)| println!("{n:>9} {place}"));
            for place in WORTH_COMING_BY {
                let n = marks.get(place).copied().unwrap_or(0);
                assert!(n >= count / 1_000, "{place}: only {n} times in {count} seeds");
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..40 {
        let (first, again) = (run(seed, None, false), run(seed, None, false));
        assert_eq!(first, again, "I7: seed {seed}; {}", runner::repro(seed));
    }
}

/// The seed named by `SIM_SEED` (0 without), with its history when `SIM_TRACE` is set.
#[test]
fn one_seed() {
    let seed = number("SIM_SEED").unwrap_or(0);
    let tracing = std::env::var_os("SIM_TRACE").is_some();
    match run(seed, None, tracing) {
        Ok(outcome) => println!("seed {seed}: {outcome:?}"),
        Err(rule) => panic!("seed {seed} broke a rule: {rule}\nrepeat it: {}", runner::repro(seed)),
    }
}
