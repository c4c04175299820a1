//! Where a value came from.

use std::fmt;

/// The layer, and the place in it, that gave a value. Later variants win over earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Written nowhere: the default of the type.
    Default,
    /// The copy of `conf/` inside the binary.
    BuiltIn { file: String, line: u64 },
    /// A file of the configuration folder.
    File { file: String, line: u64 },
    /// An environment variable.
    Env { name: String },
    /// `--set key=value`.
    Flag { text: String },
}

impl Origin {
    /// Whether somebody wrote it, rather than the project's defaults.
    pub fn is_written(&self) -> bool {
        !matches!(self, Origin::Default | Origin::BuiltIn { .. })
    }

    /// The exact place, for error messages.
    pub fn place(&self) -> String {
        match self {
            Origin::BuiltIn { file, line } => format!("{file}:{line} (built in)"),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    /// `default`, `conf/base.yaml:12`, `env COORD_TRAINING__LR` or `flag --set lr=0.01`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default | Origin::BuiltIn { .. } => f.write_str("default"),
            Origin::File { file, line } => write!(f, "{file}:{line}"),
            Origin::Env { name } => write!(f, "env {name}"),
            Origin::Flag { text } => write!(f, "flag {text}"),
        }
    }
}
