//! What is expected of a plan: the foot of `plan`, and the page of `simulate`.

use super::{gantt, schema, table, words};
use common::messages::DeviceKind;
use common::plan::Plan;
use coordinator_core::planner::predict::{Change, Forecast, Impossible, WhatIf};
use serde_json::{Value, json};

/// Makespan with its spread and its bound, and the jobs that fit nowhere.
pub fn footer(plan: &Plan, forecast: &Forecast, fleet_seen: bool) -> String {
    let mut text = String::new();
    if !forecast.critical_path.is_empty() {
        text += &format!(
            "critical path  {}  ({})\n",
            forecast.critical_path.join(" -> "),
            words::duration(Some(forecast.critical_path_ms))
        );
    }
    let runs = plan.to_run().count();
    if fleet_seen && runs > 0 {
        let bound = forecast.lower_bound_ms;
        let bound = bound.map_or_else(String::new, |ms| {
            format!("; no placement could beat {}", words::duration(Some(ms)))
        });
        text +=
            &format!("makespan       {} on this fleet{bound}\n", words::duration(Some(forecast.makespan_ms)));
        if let Some(spread) = &forecast.makespan {
            text += &format!(
                "               P50 {}, P90 {} (lengths vary as {} did)\n",
                words::duration(Some(spread.p50_ms)),
                words::duration(Some(spread.p90_ms)),
                words::plural(spread.samples, "measured one"),
            );
        }
    } else if runs > 0 {
        text += "makespan       not known: no node is there yet\n";
    }
    for never in &forecast.impossible {
        text += &impossible(never);
        text.push('\n');
    }
    text
}

/// Why a job fits no device, with the nearest fit.
pub fn impossible(never: &Impossible) -> String {
    let kind = match never.kind {
        DeviceKind::Gpu => "GPU",
        DeviceKind::Cpu => "CPU",
    };
    let nearest = match &never.nearest {
        Some((name, mib)) => format!("nearest fit: {name} may give {mib}"),
        None => format!("there is no {kind}"),
    };
    format!("impossible     {} needs {} of a {kind}; {nearest}", never.job, never.need_mib)
}

pub fn simulation_json(
    plan: &Plan,
    told: &Forecast,
    changes: &[WhatIf],
    utilization: Option<f64>,
    seed: Option<u64>,
) -> Value {
    let body = json!({
        "plan": plan.id, "seed": seed, "forecast": told, "utilization": utilization, "what_if": changes,
    });
    schema("simulation", body)
}

pub fn simulation(
    plan: &Plan,
    told: &Forecast,
    changes: &[WhatIf],
    utilization: Option<f64>,
    seed: Option<u64>,
) -> String {
    let future = seed.map_or_else(String::new, |seed| format!("   future {seed}"));
    let mut text =
        format!("plan {}   {} to run{future}\n\n", plan.id, words::plural(plan.to_run().count(), "job"));
    if let Some(chart) = gantt::chart(told) {
        text += &(chart + "\n");
    }
    text += &footer(plan, told, true);
    if let Some(share) = utilization {
        text += &format!("at work        {:.0} % of the fleet's places, start to end\n", share * 100.0);
    }
    if !changes.is_empty() {
        text += &format!("\n{}\n", table_of(told, changes));
    }
    text
}

fn table_of(told: &Forecast, changes: &[WhatIf]) -> String {
    let row = |name: String, makespan_ms: u64, bound: Option<u64>, impossible: usize| {
        let difference = match (makespan_ms.cmp(&told.makespan_ms), makespan_ms.abs_diff(told.makespan_ms)) {
            (_, 0) => words::dash(),
            (std::cmp::Ordering::Less, by) => format!("-{}", words::duration(Some(by))),
            (_, by) => format!("+{}", words::duration(Some(by))),
        };
        let (makespan, difference) = match impossible {
            0 => (words::duration(Some(makespan_ms)), difference),
            n => ("impossible".to_owned(), format!("{} would fit nowhere", words::plural(n, "job"))),
        };
        vec![name, makespan, difference, words::duration(bound)]
    };
    let mut rows = vec![row("as it is".to_owned(), told.makespan_ms, told.lower_bound_ms, 0)];
    for what in changes {
        let name = match &what.change {
            Change::OneMore { model, budget_mib } => format!("one more {model} ({budget_mib})"),
            Change::LostNode { node } => format!("without node {node}"),
        };
        rows.push(row(name, what.makespan_ms, what.lower_bound_ms, what.impossible));
    }
    table::render(&["WHAT IF", ">MAKESPAN", ">DIFFERENCE", ">LOWER BOUND"], &rows)
}
