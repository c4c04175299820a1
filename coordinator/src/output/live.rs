//! The live display: one line a job, cut to the width of the terminal.

use super::jobs::place;
use super::words;
use crate::cli::rows::JobRow;
use common::ids::JobId;
use common::units::Millis;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::{BTreeMap, BTreeSet};

const BAR_STEPS: u64 = 1000;
/// More jobs than this do not fit below a plan on a small terminal: then only those are shown that are at
/// work, and the others are counted.
const JOBS_MAX: usize = 12;
/// As wide as the longest state, so that columns stay where they are.
const STATE_WIDTH: usize = 10;

#[derive(Default)]
pub struct Live {
    all: MultiProgress,
    bars: BTreeMap<JobId, ProgressBar>,
    /// What is not shown job by job.
    rest: Option<ProgressBar>,
}

impl Live {
    /// A line above the display.
    pub fn say(&self, text: &str) {
        // A terminal that went away is no reason to stop.
        drop(self.all.println(text));
    }

    pub fn show(&mut self, rows: &[JobRow]) {
        let name_width = rows.iter().map(|r| r.job.to_string().len()).max().unwrap_or(0);
        let shown: Vec<&JobRow> = rows.iter().filter(|r| rows.len() <= JOBS_MAX || is_at_work(r)).collect();
        let ids: BTreeSet<JobId> = shown.iter().map(|r| id(r)).collect();
        self.bars.retain(|id, bar| {
            let stays = ids.contains(id);
            if !stays {
                self.all.remove(bar);
            }
            stays
        });
        for row in shown {
            let bar = self.bars.entry(id(row)).or_insert_with(|| {
                let bar = ProgressBar::new(BAR_STEPS).with_style(style("{bar:12} {wide_msg}"));
                match &self.rest {
                    Some(rest) => self.all.insert_before(rest, bar),
                    None => self.all.add(bar),
                }
            });
            let fraction = if row.over && !row.failed { 1.0 } else { row.fraction.unwrap_or(0.0) };
            bar.set_position((fraction.clamp(0.0, 1.0) * BAR_STEPS as f64) as u64);
            bar.set_message(line(row, name_width));
        }
        if rows.len() > JOBS_MAX {
            let rest = self
                .rest
                .get_or_insert_with(|| self.all.add(ProgressBar::new(0).with_style(style("{wide_msg}"))));
            rest.set_message(counts(rows));
        }
    }

    /// Leaves the lines as they are; what follows is printed below.
    pub fn finish(self) {
        self.bars.values().chain(&self.rest).for_each(ProgressBar::abandon);
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates above are sound; a plain bar is still a display.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn id(row: &JobRow) -> JobId {
    JobId { plan: row.plan.clone(), name: row.job.clone() }
}

fn is_at_work(row: &JobRow) -> bool {
    row.failed || (!row.over && row.place.is_some())
}

/// `sample/teacher  training    gat 3/10, 2 min left, loss 0.0215, 812 graphs/s, local/cpu`: what matters
/// most comes first, since the end may be cut.
fn line(row: &JobRow, name_width: usize) -> String {
    let attempt = row.attempt.filter(|a| a.0 > 1 && !row.over).map(|a| format!("attempt {a}"));
    let failed = row.message.as_ref().filter(|_| row.failed);
    let parts = [
        failed.map(|m| m.lines().next().unwrap_or_default().to_owned()),
        row.progress.clone(),
        row.eta_ms.map(|ms| format!("{} left", Millis(ms))),
        row.duration_ms.map(|ms| format!("after {}", Millis(ms))),
        attempt,
        row.loss.map(|l| format!("loss {}", words::loss(l))),
        row.graphs_per_s.map(|r| format!("{} graphs/s", words::count(r as u64))),
        place(row),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let (job, state) = (row.job.to_string(), row.state);
    format!("{job:<name_width$}  {state:<STATE_WIDTH$}  {}", parts.join(", ")).trim_end().to_owned()
}

/// `18 jobs: 4 committed, 3 training, 11 blocked`, in the order in which states are first met.
fn counts(rows: &[JobRow]) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for row in rows {
        match counts.iter_mut().find(|(state, _)| *state == row.state) {
            Some((_, n)) => *n += 1,
            None => counts.push((row.state, 1)),
        }
    }
    let counts: Vec<String> = counts.iter().map(|(state, n)| format!("{n} {state}")).collect();
    format!("{} jobs: {}", rows.len(), counts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::ids::Attempt;
    use common::units::Mib;

    fn running() -> JobRow {
        JobRow {
            place: Some(common::slot::Place {
                node: "local".parse().unwrap(),
                device: "cpu".parse().unwrap(),
                reserve_mib: Mib(1),
            }),
            progress: Some("gat 3/10".into()),
            loss: Some(0.0215),
            eta_ms: Some(130_000),
            ..JobRow::new(&"p1".parse().unwrap(), &"car/teacher".parse().unwrap(), "training")
        }
    }

    #[test]
    fn a_line_keeps_its_columns_and_begins_with_what_matters() {
        assert_eq!(
            line(&running(), 14),
            "car/teacher     training    gat 3/10, 2 min 10 s left, loss 0.0215, local/cpu"
        );
        let again = JobRow { attempt: Some(Attempt(2)), ..running() };
        assert!(line(&again, 11).contains("2 min 10 s left, attempt a2, loss"));
        let failed = JobRow {
            failed: true,
            over: true,
            message: Some("user error: x\nmore".into()),
            state: "failed",
            ..running()
        };
        assert!(line(&failed, 11).starts_with("car/teacher  failed      user error: x, "));
    }

    #[test]
    fn jobs_that_are_not_shown_are_counted() {
        let rows = [running(), JobRow { state: "blocked", ..running() }, running()];
        assert_eq!(counts(&rows), "3 jobs: 2 training, 1 blocked");
    }
}
