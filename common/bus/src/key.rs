//! Numbers and names on the bus: revisions, sequences, and what a key or a subject may look like.

use crate::error::{BusError, Result};
use std::fmt;

/// Revision of a key: the sequence of the write that made it, unique and rising over the whole bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// Place of a message in its stream; the first message has 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Accepts `[-/_=.a-zA-Z0-9]+` without an empty token: a key is the tail of a NATS subject, whose tokens are
/// parted by dots and may not be empty.
pub fn check_key(key: &str) -> Result<()> {
    let bad = |reason| Err(BusError::InvalidKey { key: key.to_owned(), reason });
    if key.is_empty() {
        return bad("it is empty");
    }
    if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-/_=.".contains(&b)) {
        return bad("it has a character that is not allowed");
    }
    if key.split('.').any(str::is_empty) {
        return bad("it has a dot at an end or two dots in a row");
    }
    Ok(())
}

/// Accepts a subject to publish on: dot-parted tokens, none empty, no wildcard, no space.
pub fn check_subject(subject: &str) -> Result<()> {
    check_filter(subject)?;
    if subject.split('.').any(|token| token == "*" || token == ">") {
        let reason = "a message cannot be published on a wildcard";
        return Err(BusError::InvalidSubject { subject: subject.to_owned(), reason });
    }
    Ok(())
}

/// Accepts a subject to listen on: as [`check_subject`], with `*` for one token and `>` for all the rest.
pub fn check_filter(subject: &str) -> Result<()> {
    let bad = |reason| Err(BusError::InvalidSubject { subject: subject.to_owned(), reason });
    if subject.is_empty() || subject.split('.').any(str::is_empty) {
        return bad("it is empty or has an empty token");
    }
    if subject.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
        return bad("it has a space or a control character");
    }
    let tokens: Vec<&str> = subject.split('.').collect();
    if tokens[..tokens.len() - 1].contains(&">") {
        return bad("`>` is allowed as the last token only");
    }
    Ok(())
}

/// Whether `subject` is matched by `filter` (`*` = one token, `>` = one or more tokens at the end).
pub fn subject_matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for want in filter.split('.') {
        match (want, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (want, Some(token)) if want == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_subject_tails() {
        for good in ["a", "plan-1.hcrl_sa", "runs/x=1", "A.b.C"] {
            check_key(good).unwrap();
        }
        for bad in ["", ".a", "a.", "a..b", "a b", "a*", ">", "ü"] {
            assert!(check_key(bad).is_err(), "{bad:?} must be refused");
        }
    }

    #[test]
    fn wildcards_match_whole_tokens() {
        assert!(subject_matches("coord.jobs.>", "coord.jobs.n1.x"));
        assert!(!subject_matches("coord.jobs.>", "coord.jobs"));
        assert!(subject_matches("coord.*.n1", "coord.jobs.n1"));
        assert!(!subject_matches("coord.*.n1", "coord.jobs.n1.x"));
        assert!(!subject_matches("coord.jobs", "coord.jobs.x"));
        assert!(subject_matches("a.b", "a.b"));
    }

    #[test]
    fn subjects_to_publish_on_have_no_wildcard() {
        check_subject("coord.jobs.n1").unwrap();
        check_filter("coord.jobs.>").unwrap();
        for bad in ["a.*", "a.>", "a..b", "", "a b"] {
            assert!(check_subject(bad).is_err(), "{bad:?} must be refused");
        }
        assert!(check_filter("a.>.b").is_err());
    }
}
