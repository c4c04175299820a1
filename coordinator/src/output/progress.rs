//! What `follow` shows: on a terminal one line a job that lives, else one line per change.

use super::jobs::{place, short_reason};
use super::{Format, Out, schema, words};
use crate::cli::rows::JobRow;
use common::ids::JobId;
use common::units::{Millis, UnixMs};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;
use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

/// Epochs of one job are told at most so often.
const NEWS_EVERY: Duration = Duration::from_secs(5);
/// A job that waits so long is explained, and again when it still waits after the second time.
const EXPLAIN_AFTER: Duration = Duration::from_secs(10);
const EXPLAIN_AGAIN: Duration = Duration::from_secs(60);
const BAR_STEPS: u64 = 1000;

pub struct Progress {
    out: Out,
    live: Option<Live>,
    seen: BTreeMap<JobId, Seen>,
}

struct Live {
    all: MultiProgress,
    bars: BTreeMap<JobId, ProgressBar>,
}

/// What was told of a job.
struct Seen {
    headline: String,
    news: Option<String>,
    told_at: Instant,
    waiting_since: Option<Instant>,
    explained: Option<(Instant, Vec<Discriminant<coordinator_core::explain::Reason>>)>,
}

impl Progress {
    pub fn new(out: Out) -> Progress {
        let live = out.is_live().then(|| Live { all: MultiProgress::new(), bars: BTreeMap::new() });
        Progress { out, live, seen: BTreeMap::new() }
    }

    /// Takes the newest rows, tells what changed.
    pub fn show(&mut self, rows: &[JobRow], at: UnixMs) {
        for row in rows {
            let id = JobId { plan: row.plan.clone(), name: row.job.clone() };
            if self.live.is_some() {
                self.live_row(&id, row);
            }
            for line in self.changes(&id, row) {
                match self.out.format {
                    Format::Json => {
                        self.out.json_line(&schema("progress", json!({"at": at.to_string(), "job": row})))
                    }
                    _ => self.line(&format!("{} {line}", words::clock(at)), row.waiting || row.failed),
                }
            }
        }
    }

    /// A line for people, above the live display if there is one.
    pub fn say(&self, text: &str) {
        match &self.live {
            // A terminal that went away is no reason to stop.
            Some(live) => drop(live.all.println(text)),
            None => self.out.talk(text),
        }
    }

    /// Clears the live display: what follows is printed below.
    pub fn finish(&mut self) {
        if let Some(live) = self.live.take() {
            for bar in live.bars.values() {
                bar.abandon();
            }
        }
    }

    /// On a live display only what needs attention is also a line.
    fn line(&self, text: &str, attention: bool) {
        if self.live.is_none() || attention {
            self.say(text);
        }
    }

    fn changes(&mut self, id: &JobId, row: &JobRow) -> Vec<String> {
        let now = Instant::now();
        let mut lines = Vec::new();
        let headline = headline(row);
        let known = self.seen.get(id);
        // A job that was over from the start is no news.
        if known.is_none() && row.over && !row.failed {
            self.remember(id, headline, row, now);
            return lines;
        }
        let news = news(row);
        match known {
            Some(seen) if seen.headline == headline => {
                let fresh = news.is_some() && seen.news != news && now - seen.told_at >= NEWS_EVERY;
                if fresh {
                    lines.push(format!("{headline} ({})", news.clone().unwrap_or_default()));
                    self.remember(id, headline, row, now);
                }
            }
            _ => {
                lines.push(match &news {
                    Some(news) => format!("{headline} ({news})"),
                    None => headline.clone(),
                });
                self.remember(id, headline, row, now);
            }
        }
        lines.extend(self.explanation(id, row, now));
        lines
    }

    fn remember(&mut self, id: &JobId, headline: String, row: &JobRow, now: Instant) {
        let before = self.seen.remove(id);
        let waits = row.waiting.then(|| before.as_ref().and_then(|b| b.waiting_since).unwrap_or(now));
        let explained = before.and_then(|b| b.explained).filter(|_| row.waiting);
        let seen = Seen { headline, news: news(row), told_at: now, waiting_since: waits, explained };
        self.seen.insert(id.clone(), seen);
    }

    /// Why a job that could run does not, when that lasts.
    fn explanation(&mut self, id: &JobId, row: &JobRow, now: Instant) -> Option<String> {
        let seen = self.seen.get_mut(id)?;
        if !row.waiting {
            seen.waiting_since = None;
            return None;
        }
        let since = *seen.waiting_since.get_or_insert(now);
        let kinds: Vec<_> = row.reasons.iter().map(discriminant).collect();
        let told = seen.explained.as_ref().is_some_and(|(at, k)| *k == kinds && now - *at < EXPLAIN_AGAIN);
        if now - since < EXPLAIN_AFTER || told {
            return None;
        }
        seen.explained = Some((now, kinds));
        let mut why: Vec<String> = row.reasons.iter().map(short_reason).collect();
        why.extend(row.message.clone());
        Some(format!("{} waits: {}", row.job, why.join("; ")))
    }

