//! Which jobs `--force` and the like name.
//!
//! ```text
//! selector = part { "," part }
//! part     = "all" | name | name "/" name        name may hold "*" for any characters
//! ```
//! One name alone is a phase when it is one (`teacher`), else a dataset (`set_*`); with a slash it is
//! DATASET/PHASE (`set_*/fusion`, `*/teacher`).

use common::ids::{JobName, Phase};
use std::str::FromStr;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    parts: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "selector {given:?}: {problem}; write all, DATASET, PHASE or DATASET/PHASE, \
     with * for any characters and commas between several"
)]
pub struct BadSelector {
    given: String,
    problem: String,
}

impl FromStr for Selector {
    type Err = BadSelector;

    fn from_str(text: &str) -> Result<Selector, BadSelector> {
        let bad = |problem: &str| BadSelector { given: text.to_owned(), problem: problem.to_owned() };
        let mut parts = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (dataset, phase) = match part.split_once('/') {
                _ if part.is_empty() => return Err(bad("an empty part")),
                Some((_, phase)) if phase.contains('/') => return Err(bad("more than one slash")),
                Some(("", _) | (_, "")) => return Err(bad("nothing on one side of the slash")),
                Some((dataset, phase)) => {
                    if !phase.contains('*') && phase.parse::<Phase>().is_err() {
                        return Err(bad(&format!("{phase:?} is no phase")));
                    }
                    (dataset, phase)
                }
                None if part == "all" => ("*", "*"),
                None if part.parse::<Phase>().is_ok() => ("*", part),
                None => (part, "*"),
            };
            parts.push((dataset.to_owned(), phase.to_owned()));
        }
        Ok(Selector { parts })
    }
}

impl Selector {
    pub fn matches(&self, name: &JobName) -> bool {
        let hit = |(d, p): &(String, String)| glob(d, name.dataset.as_str()) && glob(p, name.phase.as_str());
        self.parts.iter().any(hit)
    }
}

/// `*` stands for any characters, everything else for itself.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for piece in pieces {
        if let Some(previous) = last.replace(piece) {
            let Some(at) = rest.find(previous) else { return false };
            rest = &rest[at + previous.len()..];
        }
    }
    match last {
        None => rest.is_empty(),
        Some(tail) => rest.ends_with(tail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(selector: &str) -> Vec<String> {
        let selector: Selector = selector.parse().unwrap();
        let datasets = ["hcrl_sa", "set_01", "set_02"];
        let names = datasets
            .iter()
            .flat_map(|d| Phase::ALL.map(|p| JobName::new(d.parse().unwrap(), p)))
            .filter(|n| selector.matches(n));
        names.map(|n| n.to_string()).collect()
    }

    #[test]
    fn each_form_names_exactly_its_jobs() {
        assert_eq!(chosen("all").len(), 9);
        assert_eq!(chosen("set_01"), ["set_01/teacher", "set_01/student", "set_01/fusion"]);
        assert_eq!(chosen("student"), ["hcrl_sa/student", "set_01/student", "set_02/student"]);
        assert_eq!(chosen("set_*/fusion"), ["set_01/fusion", "set_02/fusion"]);
        assert_eq!(
            chosen("*_0*/teacher,hcrl_sa/fusion"),
            ["hcrl_sa/fusion", "set_01/teacher", "set_02/teacher"]
        );
        assert_eq!(chosen("set"), Vec::<String>::new());
    }

    #[test]
    fn what_can_not_be_meant_is_refused_with_the_grammar() {
        for bad in ["", "a,,b", "a/b/c", "/teacher", "set_01/", "set_01/techer"] {
            let error = bad.parse::<Selector>().unwrap_err().to_string();
            assert!(error.contains("write all, DATASET"), "{bad}: {error}");
        }
    }

    #[test]
    fn stars_match_like_a_shells() {
        assert!(glob("a*b*c", "a__b__b_c") && glob("*", "") && glob("a*", "a") && glob("*a*", "bab"));
        assert!(!glob("a*b", "a") && !glob("ab*ba", "aba") && !glob("a", "ab"));
    }
}
