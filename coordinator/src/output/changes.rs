//! The page of `cancel`, `pause`, `resume` and `retry`.

use super::schema;
use common::ids::{JobName, PlanId};
use serde_json::{Value, json};

/// How one kind of change is spoken of.
pub struct Words {
    /// `cancel`
    pub verb: &'static str,
    /// `cancelled`
    pub done: &'static str,
    /// What a dependent has to do with it.
    pub dependents: &'static str,
    /// The jobs it is about: `that is not over`.
    pub matching: &'static str,
}

/// Jobs of one plan.
pub struct Changed {
    pub plan: PlanId,
    /// Named by the selector.
    pub named: Vec<JobName>,
    /// Concerned with them.
    pub dependents: Vec<JobName>,
}

/// `done` = written.
pub fn json(words: &Words, changed: &[Changed], reason: &str, done: bool) -> Value {
    let list: Vec<Value> = changed
        .iter()
        .map(|c| {
            let names = |jobs: &[JobName]| jobs.iter().map(ToString::to_string).collect::<Vec<_>>();
            json!({"plan": c.plan, "jobs": names(&c.named), "dependents": names(&c.dependents)})
        })
        .collect();
    schema(words.verb, json!({words.done: list, "reason": reason, "dry_run": !done}))
}

pub fn text(words: &Words, changed: &[Changed], done: bool) -> String {
    if changed.is_empty() {
        return format!("nothing to {}: no job {} matches\n", words.verb, words.matching);
    }
    let verb = if done { words.done.to_owned() } else { format!("would {}", words.verb) };
    let mut text = String::new();
    for c in changed {
        // Dependents first: what changes besides what was named is what one has to know.
        for job in &c.dependents {
            text += &format!("{verb} {job} of plan {} ({})\n", c.plan, words.dependents);
        }
        for job in &c.named {
            text += &format!("{verb} {job} of plan {}\n", c.plan);
        }
    }
    text
}
