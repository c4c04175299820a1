//! Thousands of simulated runs of both cores under faults, each checked against every invariant.
//!
//! `SIM_SEEDS=100000` plays more of them, `SIM_SEED=1234` one (with `SIM_TRACE=1` its whole history).

use harness::sim::{run, runner};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

#[test]
fn thousands_of_seeds_keep_every_invariant() {
    let count = number("SIM_SEEDS").unwrap_or(5_000);
    let began = std::time::Instant::now();
    match runner::run_many(0, count, None) {
        Err((seed, rule)) => panic!("seed {seed} broke a rule: {rule}\nrepeat it: {}", runner::repro(seed)),
        Ok(totals) => {
            println!("{totals:?} in {:.1?}", began.elapsed());
            let commits = totals.commits.into_inner();
            let lost = totals.attempts_lost.into_inner();
            assert!(commits > count, "the runs do work: {commits} commits in {count} seeds");
            assert!(lost > count / 10, "and work goes wrong in them: {lost} attempts lost in {count} seeds");
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
