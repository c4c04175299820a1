//! The pages of `status` and `explain`.

use super::{schema, table, words};
use crate::cli::rows::JobRow;
use common::messages::DeviceKind;
use common::plan::Plan;
use common::units::{Millis, UnixMs};
use coordinator_core::explain::{Reason, Why};
use serde_json::{Value, json};

/// Plans with their jobs.
pub fn status_json(plans: &[(Plan, Vec<JobRow>)], now: UnixMs) -> Value {
    let page: Vec<Value> = plans
        .iter()
        .map(|(plan, rows)| json!({"id": plan.id, "created": plan.created.to_string(), "jobs": rows}))
        .collect();
    schema("status", json!({"at": now.to_string(), "plans": page}))
}

pub fn status(plans: &[(Plan, Vec<JobRow>)], now: UnixMs) -> String {
    if plans.is_empty() {
        return "no plan was ever applied here; `coord plan` says what could be\n".to_owned();
    }
    let pages = plans.iter().map(|(plan, rows)| {
        let head = format!("plan {}   applied {}\n", plan.id, words::ago(now, plan.created));
        head + &status_table(rows)
    });
    pages.collect::<Vec<_>>().join("\n\n")
}

fn status_table(rows: &[JobRow]) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(words::dash);
    let line = |row: &JobRow| {
        let reserved = row.place.as_ref().map(|p| p.reserve_mib.0);
        let memory = reserved.map(|r| format!("{}/{r}", or_dash(row.used_mib.map(|u| u.0.to_string()))));
        let eta = row.eta_ms.map(|ms| Millis(ms).to_string());
        vec![
            row.state.to_owned(),
            row.job.to_string(),
            or_dash(place(row)),
            or_dash(row.attempt.map(|a| a.to_string())),
            or_dash(row.progress.clone()),
            or_dash(row.loss.map(words::loss)),
            or_dash(memory),
            or_dash(eta.or_else(|| row.duration_ms.map(|ms| format!("took {}", Millis(ms))))),
            or_dash(why(row)),
        ]
    };
    let headers =
        ["STATE", "JOB", "NODE/DEVICE", "ATTEMPT", "EPOCH", ">LOSS", ">MIB USED/RESERVED", "ETA", "REASON"];
    table::render(&headers, &rows.iter().map(line).collect::<Vec<_>>())
}

pub fn place(row: &JobRow) -> Option<String> {
    row.place
        .as_ref()
        .map(|p| format!("{}/{}", p.node, p.device.as_str().chars().take(12).collect::<String>()))
}

/// The first reason in one line.
pub fn why(row: &JobRow) -> Option<String> {
    let more = row.reasons.len().saturating_sub(1);
    let more = if more > 0 { format!(" (+{more} more)") } else { String::new() };
    let first = row.reasons.first().map(|r| short_reason(r) + &more);
    match (first, &row.message) {
        (Some(reason), Some(message)) => Some(format!("{reason}; {message}")),
        (reason, message) => reason.or_else(|| message.clone()),
    }
}

/// A reason in one line.
pub fn short_reason(reason: &Reason) -> String {
    match reason {
        Reason::WaitsForParent { parent, view } => format!("waits for {parent} ({view})"),
        Reason::SameJobRunsIn { plan } => {
            format!("plan {plan} runs the very same job; its result will serve")
        }
        Reason::BackOff { left_ms } => format!("next attempt in {}", Millis(*left_ms)),
        Reason::SlotLost { holder } => {
            format!("runs on {holder}; the bus has lost its slot, which is about to be written anew")
        }
        Reason::NoNodes => "no node is there: start a node-agent, or `coord local up`".to_owned(),
        Reason::Impossible { need_mib, kind, nearest } => {
            let kind = match kind {
                DeviceKind::Gpu => "GPU",
                DeviceKind::Cpu => "CPU",
            };
            let nearest = match nearest {
                Some((name, mib)) => format!("nearest fit: {name}, at most {mib}"),
                None => format!("there is no {kind}"),
            };
            format!("impossible on this fleet: needs {need_mib} of a {kind}; {nearest}")
        }
        Reason::NoRoomNow { need_mib, devices } => {
            let first = devices
                .first()
                .map_or_else(String::new, |d| format!(": {} {}: {}", d.node, d.device, d.blocker));
            format!("no room now for {need_mib}{first}")
        }
        Reason::Paused { reason } => format!("paused: {reason}"),
        Reason::AskedToYield { because } => format!("asked to save a checkpoint and yield: {because}"),
        Reason::AboutToBeOffered => "about to be offered".to_owned(),
        Reason::WaitsForNode { place, at_most_ms } => {
            let at_most = Millis(*at_most_ms);
            format!("waits at most {at_most} for {place}, where its parent's checkpoint and graphs are")
        }
        Reason::OfferedTo { place, since_ms } => format!("offered to {place} {} ago", Millis(*since_ms)),
        Reason::AttemptWaits { waits } => waits.to_string(),
        Reason::BeingVerified { trouble: None } => "its result is being checked".to_owned(),
        Reason::BeingVerified { trouble: Some(trouble) } => {
            format!("its result can not be checked: {trouble}")
        }
        Reason::BusAway => "the bus does not answer".to_owned(),
    }
}

pub fn explain_json(why: &Why) -> Value {
    schema("explain", why)
}

/// Every reason, per node and device, and what became of earlier attempts.
pub fn explain(why: &Why, row: Option<&JobRow>) -> String {
    let state = row.map_or(why.view.word(), |row| row.state);
    let mut text = format!("{} of plan {}: {state}\n", why.job.name, why.job.plan);
    if let Some(place) = row.and_then(place) {
        let progress = row.and_then(|r| r.progress.clone()).map_or_else(String::new, |p| format!(", {p}"));
        text += &format!("  runs on {place}{progress}\n");
    }
    if let Some(message) = row.and_then(|r| r.message.as_ref()) {
        text += &format!("  {message}\n");
    }
    for reason in &why.reasons {
        match reason {
            Reason::NoRoomNow { need_mib, devices } => {
                text += &format!("  no room now for {need_mib}:\n");
                for d in devices {
                    text += &format!("    {} {}: {}\n", d.node, d.device, d.blocker);
                }
            }
            other => text += &format!("  {}\n", short_reason(other)),
        }
    }
    if !why.past.is_empty() {
        text += "  past attempts:\n";
        for past in &why.past {
            let node = past.node.as_ref().map_or_else(words::dash, ToString::to_string);
            text += &format!(
                "    {} on {node}: {}: {}\n",
                past.attempt,
                past.cause.as_str(),
                past.message.trim()
            );
        }
    }
    text
}
