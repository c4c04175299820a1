//! The pages of `plan` and `apply`.

use super::forecast::footer;
use super::{gantt, schema, table, words};
use crate::cli::applying::Applied;
use common::config::DeviceChoice;
use common::ids::Phase;
use common::job_key::KEY_SCHEMA;
use common::plan::{Decision, Plan, PlannedJob, RunReason};
use coordinator_core::planner::predict::{Expected, Forecast};
use serde_json::{Value, json};
use std::path::Path;

/// `apply` reads `plan` of it back.
pub fn json(plan: &Plan, forecast: &Forecast) -> Value {
    schema(
        "plan",
        json!({
            "id": plan.id,
            "created": plan.created.to_string(),
            "base_revision": plan.base_revision,
            "key_schema": KEY_SCHEMA,
            "to_run": plan.to_run().map(|j| j.spec.name.to_string()).collect::<Vec<_>>(),
            "forecast": forecast,
            "plan": plan,
        }),
    )
}

pub fn page(
    plan: &Plan,
    forecast: &Forecast,
    fleet_seen: bool,
    verbose: bool,
    file: Option<&Path>,
) -> String {
    let mut text = format!(
        "plan {}   base {}   key schema {}   data {}\n\n",
        plan.id,
        plan.base_revision.short(),
        KEY_SCHEMA,
        plan.data_url
    );
    if plan.to_run().next().is_none() && plan.jobs.iter().all(|j| mark(j) == '=') {
        let jobs = words::plural(plan.jobs.len(), "job");
        return text + &format!("everything is up to date: {jobs}, nothing to run\n");
    }
    text += &counts(plan);
    text += "\n\n";
    text += &rows(plan, forecast, verbose);
    text += "\n\n";
    if plan.to_run().nth(1).is_some()
        && let Some(chart) = gantt::chart(forecast)
    {
        text += &(chart + "\n");
    }
    text += &footer(plan, forecast, fleet_seen);
    if let Some(file) = file {
        text += &format!("run exactly this: coord apply {}\n", file.display());
    }
    text
}

fn counts(plan: &Plan) -> String {
    let of = |phase: Phase, marks: &str| {
        let hits = plan.jobs.iter().filter(|j| j.spec.name.phase == phase && marks.contains(mark(j)));
        hits.count().to_string()
    };
    let row = |phase: Phase| {
        vec![phase.to_string(), of(phase, "+!"), of(phase, "="), of(phase, "-"), of(phase, "x")]
    };
    table::render(&["PHASE", ">RUN", ">UP TO DATE", ">EXCLUDED", ">BLOCKED"], &Phase::ALL.map(row))
}

/// `+` run, `!` run because forced, `=` up to date, `-` left out by `--only`, `x` blocked.
fn mark(job: &PlannedJob) -> char {
    match &job.decision {
        Decision::Run { reasons } if reasons.iter().any(|r| matches!(r, RunReason::Forced { .. })) => '!',
        Decision::Run { .. } => '+',
        Decision::UpToDate { .. } => '=',
        Decision::Excluded { .. } => '-',
        Decision::Blocked { .. } => 'x',
    }
}

fn rows(plan: &Plan, forecast: &Forecast, verbose: bool) -> String {
    let spread = forecast.jobs.values().any(|e| e.end.is_some());
    let row = |job: &PlannedJob| {
        let expected = forecast.jobs.get(&job.spec.name.to_string());
        let runs = matches!(job.decision, Decision::Run { .. });
        let or_dash = |text: Option<String>| text.unwrap_or_else(words::dash);
        let (need, basis) = if runs { need(job, expected) } else { (words::dash(), words::dash()) };
        let mut row = vec![
            mark(job).to_string(),
            job.spec.name.to_string(),
            reason(&job.decision, verbose),
            need,
            basis,
            or_dash(expected.map(|e| e.place.clone())),
            or_dash(expected.map(|e| words::from_now(e.start_ms))),
            or_dash(expected.map(|e| words::from_now(e.end_ms))),
        ];
        if spread {
            row.push(or_dash(expected.and_then(|e| Some(words::from_now(e.end?.p90_ms)))));
        }
        row
    };
    let rows: Vec<Vec<String>> = plan.jobs.iter().map(row).collect();
    let mut headers = vec!["", "JOB", "REASON", ">NEED", "BY", "EXPECTED PLACE", ">START", ">END"];
    if spread {
        headers.push(">END P90");
    }
    let mut text = table::render(&headers, &rows);
    if verbose {
        for job in plan.to_run() {
            let expected = forecast.jobs.get(&job.spec.name.to_string());
            text += &format!(
                "\n  {}: {} expected ({}); memory by {}",
                job.spec.name,
                words::duration(Some(job.expected_ms)),
                job.expected_basis,
                expected.map_or(job.spec.need.basis.as_str(), |e| e.need_basis.as_str())
            );
        }
    }
    text
}

