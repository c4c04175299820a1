//! Memory of the devices of this node in whole MiB: free = total × cap − reserved − foreign.
//!
//! One writer, checked arithmetic, reserve before anything starts. What foreign processes use is measured;
//! while it is unknown, nothing is placed. A device is free again only when the child was reaped and, on a
//! GPU, a look at the card that began afterwards shows no process with its pid (or can not tell for a minute).

use crate::state::RunId;
use common::ids::DeviceId;
use common::messages::{DeviceKind, DeviceReport, ForeignUse};
use common::units::{Mib, Millis};
use std::collections::{BTreeMap, BTreeSet};

/// A device as the probe saw it, with what the configuration says about it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceFacts {
    pub id: DeviceId,
    pub kind: DeviceKind,
    pub model: String,
    pub total_mib: Mib,
    /// `None` = not told.
    pub used_mib: Option<Mib>,
    /// Processes on the card; `None` = not told (always so for a CPU).
    pub processes: Option<Vec<ProcessUse>>,
    pub utilization_percent: Option<u32>,
    pub fault: Option<String>,
    /// Share of the total that may be given away, in thousandths.
    pub cap_permille: u32,
    pub max_jobs: u32,
}

/// A card that does not tell its processes is taken to be free so long after the child was reaped.
const UNTOLD_FOR: Millis = Millis::from_secs(60);
/// A device that a child could not use is tried again after so long.
const UNFIT_FOR: Millis = Millis::from_secs(600);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessUse {
    pub pid: u32,
    pub used_mib: Option<Mib>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    devices: BTreeMap<DeviceId, Device>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    facts: DeviceFacts,
    /// A card that shrank below what is reserved keeps its old budget for those, and takes nothing new.
    budget_mib: Mib,
    /// A fault of the looking, not of the device.
    unseen: Option<String>,
    /// A child could not use it, and when that was.
    unfit: Option<(String, Millis)>,
    reservations: BTreeMap<RunId, Reservation>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reservation {
    mib: Mib,
    child: ChildUse,
}

/// ```text
///   NotStarted --spawned--> Alive{pid} --reaped--> Reaped{pid, at} --card shows no such pid--> released
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChildUse {
    NotStarted,
    Alive { pid: u32 },
    Reaped { pid: u32, at: Millis },
}

/// Why a device can not take an attempt now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    #[error("this node has no device {0}")]
    NoSuchDevice(DeviceId),
    #[error("{device}: {fault}")]
    Fault { device: DeviceId, fault: String },
    #[error("{device}: what other processes use can not be told, so nothing is placed")]
    ForeignUnknown { device: DeviceId },
    #[error("{device} runs {running} of at most {max} attempts")]
    TooManyJobs { device: DeviceId, running: usize, max: u32 },
    #[error(
        "{device}: {asked} asked, {free} free of {budget} (reserved {reserved}, other processes {foreign}{whose})"
    )]
    Full { device: DeviceId, asked: Mib, free: Mib, budget: Mib, reserved: Mib, foreign: Mib, whose: String },
    #[error("{0} has its memory already")]
    Twice(RunId),
}

impl Ledger {
    /// Takes in a look at all devices that began at `taken_at`, and releases what it shows to be gone.
    pub fn observe(&mut self, taken_at: Millis, seen: Vec<DeviceFacts>) {
        let ids: BTreeSet<DeviceId> = seen.iter().map(|d| d.id.clone()).collect();
        for facts in seen {
            match self.devices.get_mut(&facts.id) {
                Some(device) => device.observe(facts),
                None => drop(self.devices.insert(facts.id.clone(), Device::new(facts))),
            }
        }
        self.devices.retain(|id, device| ids.contains(id) || !device.reservations.is_empty());
        for (id, device) in &mut self.devices {
            if !ids.contains(id) {
                device.unseen = Some("the device is not seen any more".to_owned());
                device.facts.processes = None;
            }
            device.unfit.take_if(|(_, at)| taken_at >= at.plus(UNFIT_FOR));
            device.release_gone(taken_at);
        }
    }

