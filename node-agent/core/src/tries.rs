//! Something that is tried until it works or patience is over: what failed last, how often, and since when it is
//! refused rather than unanswered.

use common::messages::{Waits, WaitsFor};
use common::slot::Cause;
use common::units::Millis;

/// Why something of one attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub nature: Nature,
    pub cause: Cause,
    pub message: String,
}

/// Whether trying again can help, and who has to do something first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// No answer, or a struggling server: it may come back by itself.
    Away,
    /// Refused until somebody mends something (access, free space, a missing bucket).
    Refused,
    /// Never works for this attempt.
    Final,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tries {
    pub retry_at: Millis,
    pub failed: u32,
    pub last: Option<Problem>,
    refused_since: Option<Millis>,
    failed_at: Millis,
}

impl Tries {
    /// To be tried for the first time at `now`.
    pub fn new(now: Millis) -> Tries {
        Tries { retry_at: now, ..Tries::default() }
    }

    /// The try failed: the next one comes after doubling waits of `first`, at most a minute; the last one of a
    /// refusal right when `patience` with it is over, so that whoever mends the store has all of that time.
    pub fn fail(&mut self, now: Millis, first: Millis, patience: Option<Millis>, problem: Problem) {
        self.retry_at = now.plus(backoff(first, self.failed));
        self.failed = self.failed.saturating_add(1);
        self.failed_at = now;
        self.refused_since = match problem.nature {
            Nature::Away => None,
            Nature::Refused | Nature::Final => self.refused_since.or(Some(now)),
        };
        let last_try = self.refused_since.zip(patience).map(|(since, patience)| since.plus(patience));
        if let Some(last_try) = last_try.filter(|at| now < *at) {
            self.retry_at = self.retry_at.min(last_try);
        }
        self.last = Some(problem);
    }

    /// What was still refused after `patience`. A try that is under way is not given up.
    pub fn refused_for(&self, patience: Millis) -> Option<&Problem> {
        let since = self.refused_since?;
        self.last.as_ref().filter(|_| self.failed_at.since(since) >= patience)
    }

    /// As the beat tells it; `None` while nothing failed. `patience` with a refusal.
    pub fn waits(&self, what: WaitsFor, now: Millis, patience: Option<Millis>) -> Option<Waits> {
        let last = self.last.as_ref()?;
        let left = |since: Millis, patience: Millis| patience.0.saturating_sub(now.since(since).0);
        Some(Waits {
            what,
            why: last.message.clone(),
            tries: self.failed,
            left_ms: self.refused_since.zip(patience).map(|(since, patience)| left(since, patience)),
        })
    }
}

/// Doubling waits of `first`, at most a minute.
fn backoff(first: Millis, tries: u32) -> Millis {
    const MOST: Millis = Millis::from_secs(60);
    let doubled = first.0.saturating_mul(1 << tries.min(16));
    Millis(doubled).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(nature: Nature) -> Problem {
        Problem { nature, cause: Cause::Store, message: "read-only".into() }
    }

    #[test]
    fn patience_runs_while_it_is_refused_and_begins_anew_after_silence() {
        let (first, patience) = (Millis(1_000), Millis::from_secs(180));
        let mut tries = Tries::new(Millis(0));
        assert_eq!(tries.waits(WaitsFor::Upload, Millis(0), Some(patience)), None);
        let refused = || problem(Nature::Refused);
        tries.fail(Millis(10_000), first, Some(patience), refused());
        tries.fail(Millis(20_000), first, Some(patience), refused());
        assert_eq!((tries.retry_at, tries.failed), (Millis(22_000), 2));
        let waits = tries.waits(WaitsFor::Upload, Millis(40_000), Some(patience)).unwrap();
        assert_eq!(waits.to_string(), "upload waits: read-only, retry 2, given up in 2 min 30 s");
        for at in [40_000, 80_000, 140_000] {
            tries.fail(Millis(at), Millis(30_000), Some(patience), refused());
            assert_eq!(tries.refused_for(patience), None);
        }
        assert_eq!(tries.retry_at, Millis(190_000), "the last try comes when patience is over, not before");
        tries.fail(Millis(191_000), first, Some(patience), refused());
        assert!(tries.refused_for(patience).is_some());
        tries.fail(Millis(192_000), first, Some(patience), problem(Nature::Away));
        assert_eq!(tries.refused_for(patience), None);
        tries.fail(Millis(900_000), first, Some(patience), refused());
        assert_eq!(tries.refused_for(patience), None);
    }
}