/// The memory asked where it is expected to run, and where the figure is from; both kinds of device where
/// that is not known.
fn need(job: &PlannedJob, expected: Option<&Expected>) -> (String, String) {
    let need = &job.spec.need;
    let (mib, basis) = match (expected, job.spec.tuning.device) {
        (Some(expected), _) => (expected.need_mib.to_string(), expected.need_basis.as_str()),
        (None, DeviceChoice::Cpu) => (need.cpu_mib.to_string(), need.basis.as_str()),
        (None, DeviceChoice::Cuda) => (need.gpu_mib.to_string(), need.basis.as_str()),
        (None, DeviceChoice::Auto) => {
            (format!("{} (cpu {})", need.gpu_mib, need.cpu_mib), need.basis.as_str())
        }
    };
    let word = if basis.starts_with("peak") { "measured" } else { "conf" };
    (mib, word.to_owned())
}

fn reason(decision: &Decision, verbose: bool) -> String {
    let several = |reasons: &[RunReason]| {
        let all: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        match all.as_slice() {
            [] => words::dash(),
            [first, rest @ ..] if !verbose && !rest.is_empty() => format!("{first} (+{} more)", rest.len()),
            all => all.join("; "),
        }
    };
    match decision {
        Decision::Run { reasons } => several(reasons),
        Decision::UpToDate { .. } => "up to date".to_owned(),
        Decision::Excluded { reasons, .. } if reasons.is_empty() => "up to date".to_owned(),
        Decision::Excluded { reasons, .. } => format!("left out by --only; {}", several(reasons)),
        Decision::Blocked { reason } => format!("blocked: {reason}"),
    }
}

pub fn applied_json(plan: &Plan, applied: Applied) -> Value {
    let outcome = match applied {
        Applied::Now => "applied",
        Applied::Before => "already_applied",
        Applied::NothingToRun => "nothing_to_run",
    };
    let jobs: Vec<String> = plan.to_run().map(|j| j.spec.name.to_string()).collect();
    schema("applied", json!({"plan": plan.id, "outcome": outcome, "jobs": jobs}))
}

/// `nobody`: no coordinator is at work on this bus.
pub fn applied(plan: &Plan, applied: Applied, nobody: bool) -> String {
    let (id, jobs) = (&plan.id, words::plural(plan.to_run().count(), "job"));
    let head = match applied {
        Applied::NothingToRun => return format!("plan {id}: nothing to run, nothing written\n"),
        Applied::Now => format!("plan {id} applied: {jobs}\n"),
        Applied::Before => format!("plan {id} was applied already: nothing changed\n"),
    };
    let start = if nobody { "  coord local run        start this machine and go on with it\n" } else { "" };
    head + start
        + &format!(
            "  coord follow {id}   watch it\n  coord status {id}   where each job is\n  \
               coord explain DATASET/PHASE   why a job is not running\n  coord cancel {id}   stop it\n"
        )
}

#[cfg(test)]
mod tests {
    use super::super::samples::{job, plan, run, up_to_date};
    use super::*;
    use common::messages::DeviceKind;
    use common::units::Mib;
    use coordinator_core::placement::{Fleet, Room};
    use coordinator_core::planner::history::History;
    use coordinator_core::planner::predict::{self, Question};
    use std::collections::BTreeMap;

    fn forecast(plan: &Plan, rooms: &[Room]) -> Forecast {
        let depends_on =
            BTreeMap::from([(Phase::Student, vec![Phase::Teacher]), (Phase::Fusion, vec![Phase::Student])]);
        let (fleet, history) = (Fleet::of_rooms(rooms.to_vec()), History::default());
        let question =
            Question { plan, fleet: &fleet, depends_on: &depends_on, history: &history, seed: None };
        predict::forecast(&question)
    }

