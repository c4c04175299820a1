//! Why one device can not take a job now, in words and figures.

use super::room::{Holder, Room};
use super::space::{Obstacle, Want};
use common::ids::{DeviceId, NodeId};
use common::messages::{DeviceKind, ForeignUse};
use common::units::{Mib, Millis};
use serde::Serialize;
use std::fmt;

/// One line of `coord explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceBlocked {
    pub node: NodeId,
    pub device: DeviceId,
    pub model: String,
    pub blocker: Blocker,
}

/// Why one device can not take a job now. `never` ones do not go away by waiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Blocker {
    Unreachable {
        silent_ms: u64,
    },
    NodeClosed {
        because: String,
    },
    DeviceFault {
        fault: String,
    },
    /// Foreign use can not be told, so nothing is promised.
    UseUnknown,
    WrongKind {
        wanted: DeviceKind,
    },
    TooSmall {
        budget_mib: Mib,
        need_mib: Mib,
    },
    NoRoom {
        need_mib: Mib,
        free_mib: Mib,
        holders: Vec<Holder>,
        foreign_mib: Option<Mib>,
        /// Processes that are none of ours.
        unmanaged: Vec<ForeignUse>,
    },
    Busy {
        jobs: u32,
        max_jobs: u32,
        holders: Vec<Holder>,
    },
    /// A job that keeps the device for itself is there.
    KeptWhole {
        holders: Vec<Holder>,
    },
    /// This job takes a device for itself only, and others are there.
    WantsWhole {
        holders: Vec<Holder>,
    },
    Declined {
        again_in_ms: u64,
        reason: String,
    },
}

impl Blocker {
    /// Waiting will not help: only another device or another need will.
    pub fn is_never(&self) -> bool {
        matches!(self, Blocker::WrongKind { .. } | Blocker::TooSmall { .. })
    }

    /// Why this device can not take it; `None` = it can. `declined`: its node said no a moment ago.
    pub(super) fn of(room: &Room, want: &Want, declined: Option<&Blocker>) -> Option<Blocker> {
        let never = |o: &Obstacle| matches!(o, Obstacle::WrongKind | Obstacle::TooSmall | Obstacle::Shut);
        let obstacle = room.space().obstacle(want);
        if !obstacle.as_ref().is_some_and(never)
            && let Some(declined) = declined
        {
            return Some(declined.clone());
        }
        let holders = || room.holders.clone();
        Some(match obstacle? {
            Obstacle::WrongKind => Blocker::WrongKind { wanted: want.kind },
            Obstacle::TooSmall => Blocker::TooSmall { budget_mib: room.budget_mib, need_mib: want.mib },
            Obstacle::Shut => room.shut.clone().unwrap_or(Blocker::UseUnknown),
            Obstacle::KeptWhole => Blocker::KeptWhole { holders: holders() },
            Obstacle::WantsWhole => Blocker::WantsWhole { holders: holders() },
            Obstacle::Busy => {
                Blocker::Busy { jobs: room.jobs(), max_jobs: room.max_jobs, holders: holders() }
            }
            Obstacle::NoRoom => Blocker::NoRoom {
                need_mib: want.mib,
                free_mib: room.free_mib(),
                holders: holders(),
                foreign_mib: room.foreign_mib,
                unmanaged: room.foreign.clone(),
            },
        })
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blocker::Unreachable { silent_ms } => write!(f, "unreachable for {}", Millis(*silent_ms)),
            Blocker::NodeClosed { because } => write!(f, "takes nothing new: {because}"),
            Blocker::DeviceFault { fault } => write!(f, "device fault: {fault}"),
            Blocker::UseUnknown => write!(f, "its memory use can not be read"),
            Blocker::WrongKind { wanted: DeviceKind::Gpu } => write!(f, "not a GPU"),
            Blocker::WrongKind { wanted: DeviceKind::Cpu } => write!(f, "not a CPU"),
            Blocker::TooSmall { budget_mib, need_mib } => {
                write!(f, "too small: needs {need_mib}, may give {budget_mib} at most")
            }
            Blocker::NoRoom { need_mib, free_mib, holders, foreign_mib, unmanaged } => {
                write!(f, "needs {need_mib}, free {free_mib}")?;
                if !holders.is_empty() {
                    write!(f, "; reserved by {}", names(holders))?;
                }
                match foreign_mib {
                    Some(Mib(0)) | None => Ok(()),
                    Some(mib) => write!(f, "; unmanaged {mib}{}", pids(unmanaged)),
                }
            }
            Blocker::Busy { jobs, max_jobs, holders } => {
                write!(f, "runs {jobs} of at most {max_jobs} jobs: {}", names(holders))
            }
            Blocker::KeptWhole { holders } => write!(f, "kept whole by {}", names(holders)),
            Blocker::WantsWhole { holders } => {
                write!(f, "wanted empty (placement exclusive); runs {}", names(holders))
            }
            Blocker::Declined { again_in_ms, reason } => {
                write!(f, "declined ({reason}), asked again in {}", Millis(*again_in_ms))
            }
        }
    }
}

fn names(holders: &[Holder]) -> String {
    let makes_way = |h: &Holder| if h.yields { " (asked to yield)" } else { "" };
    let list: Vec<String> =
        holders.iter().map(|h| format!("{} {}{}", h.job.name, h.mib, makes_way(h))).collect();
    list.join(", ")
}

/// The largest few processes that are none of ours.
fn pids(unmanaged: &[ForeignUse]) -> String {
    const SHOWN: usize = 3;
    let mut by_size: Vec<&ForeignUse> = unmanaged.iter().collect();
    by_size.sort_by_key(|u| (std::cmp::Reverse(u.used_mib), u.pid));
    match by_size.as_slice() {
        [] => String::new(),
        [one] => format!(" (pid {})", one.pid),
        many => {
            let shown: Vec<String> = many.iter().take(SHOWN).map(|u| u.pid.to_string()).collect();
            let more = if many.len() > SHOWN { " …" } else { "" };
            format!(" (pids {}{more})", shown.join(", "))
        }
    }
}
