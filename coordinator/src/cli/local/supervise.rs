//! A child kept running: restarted when it dies, with a growing pause, and given up when that does not help.

use super::child::{Child, ChildSpec};
use crate::cli::exit::{Exit, Fault};
use anyhow::Result;
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Restarts within [`WINDOW`] after which a child is given up.
const RESTARTS_MAX: usize = 20;
const WINDOW: Duration = Duration::from_secs(300);
/// A child that ends so soon never got going; that often in a row is enough.
const STILLBORN: Duration = Duration::from_secs(3);
const STILLBORN_MAX: u32 = 4;
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A supervised child.
pub struct Kept {
    stop: CancellationToken,
    task: JoinHandle<Result<()>>,
}

impl Kept {
    pub fn start(spec: ChildSpec) -> Kept {
        let stop = CancellationToken::new();
        let task = tokio::spawn(keep(spec, stop.clone()));
        Kept { stop, task }
    }

    /// Ends only when the child was given up, with the reason.
    pub async fn given_up(&mut self) -> anyhow::Error {
        match (&mut self.task).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) => Fault::new(Exit::Error, "a supervisor ended unasked").into(),
            Err(panic) => Fault::new(Exit::Error, format!("a supervisor panicked: {panic}")).into(),
        }
    }

    /// Stops the child and waits for its end.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if !self.task.is_finished() {
            let _given_up_before = (&mut self.task).await;
        }
    }
}

async fn keep(spec: ChildSpec, stop: CancellationToken) -> Result<()> {
    let mut history = History::default();
    loop {
        let began = Instant::now();
        let child = Child::spawn(&spec).await?;
        let status = tokio::select! {
            () = stop.cancelled() => {
                child.stop(spec.grace).await;
                return Ok(());
            }
            status = child.wait() => status,
        };
        let how = status.map_or_else(|| "no status".to_owned(), |s| s.to_string());
        tracing::warn!(child = spec.name, how, "child ended: restarting it");
        let Some(pause) = history.ended(began, Instant::now()) else {
            let message =
                format!("{} ended again and again ({how}); its last words:\n{}", spec.name, spec.log_tail());
            return Err(Fault::new(Exit::Unavailable, message)
                .way_out(format!(
                    "mend that and run again, it goes on from here; whole log: {}",
                    spec.log.display()
                ))
                .into());
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// How often and how soon a child ended.
#[derive(Default)]
struct History {
    ends: VecDeque<Instant>,
    stillborn: u32,
}

impl History {
    /// The pause before the next start, or `None` to give up.
    fn ended(&mut self, began: Instant, now: Instant) -> Option<Duration> {
        self.ends.push_back(now);
        while self.ends.front().is_some_and(|end| now - *end > WINDOW) {
            self.ends.pop_front();
        }
        self.stillborn = if now - began < STILLBORN { self.stillborn + 1 } else { 0 };
        if self.ends.len() > RESTARTS_MAX || self.stillborn >= STILLBORN_MAX {
            return None;
        }
        Some(PAUSE_MIN.saturating_mul(1 << self.stillborn.min(10)).min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_never_gets_going_is_given_up_soon_and_a_crashing_one_late() {
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut soon = History::default();
        assert_eq!(soon.ended(at(0), at(1)), Some(Duration::from_millis(400)));
        assert!(soon.ended(at(1), at(2)).is_some() && soon.ended(at(2), at(3)).is_some());
        assert_eq!(soon.ended(at(3), at(4)), None);
        let mut crashing = History::default();
        for i in 0..20 {
            assert!(crashing.ended(at(10 * i), at(10 * i + 5)).is_some(), "end {i}");
        }
        assert_eq!(crashing.ended(at(200), at(205)), None);
        let mut rare = History::default();
        assert!((0..100).all(|i| rare.ended(at(20 * i), at(20 * i + 19)).is_some()));
    }

    #[tokio::test]
    async fn a_killed_child_is_started_again_and_stop_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let spec = ChildSpec {
            name: "sleeper",
            program: "/bin/sh".into(),
            args: vec!["-c".into(), "echo $$; exec sleep 60".into()],
            env: Vec::new(),
            log: dir.path().join("logs/sleeper.log"),
            grace: Duration::from_secs(2),
        };
        let kept = Kept::start(spec.clone());
        let pids = || -> Vec<i32> {
            let text = std::fs::read_to_string(&spec.log).unwrap_or_default();
            text.lines().filter_map(|l| l.parse().ok()).collect()
        };
        let wait_for = async |n: usize| {
            for _ in 0..200 {
                if pids().len() >= n {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            panic!("only {:?} started", pids());
        };
        wait_for(1).await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pids()[0]), nix::sys::signal::Signal::SIGKILL)
            .unwrap();
        wait_for(2).await;
        kept.stop().await;
        let last = nix::unistd::Pid::from_raw(pids()[1]);
        assert!(nix::sys::signal::kill(last, None).is_err(), "the child lives on");
    }
}