    fn cpu(budget_mib: Mib) -> Room {
        Room {
            node: "local".parse().unwrap(),
            device: "cpu".parse().unwrap(),
            kind: DeviceKind::Cpu,
            model: "CPU".into(),
            budget_mib,
            foreign_mib: Some(Mib(0)),
            foreign: Vec::new(),
            holders: Vec::new(),
            max_jobs: 1,
            shut: None,
        }
    }

    fn mixed() -> Plan {
        let lr = RunReason::ConfigChanged {
            key: "lr".into(),
            old: Some("0.001".into()),
            new: Some("0.002".into()),
        };
        let blocked = common::plan::BlockedReason::NoData { message: "no captures".into() };
        plan(vec![
            job("car/teacher", run(&[RunReason::Forced { selector: "all".into() }, lr])),
            job("car/student", run(&[RunReason::ParentChanged { parent: Phase::Teacher }])),
            job("car/fusion", up_to_date()),
            job("van/teacher", Decision::Blocked { reason: blocked }),
        ])
    }

    #[test]
    fn a_plan_is_a_header_counts_rows_and_a_footer() {
        let plan = mixed();
        let machines = [cpu(Mib(4096))];
        let text = page(&plan, &forecast(&plan, &machines), true, false, None);
        assert_eq!(
            text,
            "plan p1   base e3b0c44298fc   key schema 1   data file:///data

PHASE    RUN  UP TO DATE  EXCLUDED  BLOCKED
teacher    1           0         0        1
student    1           0         0        0
fusion     0           1         0        0

   JOB          REASON                             NEED  BY    EXPECTED PLACE        START          END
!  car/teacher  forced by all (+1 more)        2048 MiB  conf  local cpu               now  +1 min 00 s
+  car/student  parent teacher changed         2048 MiB  conf  local cpu       +1 min 00 s  +2 min 00 s
=  car/fusion   up to date                            -  -     -                         -            -
x  van/teacher  blocked: no data: no captures         -  -     -                         -            -

local cpu  [car/teacher=======================][car/student=======================]
           now                                 +1 min 00 s              +2 min 00 s

critical path  car/teacher -> car/student  (2 min 00 s)
makespan       2 min 00 s on this fleet; no placement could beat 2 min 00 s
"
        );
        let all = page(&plan, &forecast(&plan, &machines), true, true, None);
        assert!(all.contains("forced by all; config lr changed 0.001 -> 0.002"), "{all}");
    }

    #[test]
    fn what_never_fits_is_told_with_the_nearest_fit() {
        let plan = mixed();
        let told = footer(&plan, &forecast(&plan, &[cpu(Mib(1024))]), true);
        assert!(
            told.contains(
                "impossible     car/teacher needs 2048 MiB of a CPU; nearest fit: local cpu (CPU) may give 1024 MiB"
            ),
            "{told}"
        );
        let told = footer(&plan, &forecast(&plan, &[]), false);
        assert!(told.contains("no node is there yet"), "{told}");
    }

    #[test]
    fn nothing_to_do_is_one_line() {
        let plan = plan(vec![job("car/teacher", up_to_date())]);
        let text = page(&plan, &forecast(&plan, &[]), false, false, None);
        assert!(text.ends_with("everything is up to date: 1 job, nothing to run\n"), "{text}");
    }

    #[test]
    fn the_file_of_a_plan_reads_back_as_the_plan() {
        let plan = mixed();
        let page = json(&plan, &forecast(&plan, &[]));
        assert_eq!(page["schema"], "coord.v1.plan");
        assert_eq!(page["created"], "1970-01-01T00:00:00Z");
        assert_eq!(serde_json::from_value::<Plan>(page["plan"].clone()).unwrap(), plan);
    }

    #[test]
    fn an_apply_ends_with_the_next_commands() {
        let plan = mixed();
        let text = applied(&plan, Applied::Now, false);
        assert!(text.starts_with("plan p1 applied: 2 jobs\n") && text.contains("coord follow p1"), "{text}");
        assert!(applied(&plan, Applied::Now, true).contains("coord local run"));
        assert_eq!(applied(&plan, Applied::NothingToRun, true), "plan p1: nothing to run, nothing written\n");
        assert_eq!(applied_json(&plan, Applied::Before)["outcome"], "already_applied");
    }
}
