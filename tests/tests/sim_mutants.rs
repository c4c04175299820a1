//! Rules broken on purpose: each must be caught by some seed, or the simulator proves nothing.

use harness::sim::{Mutant, runner};

/// Some seed of the first `seeds` fails, by one of these rules.
fn caught(mutant: Mutant, seeds: u64, by: &[&str]) {
    match runner::run_many(0, seeds, Some(mutant)) {
        Ok(totals) => panic!("{mutant:?} was not caught in {seeds} seeds: {totals:?}"),
        Err((seed, rule)) => {
            println!("{mutant:?} was caught by seed {seed}: {rule:.300}");
            assert!(by.iter().any(|b| rule.contains(b)), "{mutant:?}, seed {seed}, by another rule: {rule}");
        }
    }
}

#[test]
fn slots_written_without_compare_and_swap_are_caught() {
    caught(Mutant::SlotPut, 300, &["a slot moves as drawn"]);
}

#[test]
fn dependents_unlocked_before_the_commit_are_caught() {
    caught(Mutant::UnlockFirst, 20, &["I4"]);
}

#[test]
fn effects_said_only_once_are_caught() {
    caught(Mutant::SaidOnce, 300, &["liveness"]);
}

#[test]
fn a_commit_of_another_attempt_is_caught() {
    caught(Mutant::AnyAttempt, 2_000, &["I2"]);
}

#[test]
fn a_lease_judged_while_the_bus_is_away_is_caught() {
    caught(Mutant::LeaseWhileAway, 1_000, &["a lease outlives"]);
}

#[test]
fn a_lease_judged_by_the_silence_of_a_standstill_is_caught() {
    caught(Mutant::BlindToStandstill, 4_000, &["a lease outlives"]);
}

#[test]
fn a_lease_ended_on_old_news_is_caught() {
    caught(Mutant::NoGuard, 2_000, &["a lease outlives"]);
}

#[test]
fn a_commit_without_a_look_at_the_store_is_caught() {
    caught(Mutant::NoVerify, 1_000, &["a commit is whole"]);
}

#[test]
fn an_agent_that_does_not_hear_it_was_fenced_is_caught() {
    caught(Mutant::DeafAgent, 1_000, &["I12", "liveness"]);
}

#[test]
fn a_card_given_away_twice_is_caught() {
    caught(Mutant::Overcommit, 1_000, &["I3"]);
}
