//! Names of things. Each is its own type, so that a node can not be given where a dataset is meant.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A name that may not be used: it would not survive as part of a subject, a key and a file name alike.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} is not usable: write 1 to {max} characters of a-z, A-Z, 0-9, '_' and '-'")]
pub struct BadName {
    pub what: &'static str,
    pub given: String,
    pub max: usize,
}

/// Longest name accepted, in bytes.
pub const NAME_MAX_BYTES: usize = 64;

fn check_name(what: &'static str, given: &str) -> Result<(), BadName> {
    let fits = !given.is_empty() && given.len() <= NAME_MAX_BYTES;
    let clean = given.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if fits && clean { Ok(()) } else { Err(BadName { what, given: given.to_owned(), max: NAME_MAX_BYTES }) }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Refuses what could not be part of a subject, a key and a file name alike.
            pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
                let name = name.into();
                check_name($what, &name)?;
                Ok(Self(name))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadName;
            fn try_from(name: String) -> Result<Self, BadName> {
                Self::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl FromStr for $type {
            type Err = BadName;
            fn from_str(name: &str) -> Result<Self, BadName> {
                Self::new(name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name!(
    /// One dataset (captures of one fleet of vehicles), for example `hcrl_sa`.
    DatasetId,
    "dataset"
);
name!(
    /// One plan: derived from its content, so the same inputs give the same id.
    PlanId,
    "plan"
);
name!(
    /// One machine that runs jobs.
    NodeId,
    "node"
);
name!(
    /// One device of a node: the UUID of a GPU or of a MIG instance, or `cpu`.
    DeviceId,
    "device"
);

/// The three phases of a dataset's chain, in the order they build on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Large VGAE and GAT, trained on the labels.
    Teacher,
    /// Small VGAE and GAT, distilled from the committed teacher.
    Student,
    /// DQN agent that weighs the two detectors against each other.
    Fusion,
}

impl Phase {
    pub const ALL: [Phase; 3] = [Phase::Teacher, Phase::Student, Phase::Fusion];

    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Teacher => "teacher",
            Phase::Student => "student",
            Phase::Fusion => "fusion",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no phase: use teacher, student or fusion")]
pub struct BadPhase(pub String);

impl FromStr for Phase {
    type Err = BadPhase;
    fn from_str(name: &str) -> Result<Self, BadPhase> {
        Phase::ALL.into_iter().find(|p| p.as_str() == name).ok_or_else(|| BadPhase(name.to_owned()))
    }
}

/// A job as people name it, `hcrl_sa/teacher`; within one plan it is unique.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobName {
    pub dataset: DatasetId,
    pub phase: Phase,
}

impl JobName {
    pub fn new(dataset: DatasetId, phase: Phase) -> Self {
        JobName { dataset, phase }
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.dataset, self.phase))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadJobName {
    #[error("{0:?} names no job: write DATASET/PHASE, for example hcrl_sa/teacher")]
    Form(String),
    #[error(transparent)]
    Dataset(#[from] BadName),
    #[error(transparent)]
    Phase(#[from] BadPhase),
}

impl FromStr for JobName {
    type Err = BadJobName;
    fn from_str(text: &str) -> Result<Self, BadJobName> {
        let (dataset, phase) = text.split_once('/').ok_or_else(|| BadJobName::Form(text.to_owned()))?;
        Ok(JobName { dataset: dataset.parse()?, phase: phase.parse()? })
    }
}

/// A job of one plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId {
    pub plan: PlanId,
    pub name: JobName,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.plan, self.name)
    }
}

/// The connected part of the job graph that one record holds: a dataset of a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChainId {
    pub plan: PlanId,
    pub dataset: DatasetId,
}

impl ChainId {
    /// Key in the bucket `chains`.
    pub fn to_key(&self) -> String {
        format!("{}.{}", self.plan, self.dataset)
    }

    pub fn job(&self, phase: Phase) -> JobId {
        JobId { plan: self.plan.clone(), name: JobName::new(self.dataset.clone(), phase) }
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.plan, self.dataset)
    }
}

/// Which execution of a job: the fencing token of every write. It only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl Attempt {
    pub const FIRST: Attempt = Attempt(1);

    /// Saturates: four thousand million attempts are beyond every retry budget.
    pub fn next(self) -> Attempt {
        Attempt(self.0.saturating_add(1))
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a{}", self.0)
    }
}

/// One life of an agent process: a restarted agent has another one, so it can tell its own slots
/// of before from those it holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Revision of one key of a bucket, as the bus gave it; only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);
