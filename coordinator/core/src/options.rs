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
    /// First pause after a failed attempt; doubles with each of the same cause.
    pub backoff_base: Millis,
    pub backoff_max: Millis,
    /// Attempts a cause may cost beyond the first.
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
            backoff_base: Millis::from_secs(1),
            backoff_max: Millis::from_secs(120),
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
