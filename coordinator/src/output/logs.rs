//! Lines of trainers, as `coord logs` shows them.

use super::{Format, Out, schema};
use common::chain::PastAttempt;
use common::ids::{Attempt, JobName};
use serde_json::json;

/// Some lines of one attempt.
pub struct Lines<'a> {
    pub job: &'a JobName,
    pub attempt: Attempt,
    /// Not known of lines from the archive.
    pub node: Option<&'a str>,
    /// Bytes of this attempt's log before them.
    pub offset: u64,
    /// Those shown before were another attempt's.
    pub begins: bool,
    pub text: &'a str,
}

pub fn lines(out: Out, lines: &Lines<'_>) {
    let Lines { job, attempt, node, offset, begins, text } = lines;
    match out.format {
        Format::Json => out.json_line(&schema(
            "log",
            json!({ "job": job.to_string(), "attempt": attempt.0, "node": node, "offset": offset, "text": text }),
        )),
        Format::Table | Format::Ids => {
            if *begins {
                out.data(&heading(job, *attempt, *node));
            }
            out.raw(text);
        }
    }
}

pub fn heading(job: &JobName, attempt: Attempt, node: Option<&str>) -> String {
    let on = node.map_or_else(String::new, |node| format!(" on {node}"));
    format!("==> {job} attempt {}{on} <==", attempt.0)
}

/// How an attempt without a result ended.
pub fn ended(out: Out, job: &JobName, past: &PastAttempt) {
    match out.format {
        Format::Json => out.json_line(&schema(
            "log_end",
            json!({
                "job": job.to_string(), "attempt": past.attempt.0, "node": past.node, "cause": past.cause,
                "message": past.message,
            }),
        )),
        Format::Table | Format::Ids => {
            let first = past.message.lines().next().unwrap_or_default();
            out.data(&format!(
                "<== {job} attempt {} ended: {}: {first} ==>",
                past.attempt.0,
                past.cause.as_str()
            ));
        }
    }
}
