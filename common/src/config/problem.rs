//! What is wrong with a configuration, all of it told together.

use super::origin::Origin;
use std::fmt;

/// One mistake: where it was written, under which key, and what to do about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    pub at: Origin,
    /// Dotted path as it would be given to `--set`; empty when a whole file is unreadable.
    pub key: String,
    pub message: String,
    /// The way out, when one can be told.
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(at: &Origin, key: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { at: at.clone(), key: key.into(), message: message.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Name of the file the mistake stands in, when it stands in one.
    pub fn file(&self) -> Option<&str> {
        match &self.at {
            Origin::File { file, .. } | Origin::BuiltIn { file, .. } => Some(file),
            Origin::Default | Origin::Env { .. } | Origin::Flag { .. } => None,
        }
    }

    /// Line in [`Problem::file`], counted from 1.
    pub fn line(&self) -> Option<u64> {
        match &self.at {
            Origin::File { line, .. } | Origin::BuiltIn { line, .. } => Some(*line),
            Origin::Default | Origin::Env { .. } | Origin::Flag { .. } => None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.at.place())?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Every mistake of a configuration, in the order of its layers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} problem{plural} in the configuration:", self.0.len())?;
        self.0.iter().try_for_each(|p| write!(f, "\n  {p}"))
    }
}
