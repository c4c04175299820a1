//! All printing. stdout carries data, stderr the talk; JSON objects name their schema, times in them are
//! RFC 3339 in UTC. Functions here build text from values; [`Out`] alone writes.
//!
//! | module | holds |
//! |--|--|
//! | [`table`] | aligned columns |
//! | [`words`] | durations, ages, numbers |
//! | [`gantt`], [`forecast`] | when and where jobs are expected to run |
//! | [`plan`], [`jobs`], [`changes`], [`results`], [`nodes`], [`lists`], [`logs`] | one kind of page each |
//! | [`progress`], [`live`] | the lines and the live display of `follow` |
//! | [`error`] | how a failure is told |

pub mod changes;
pub mod error;
pub mod forecast;
pub mod gantt;
pub mod jobs;
pub mod lists;
pub mod live;
pub mod logs;
pub mod nodes;
pub mod plan;
pub mod progress;
pub mod rebuild;
pub mod results;
#[cfg(test)]
mod samples;
pub mod table;
pub mod words;

use serde::Serialize;
use serde_json::Value;
use std::io::{IsTerminal, Write};

/// Form of the data on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs: objects with a `schema`
    Json,
    /// Names only, one a line
    Ids,
}

/// Where everything is written. A closed pipe (`coord status | head`) is not an error.
#[derive(Debug, Clone, Copy)]
pub struct Out {
    pub format: Format,
    pub verbose: bool,
}

impl Out {
    /// Text for stdout, with its line end.
    pub fn data(&self, text: &str) {
        let text = text.trim_end_matches('\n');
        let mut out = std::io::stdout().lock();
        let _closed_pipe = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// Text for stdout as it is.
    pub fn raw(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _closed_pipe = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// One page in the form asked for: `table` and `ids` are only built when wanted.
    pub fn page(&self, json: Value, table: impl FnOnce() -> String, ids: impl FnOnce() -> Vec<String>) {
        match self.format {
            Format::Json => self.data(&pretty(&json)),
            Format::Table => self.data(&table()),
            Format::Ids => {
                let ids = ids();
                if !ids.is_empty() {
                    self.data(&ids.join("\n"));
                }
            }
        }
    }

    /// One JSON object a line, for what has no end.
    pub fn json_line(&self, json: &Value) {
        self.data(&json.to_string());
    }

    /// For people, on stderr.
    pub fn talk(&self, text: &str) {
        let _closed_pipe = writeln!(std::io::stderr().lock(), "{}", text.trim_end_matches('\n'));
    }

    /// Somebody sits there who can be asked.
    pub fn can_ask(&self) -> bool {
        self.format == Format::Table && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// Asks on the terminal, for as long as it takes to answer; anything but yes is no.
    pub async fn ask(&self, question: &str) -> bool {
        let prompt = format!("{question} [y/N] ");
        let answer = tokio::task::spawn_blocking(move || {
            let mut err = std::io::stderr().lock();
            let mut line = String::new();
            let asked = write!(err, "{prompt}").and_then(|()| err.flush());
            let read = asked.and_then(|()| std::io::stdin().read_line(&mut line));
            read.is_ok() && matches!(line.trim().to_lowercase().as_str(), "y" | "yes")
        });
        answer.await.unwrap_or(false)
    }

    /// A live display is only for a terminal that nobody else writes JSON to.
    pub fn is_live(&self) -> bool {
        self.format == Format::Table && std::io::stderr().is_terminal()
    }
}

/// `{"schema": "coord.v1.<kind>", …}`
pub fn schema(kind: &str, body: impl Serialize) -> Value {
    // Bodies are structs of names and numbers, which JSON can always hold.
    let body = serde_json::to_value(body).expect("a page serialises to JSON");
    let mut object = serde_json::Map::new();
    object.insert("schema".into(), format!("coord.v1.{kind}").into());
    match body {
        Value::Object(fields) => object.extend(fields),
        other => drop(object.insert(kind.into(), other)),
    }
    Value::Object(object)
}

pub fn pretty(json: &Value) -> String {
    format!("{json:#}")
}

/// A name as people write it (`hcrl_sa/teacher`), for fields of JSON pages.
pub fn as_text<T: std::fmt::Display, S: serde::Serializer>(name: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(name)
}
