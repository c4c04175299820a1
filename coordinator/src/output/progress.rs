//! What `follow` shows: on a terminal one line a job that lives, else one line per change.

use super::jobs::{place, short_reason};
use super::live::Live;
use super::{Format, Out, schema, words};
use crate::cli::rows::JobRow;
use common::ids::JobId;
use common::units::{Millis, UnixMs};
use serde_json::json;
use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

/// Epochs of one job are told at most so often.
const NEWS_EVERY: Duration = Duration::from_secs(5);
/// A job that waits so long is explained, and again when it still waits after the second time.
const EXPLAIN_AFTER: Duration = Duration::from_secs(10);
const EXPLAIN_AGAIN: Duration = Duration::from_secs(60);

pub struct Progress {
    out: Out,
    live: Option<Live>,
    seen: BTreeMap<JobId, Seen>,
}

/// A line to be told; one that needs attention is told beside the live display as well.
struct Line {
    text: String,
    attention: bool,
}

/// What was told of a job.
struct Seen {
    headline: String,
    news: Option<String>,
    ended: Option<String>,
    told_at: Instant,
    waiting_since: Option<Instant>,
    explained: Option<(Instant, Vec<Discriminant<coordinator_core::explain::Reason>>)>,
}

impl Progress {
    pub fn new(out: Out) -> Progress {
        let live = out.is_live().then(Live::default);
        Progress { out, live, seen: BTreeMap::new() }
    }

    /// Takes the newest rows, tells what changed.
    pub fn show(&mut self, rows: &[JobRow], at: UnixMs) {
        if let Some(live) = &mut self.live {
            live.show(rows);
        }
        for row in rows {
            let id = JobId { plan: row.plan.clone(), name: row.job.clone() };
            for line in self.changes(&id, row) {
                match self.out.format {
                    Format::Json => {
                        self.out.json_line(&schema("progress", json!({"at": at.to_string(), "job": row})))
                    }
                    _ => self.line(&format!("{} {}", words::clock(at), line.text), line.attention),
                }
            }
        }
    }

    /// A line for people, above the live display if there is one.
    pub fn say(&self, text: &str) {
        match &self.live {
            Some(live) => live.say(text),
            None => self.out.talk(text),
        }
    }

    /// Ends the live display: what follows is printed below.
    pub fn finish(&mut self) {
        if let Some(live) = self.live.take() {
            live.finish();
        }
    }

    /// On a live display only what needs attention is also a line.
    fn line(&self, text: &str, attention: bool) {
        if self.live.is_none() || attention {
            self.say(text);
        }
    }

    fn changes(&mut self, id: &JobId, row: &JobRow) -> Vec<Line> {
        let now = Instant::now();
        let headline = headline(row);
        let known = self.seen.get(id);
        // A job that was over from the start is no news.
        if known.is_none() && row.over && !row.failed {
            self.remember(id, headline, row, now);
            return Vec::new();
        }
        let (ended, news) = (ended(row), news(row));
        let fresh_end = ended.is_some() && known.is_none_or(|seen| seen.ended != ended);
        let fresh = match known {
            Some(seen) if seen.headline == headline => {
                news.is_some() && seen.news != news && now - seen.told_at >= NEWS_EVERY
            }
            _ => true,
        };
        let mut lines = Vec::new();
        if let Some(ended) = ended.filter(|_| fresh_end) {
            lines.push(Line { text: format!("{} {ended}", row.job), attention: true });
        }
        if fresh {
            let text = match &news {
                Some(news) => format!("{headline} ({news})"),
                None => headline.clone(),
            };
            lines.push(Line { text, attention: row.failed });
        }
        if fresh || fresh_end {
            self.remember(id, headline, row, now);
        }
        let why = self.explanation(id, row, now);
        lines.extend(why.map(|text| Line { text, attention: true }));
        lines
    }

    fn remember(&mut self, id: &JobId, headline: String, row: &JobRow, now: Instant) {
        let before = self.seen.remove(id);
        let waits = row.waiting.then(|| before.as_ref().and_then(|b| b.waiting_since).unwrap_or(now));
        let explained = before.and_then(|b| b.explained).filter(|_| row.waiting);
        let (news, ended) = (news(row), ended(row));
        let seen = Seen { headline, news, ended, told_at: now, waiting_since: waits, explained };
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

/// How the attempt before this one ended.
fn ended(row: &JobRow) -> Option<String> {
    let again = !row.over && row.attempt.is_some_and(|a| a.0 > 1);
    row.message.clone().filter(|_| again)
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
            waiting: state == "ready",
            attempt: Some(Attempt(1)),
            ..JobRow::new(&"p1".parse().unwrap(), &"car/teacher".parse().unwrap(), state)
        }
    }

    fn lines(progress: &mut Progress, id: &JobId, row: &JobRow) -> Vec<String> {
        progress.changes(id, row).into_iter().map(|line| line.text).collect()
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
        assert_eq!(lines(&mut progress, &id, &row("ready")), ["car/teacher ready"]);
        assert!(lines(&mut progress, &id, &row("ready")).is_empty());
        assert_eq!(
            lines(&mut progress, &id, &running("gat 3/10")),
            ["car/teacher training on local/cpu (gat 3/10, loss 0.0215, 2 min 10 s left)"]
        );
        assert!(lines(&mut progress, &id, &running("gat 4/10")).is_empty(), "told again within a moment");
        let failed =
            JobRow { failed: true, over: true, message: Some("user error: x".into()), ..row("failed") };
        assert_eq!(lines(&mut progress, &id, &failed), ["car/teacher failed: user error: x"]);
    }

    #[test]
    fn a_job_that_waits_long_is_explained_once() {
        let (mut progress, id) = progress();
        let waiting = JobRow { reasons: vec![Reason::NoNodes], ..row("ready") };
        lines(&mut progress, &id, &waiting);
        let since = Instant::now().checked_sub(EXPLAIN_AFTER * 2).unwrap();
        progress.seen.get_mut(&id).unwrap().waiting_since = Some(since);
        let told = lines(&mut progress, &id, &waiting);
        assert!(told.len() == 1 && told[0].starts_with("car/teacher waits: no node is there"), "{told:?}");
        assert!(lines(&mut progress, &id, &waiting).is_empty());
        // Another reason is news.
        let other = JobRow { reasons: vec![Reason::BusAway], ..row("ready") };
        assert_eq!(lines(&mut progress, &id, &other), ["car/teacher waits: the bus does not answer"]);
    }

    #[test]
    fn an_attempt_that_ended_is_told_once_and_needs_attention() {
        let (mut progress, id) = progress();
        lines(&mut progress, &id, &running("gat 3/10"));
        let message = Some("a1 ended: infrastructure: the trainer was killed".to_owned());
        let again = JobRow { attempt: Some(Attempt(2)), message, ..row("ready") };
        let told = progress.changes(&id, &again);
        assert!(told[0].attention && told[0].text.ends_with("the trainer was killed"));
        assert!(!told[1].attention && told[1].text == "car/teacher ready, attempt a2");
        let next =
            JobRow { attempt: Some(Attempt(2)), message: again.message.clone(), ..running("gat 1/10") };
        assert_eq!(lines(&mut progress, &id, &next).len(), 1, "the same end is not told again");
    }

    #[test]
    fn what_was_over_before_is_no_news() {
        let (mut progress, id) = progress();
        assert!(lines(&mut progress, &id, &JobRow { over: true, ..row("up to date") }).is_empty());
    }
}
