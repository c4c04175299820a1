//! When and where each job runs, as bars of text: a line for each place of a device that is used.

use super::words;
use coordinator_core::planner::predict::{Expected, Forecast};
use std::collections::BTreeMap;

/// Columns of the time axis.
const AXIS: usize = 72;
/// Longest name of a device; the rest is cut.
const NAME_MAX: usize = 34;
/// More lines say nothing any more.
const LINES_MAX: usize = 40;

/// `None` when there is nothing to draw.
pub fn chart(forecast: &Forecast) -> Option<String> {
    let end = forecast.makespan_ms;
    if forecast.jobs.is_empty() || end == 0 {
        return None;
    }
    let lanes = lanes(forecast);
    let widest = lanes.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).min(NAME_MAX);
    let mut text = String::new();
    for (name, bars) in lanes.iter().take(LINES_MAX) {
        let name: String = name.chars().take(NAME_MAX).collect();
        text += &format!("{name:<widest$}  {}\n", line(bars, end).trim_end());
    }
    if lanes.len() > LINES_MAX {
        text += &format!("… and {} more\n", lanes.len() - LINES_MAX);
    }
    let (middle, last) = (words::from_now(end / 2), words::from_now(end));
    let half = AXIS / 2;
    let rest = AXIS.saturating_sub(half + middle.chars().count());
    let axis = format!("{:<half$}{middle}{last:>rest$}", "now");
    text += &format!("{:widest$}  {axis}\n", "");
    Some(text)
}

type Bar<'a> = (&'a str, &'a Expected);

/// Jobs by place; a device that runs several side by side has several lines.
fn lanes(forecast: &Forecast) -> Vec<(String, Vec<Bar<'_>>)> {
    let mut by_place: BTreeMap<&str, Vec<Bar<'_>>> = BTreeMap::new();
    for (name, expected) in &forecast.jobs {
        by_place.entry(&expected.place).or_default().push((name, expected));
    }
    let mut lanes = Vec::new();
    for (place, mut bars) in by_place {
        bars.sort_by_key(|(name, e)| (e.start_ms, *name));
        let mut of_place: Vec<Vec<Bar<'_>>> = Vec::new();
        for bar in bars {
            let is_free =
                |lane: &&mut Vec<Bar<'_>>| lane.last().is_none_or(|(_, e)| e.end_ms <= bar.1.start_ms);
            match of_place.iter_mut().find(is_free) {
                Some(lane) => lane.push(bar),
                None => of_place.push(vec![bar]),
            }
        }
        let name = |at: usize| if at == 0 { place.to_owned() } else { "  beside it".to_owned() };
        lanes.extend(of_place.into_iter().enumerate().map(|(at, bars)| (name(at), bars)));
    }
    lanes
}

/// `[set_01/teacher====]   [set_01/student]`
fn line(bars: &[Bar<'_>], end: u64) -> String {
    let column = |ms: u64| (ms as u128 * AXIS as u128 / end as u128) as usize;
    let mut cells = vec![' '; AXIS];
    for (name, expected) in bars {
        let from = column(expected.start_ms).min(AXIS - 1);
        let to = column(expected.end_ms).clamp(from + 1, AXIS);
        let inside = (to - from).saturating_sub(2);
        let label = name.chars().chain(std::iter::repeat('=')).take(inside);
        let bar: Vec<char> = match to - from {
            1 => vec!['#'],
            _ => std::iter::once('[').chain(label).chain([']']).collect(),
        };
        cells[from..to].copy_from_slice(&bar);
    }
    cells.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::units::Mib;

    fn expected(place: &str, start_ms: u64, end_ms: u64) -> Expected {
        let (place, need_basis) = (place.to_owned(), "conf".to_owned());
        Expected { place, start_ms, end_ms, end: None, need_mib: Mib(1), need_basis }
    }

    fn forecast(jobs: &[(&str, Expected)]) -> Forecast {
        Forecast {
            jobs: jobs.iter().map(|(name, e)| ((*name).to_owned(), e.clone())).collect(),
            makespan_ms: jobs.iter().map(|(_, e)| e.end_ms).max().unwrap_or(0),
            makespan: None,
            lower_bound_ms: None,
            critical_path: Vec::new(),
            critical_path_ms: 0,
            impossible: Vec::new(),
        }
    }

    #[test]
    fn a_line_a_place_and_a_second_one_for_what_runs_beside() {
        let minute = 60_000;
        let jobs = [
            ("a/teacher", expected("n1 cpu", 0, 30 * minute)),
            ("a/student", expected("n1 cpu", 30 * minute, 60 * minute)),
            ("b/teacher", expected("n1 cpu", 20 * minute, minute * 40)),
        ];
        let text = chart(&forecast(&jobs)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "n1 cpu       [a/teacher=========================][a/student=========================]",
                "  beside it                          [b/teacher=============]",
                "             now                                 +30 min 00 s             +1 h 00 min",
            ]
        );
    }

    #[test]
    fn a_job_too_short_for_its_name_is_a_mark() {
        let jobs = [("a/teacher", expected("n1 cpu", 0, 1)), ("b/teacher", expected("n1 cpu", 1, 1000))];
        let text = chart(&forecast(&jobs)).unwrap();
        assert!(text.starts_with("n1 cpu  [b/teacher") || text.starts_with("n1 cpu  #"), "{text}");
        assert_eq!(chart(&forecast(&[])), None);
    }
}
