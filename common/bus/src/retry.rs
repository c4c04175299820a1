//! Trying again what failed for a passing reason, for a bounded time.

use crate::error::Result;
use rand::RngExt;
use std::future::Future;
use std::time::Duration;

/// Delays between tries: doubling from `first` to `most`, each cut by a random part of up to a half, so that
/// many who failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    first: Duration,
    most: Duration,
}

impl Backoff {
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { next: first, first, most }
    }

    /// The next delay to wait.
    pub fn delay(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(self.most);
        whole.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Begins anew with the shortest delay, after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Calls `op` until it succeeds, fails for a reason that does not pass, or `budget` is used up; then returns
/// the last error. Only for what may happen twice (see [`ErrorClass::Transient`](crate::ErrorClass)).
pub async fn retry_transient<T, F, Fut>(budget: Duration, mut op: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let deadline = tokio::time::Instant::now() + budget;
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    loop {
        let error = match op().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let delay = backoff.delay();
        if !error.is_transient() || tokio::time::Instant::now() + delay >= deadline {
            return Err(error);
        }
        tracing::debug!(%error, delay_ms = delay.as_millis() as u64, "trying again");
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::BusError;
    use std::cell::Cell;

    fn away() -> BusError {
        BusError::NoResponders { subject: "a".into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_passing_fault_is_waited_out() {
        let tries = Cell::new(0);
        let got = retry_transient(Duration::from_secs(5), || async {
            tries.set(tries.get() + 1);
            if tries.get() < 4 { Err(away()) } else { Ok(tries.get()) }
        });
        assert_eq!(got.await, Ok(4));
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_ends_it() {
        let start = tokio::time::Instant::now();
        let got: Result<()> = retry_transient(Duration::from_secs(5), || async { Err(away()) }).await;
        assert_eq!(got, Err(away()));
        assert!(start.elapsed() <= Duration::from_secs(5));
        assert!(start.elapsed() >= Duration::from_secs(3), "it gave up after {:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_is_not_tried_again() {
        let tries = Cell::new(0);
        let got: Result<()> = retry_transient(Duration::from_secs(5), || async {
            tries.set(tries.get() + 1);
            Err(BusError::AlreadyExists { bucket: "b".into(), key: "k".into() })
        })
        .await;
        assert!(got.unwrap_err().is_conflict());
        assert_eq!(tries.get(), 1);
    }
}
