//! Times and budgets, resolved from `conf/pipeline.yaml` by the shell.

use common::slot::Cause;
use common::units::Millis;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
pub struct Options {
    /// A held slot that was not renewed for this long (on our receive clock) ends its attempt.
    pub lease: Millis,
    /// Silence after which a node is called unreachable. It is news, not a verdict: attempts go on.
    pub unreachable: Millis,
    /// An offer that was not taken within this time is made again, maybe elsewhere.
    pub offer_timeout: Millis,
    /// A node that declined a job is not asked again for this long.
    pub decline_pause: Millis,
    /// Longest wait for the node that holds what a job builds on, when a device there is about to be free.
    pub locality_wait: Millis,
    /// Pause before the store is asked again when it could not be reached.
    pub verify_pause: Millis,
    /// Time to save a checkpoint when the device is asked back.
    pub yield_grace: Millis,
    /// Whether a job of higher priority takes the place of a lower one.
    pub preemption: bool,
    /// A trainer that failed sooner speaks against its node.
    pub fast_failure: Millis,
    /// So many distinct jobs that failed fast, with no success between, quarantine a node; 0 = never.
    pub quarantine_after: u32,
    /// A job that finds no place for so long fails; 0 = it waits for ever.
    pub queue_timeout: Millis,
    /// First pause after a failed attempt; doubles with each of the same cause.
    pub backoff_base: Millis,
    pub backoff_max: Millis,
    /// More attempts than any job may need, progress or not.
    pub attempts_max: u32,
    /// Attempts a cause may cost beyond the first, since the job last made progress.
    pub budgets: BTreeMap<Cause, u32>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            lease: Millis::from_secs(30),
            unreachable: Millis::from_secs(15),
            offer_timeout: Millis::from_secs(10),
            decline_pause: Millis::from_secs(5),
            locality_wait: Millis::from_secs(15),
            verify_pause: Millis::from_secs(3),
            yield_grace: Millis::from_secs(60),
            preemption: true,
            fast_failure: Millis::from_secs(60),
            quarantine_after: 3,
            queue_timeout: Millis(0),
            backoff_base: Millis::from_secs(1),
            backoff_max: Millis::from_secs(120),
            attempts_max: 500,
            budgets: BTreeMap::from([
                (Cause::Infrastructure, 5),
                (Cause::Preemption, 10),
                (Cause::OutOfMemory, 3),
                (Cause::Diverged, 1),
                (Cause::UserError, 0),
                (Cause::Store, 0),
            ]),
        }
    }
}

impl Options {
    pub fn budget(&self, cause: Cause) -> u32 {
        self.budgets.get(&cause).copied().unwrap_or(0)
    }
}