    /// The devices can not be looked at: nothing is placed until they can.
    pub fn observe_failure(&mut self, message: &str) {
        for device in self.devices.values_mut() {
            device.unseen = Some(message.to_owned());
        }
    }

    /// A child could not even begin on the device: nothing is placed there for a while.
    pub fn unfit(&mut self, device: &DeviceId, message: &str, now: Millis) {
        if let Some(device) = self.devices.get_mut(device) {
            device.unfit = Some((format!("a first allocation failed: {message}"), now));
        }
    }

    /// Reserves, or says why not.
    pub fn reserve(&mut self, id: RunId, device: &DeviceId, mib: Mib) -> Result<(), NoRoom> {
        if self.has(&id) {
            return Err(NoRoom::Twice(id));
        }
        let found = self.devices.get_mut(device).ok_or_else(|| NoRoom::NoSuchDevice(device.clone()))?;
        found.room_for(mib)?;
        found.reservations.insert(id, Reservation { mib, child: ChildUse::NotStarted });
        Ok(())
    }

    pub fn child_started(&mut self, id: &RunId, pid: u32) {
        self.set_child(id, |_| ChildUse::Alive { pid });
    }

    /// The child was reaped: a CPU's memory is free at once, a GPU's when the card shows so.
    pub fn child_reaped(&mut self, id: &RunId, at: Millis) {
        self.set_child(id, |child| match child {
            ChildUse::Alive { pid } | ChildUse::Reaped { pid, .. } => ChildUse::Reaped { pid, at },
            ChildUse::NotStarted => ChildUse::NotStarted,
        });
        for device in self.devices.values_mut().filter(|d| d.facts.kind == DeviceKind::Cpu) {
            device.reservations.retain(|of, r| of != id || !matches!(r.child, ChildUse::Reaped { .. }));
        }
    }

    /// Gives back what an attempt without a child reserved; one whose child was just reaped waits for the card.
    pub fn release(&mut self, id: &RunId) {
        for device in self.devices.values_mut() {
            device.reservations.retain(|of, r| of != id || matches!(r.child, ChildUse::Reaped { .. }));
        }
    }

    pub fn has(&self, id: &RunId) -> bool {
        self.devices.values().any(|d| d.reservations.contains_key(id))
    }

    /// Memory is kept for this attempt to come or to go on, not only until the card shows its last child gone.
    pub fn keeps_for(&self, id: &RunId) -> bool {
        let found = self.devices.values().find_map(|d| d.reservations.get(id));
        found.is_some_and(|r| !matches!(r.child, ChildUse::Reaped { .. }))
    }

    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.values()
    }

    pub fn device(&self, id: &DeviceId) -> Option<&Device> {
        self.devices.get(id)
    }

    fn set_child(&mut self, id: &RunId, change: impl Fn(ChildUse) -> ChildUse) {
        for device in self.devices.values_mut() {
            if let Some(reservation) = device.reservations.get_mut(id) {
                reservation.child = change(reservation.child);
            }
        }
    }
}

impl Device {
    fn new(facts: DeviceFacts) -> Device {
        let budget_mib = facts.total_mib.permille(facts.cap_permille);
        Device { facts, budget_mib, unseen: None, unfit: None, reservations: BTreeMap::new() }
    }

    fn observe(&mut self, facts: DeviceFacts) {
        let budget_mib = facts.total_mib.permille(facts.cap_permille);
        self.unseen = None;
        if self.reserved_mib() <= budget_mib {
            self.budget_mib = budget_mib;
        } else {
            self.unseen =
                Some(format!("it now shows {} in all, less than what is reserved on it", facts.total_mib));
        }
        self.facts = facts;
    }

    fn release_gone(&mut self, taken_at: Millis) {
        let listed = self.facts.processes.as_ref();
        self.reservations.retain(|_, r| match r.child {
            ChildUse::Reaped { pid, at } => match listed {
                Some(listed) => taken_at < at || listed.iter().any(|p| p.pid == pid),
                None => taken_at < at.plus(UNTOLD_FOR),
            },
            ChildUse::NotStarted | ChildUse::Alive { .. } => true,
        });
    }