    fn live_row(&mut self, id: &JobId, row: &JobRow) {
        let Some(live) = &mut self.live else { return };
        let bar = live.bars.entry(id.clone()).or_insert_with(|| {
            let style = ProgressStyle::with_template("{bar:16} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            live.all.add(ProgressBar::new(BAR_STEPS).with_style(style))
        });
        let fraction = if row.over && !row.failed { 1.0 } else { row.fraction.unwrap_or(0.0) };
        bar.set_position((fraction.clamp(0.0, 1.0) * BAR_STEPS as f64) as u64);
        let news = news(row).map_or_else(String::new, |n| format!("  {n}"));
        bar.set_message(format!("{}{news}", headline(row)));
    }
}

/// `sample/teacher training on local/cpu (attempt a2)`.
fn headline(row: &JobRow) -> String {
    let mut text = format!("{} {}", row.job, row.state);
    if let Some(place) = place(row) {
        text += &format!(" on {place}");
    }
    if let Some(attempt) = row.attempt.filter(|a| a.0 > 1) {
        text += &format!(", attempt {attempt}");
    }
    if let Some(ms) = row.duration_ms {
        text += &format!(" after {}", Millis(ms));
    }
    if row.failed
        && let Some(message) = &row.message
    {
        text += &format!(": {}", message.trim());
    }
    text
}

/// `gat 3/10, loss 0.0215, 812 graphs/s, 2 min 10 s left`.
fn news(row: &JobRow) -> Option<String> {
    let parts = [
        row.progress.clone(),
        row.loss.map(|l| format!("loss {}", words::loss(l))),
        row.graphs_per_s.map(|r| format!("{} graphs/s", words::count(r as u64))),
        row.eta_ms.map(|ms| format!("{} left", Millis(ms))),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::Attempt;
    use common::slot::Place;
    use common::units::Mib;
    use coordinator_core::explain::Reason;

    fn row(state: &'static str) -> JobRow {
        JobRow {
            plan: "p1".parse().unwrap(),
            job: "car/teacher".parse().unwrap(),
            state,
            over: false,
            failed: false,
            waiting: state == "ready",
            place: None,
            device: None,
            attempt: Some(Attempt(1)),
            progress: None,
            fraction: None,
            loss: None,
            graphs_per_s: None,
            eta_ms: None,
            used_mib: None,
            duration_ms: None,
            message: None,
            reasons: Vec::new(),
        }
    }

    fn running(progress: &str) -> JobRow {
        let place =
            Place { node: "local".parse().unwrap(), device: "cpu".parse().unwrap(), reserve_mib: Mib(1) };
        JobRow {
            place: Some(place),
            progress: Some(progress.into()),
            loss: Some(0.0215),
            eta_ms: Some(130_000),
            ..row("training")
        }
    }

    fn progress() -> (Progress, JobId) {
        let out = Out { format: Format::Json, verbose: false };
        let id = JobId { plan: "p1".parse().unwrap(), name: "car/teacher".parse().unwrap() };
        (Progress::new(out), id)
    }

    #[test]
    fn a_change_is_a_line_and_epochs_are_not_told_every_time() {
        let (mut progress, id) = progress();
        assert_eq!(progress.changes(&id, &row("ready")), ["car/teacher ready"]);
        assert!(progress.changes(&id, &row("ready")).is_empty());
        assert_eq!(
            progress.changes(&id, &running("gat 3/10")),
            ["car/teacher training on local/cpu (gat 3/10, loss 0.0215, 2 min 10 s left)"]
        );
        assert!(progress.changes(&id, &running("gat 4/10")).is_empty(), "told again within a moment");
        let failed =
            JobRow { failed: true, over: true, message: Some("user error: x".into()), ..row("failed") };
        assert_eq!(progress.changes(&id, &failed), ["car/teacher failed: user error: x"]);
    }

    #[test]
    fn a_job_that_waits_long_is_explained_once() {
        let (mut progress, id) = progress();
        let waiting = JobRow { reasons: vec![Reason::NoNodes], ..row("ready") };
        progress.changes(&id, &waiting);
        let since = Instant::now().checked_sub(EXPLAIN_AFTER * 2).unwrap();
        progress.seen.get_mut(&id).unwrap().waiting_since = Some(since);
        let told = progress.changes(&id, &waiting);
        assert!(told.len() == 1 && told[0].starts_with("car/teacher waits: no node is there"), "{told:?}");
        assert!(progress.changes(&id, &waiting).is_empty());
        // Another reason is news.
        let other = JobRow { reasons: vec![Reason::BusAway], ..row("ready") };
        assert_eq!(progress.changes(&id, &other), ["car/teacher waits: the bus does not answer"]);
    }

    #[test]
    fn what_was_over_before_is_no_news() {
        let (mut progress, id) = progress();
        assert!(progress.changes(&id, &JobRow { over: true, ..row("up to date") }).is_empty());
    }
}
