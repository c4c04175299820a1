//! The one rule that says whether a job fits a device now. Integers in MiB; never more is given away than a
//! device's budget less what slots, running attempts and foreign processes hold.

use common::config::PlacementPolicy;
use common::messages::DeviceKind;
use common::units::Mib;

/// What a device has to give at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    pub kind: DeviceKind,
    pub budget_mib: Mib,
    /// Budget less reservations and foreign use; 0 when foreign use is unknown.
    pub free_mib: Mib,
    pub jobs: u32,
    pub max_jobs: u32,
    /// One of its jobs keeps it for itself.
    pub kept_whole: bool,
    /// Nothing can be placed here, whatever its size.
    pub shut: bool,
}

/// What a job wants of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    pub kind: DeviceKind,
    pub mib: Mib,
    pub policy: PlacementPolicy,
}

/// Why a device can not take a job now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    WrongKind,
    /// Even empty it could not.
    TooSmall,
    Shut,
    /// A job that is there keeps the device for itself.
    KeptWhole,
    /// This job wants the device for itself, and others are there.
    WantsWhole,
    Busy,
    NoRoom,
}

impl Space {
    pub fn obstacle(&self, want: &Want) -> Option<Obstacle> {
        let whole = want.policy == PlacementPolicy::Exclusive;
        if self.kind != want.kind {
            Some(Obstacle::WrongKind)
        } else if self.budget_mib < want.mib {
            Some(Obstacle::TooSmall)
        } else if self.shut {
            Some(Obstacle::Shut)
        } else if self.kept_whole {
            Some(Obstacle::KeptWhole)
        } else if whole && self.jobs > 0 {
            Some(Obstacle::WantsWhole)
        } else if self.jobs >= self.max_jobs {
            Some(Obstacle::Busy)
        } else if self.free_mib < want.mib {
            Some(Obstacle::NoRoom)
        } else {
            None
        }
    }

    /// Takes what was found to fit.
    pub fn take(&mut self, want: &Want) {
        self.jobs = self.jobs.saturating_add(1);
        self.free_mib = self.free_mib.saturating_sub(want.mib);
        self.kept_whole |= want.policy == PlacementPolicy::Exclusive;
    }

    /// Gives back what [`Space::take`] took.
    pub fn give_back(&mut self, want: &Want) {
        self.jobs = self.jobs.saturating_sub(1);
        self.free_mib = self.free_mib.saturating_add(want.mib).min(self.budget_mib);
        self.kept_whole &= want.policy != PlacementPolicy::Exclusive;
    }
}