    fn room_for(&self, asked: Mib) -> Result<(), NoRoom> {
        let device = self.facts.id.clone();
        if let Some(fault) = self.fault() {
            return Err(NoRoom::Fault { device, fault });
        }
        let running = self.reservations.len();
        if running as u64 >= u64::from(self.facts.max_jobs) {
            return Err(NoRoom::TooManyJobs { device, running, max: self.facts.max_jobs });
        }
        let (Some(free), Some(foreign)) = (self.free_mib(), self.foreign_mib()) else {
            return Err(NoRoom::ForeignUnknown { device });
        };
        if asked <= free {
            return Ok(());
        }
        let largest = self.foreign_processes().into_iter().max_by_key(|p| p.used_mib);
        let whose = largest.map_or(String::new(), |p| format!(", pid {}", p.pid));
        let (budget, reserved) = (self.budget_mib, self.reserved_mib());
        Err(NoRoom::Full { device, asked, free, budget, reserved, foreign, whose })
    }

    pub fn id(&self) -> &DeviceId {
        &self.facts.id
    }

    pub fn facts(&self) -> &DeviceFacts {
        &self.facts
    }

    pub fn budget_mib(&self) -> Mib {
        self.budget_mib
    }

    pub fn reserved_mib(&self) -> Mib {
        self.reservations.values().map(|r| r.mib).sum()
    }

    pub fn reserved_by(&self) -> impl Iterator<Item = &RunId> {
        self.reservations.keys()
    }

    pub fn fault(&self) -> Option<String> {
        let seen = self.unseen.clone().or_else(|| self.facts.fault.clone());
        seen.or_else(|| self.unfit.as_ref().map(|(message, _)| message.clone()))
    }

    /// What may still be reserved; `None` while the foreign use is unknown.
    pub fn free_mib(&self) -> Option<Mib> {
        let free = self.budget_mib.checked_sub(self.reserved_mib())?;
        Some(free.saturating_sub(self.foreign_mib()?))
    }

    /// Use by others = all that is used less what our children use: as the card lists it by pid, and up to
    /// its reservation for a child that is not listed (a CPU lists nobody; inside a container a card may
    /// list pids of the host).
    pub fn foreign_mib(&self) -> Option<Mib> {
        let mut rest = self.facts.used_mib?;
        for reservation in self.reservations.values() {
            let (ChildUse::Alive { pid } | ChildUse::Reaped { pid, .. }) = reservation.child else {
                continue;
            };
            let listed = self.facts.processes.iter().flatten().find(|p| p.pid == pid);
            let ours = listed.and_then(|p| p.used_mib).unwrap_or(reservation.mib);
            rest = rest.saturating_sub(ours);
        }
        Some(rest)
    }

    fn foreign_processes(&self) -> Vec<ForeignUse> {
        let ours: BTreeSet<u32> = self.reservations.values().filter_map(|r| r.child.pid()).collect();
        let listed = self.facts.processes.iter().flatten().filter(|p| !ours.contains(&p.pid));
        listed.map(|p| ForeignUse { pid: p.pid, used_mib: p.used_mib }).collect()
    }

    /// As the node's beat tells it.
    pub fn report(&self) -> DeviceReport {
        DeviceReport {
            id: self.facts.id.clone(),
            kind: self.facts.kind,
            model: self.facts.model.clone(),
            total_mib: self.facts.total_mib,
            budget_mib: self.budget_mib,
            reserved_mib: self.reserved_mib(),
            foreign_mib: self.foreign_mib(),
            foreign: self.foreign_processes(),
            max_jobs: self.facts.max_jobs,
            utilization_percent: self.facts.utilization_percent,
            fault: self.fault(),
        }
    }
}

impl ChildUse {
    fn pid(self) -> Option<u32> {
        match self {
            ChildUse::NotStarted => None,
            ChildUse::Alive { pid } | ChildUse::Reaped { pid, .. } => Some(pid),
        }
    }
}

#[cfg(test)]
mod tests;
