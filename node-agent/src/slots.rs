//! Slots on the bus: one read or one compare-and-swap, with the outcome as the core knows it.

use agent_core::{ABSENT, ReadOutcome, WriteOutcome};
use bus::{BusError, SharedBus, SharedKv};
use common::digest::Digest;
use common::ids::Revision;
use common::job_key::JobKey;
use common::slot::Slot;
use common::subjects::BUCKET_SLOTS;
use common::wire;

#[derive(Clone)]
pub struct Slots {
    kv: SharedKv,
}

impl Slots {
    pub fn new(bus: &SharedBus) -> Slots {
        Slots { kv: bus.kv(BUCKET_SLOTS) }
    }

    pub async fn read(&self, key: &JobKey) -> ReadOutcome {
        let entry = match self.kv.get(&key.to_string()).await {
            Ok(Some(entry)) => entry,
            Ok(None) => return ReadOutcome::Absent,
            Err(error) => return ReadOutcome::Unavailable { message: error.to_string() },
        };
        match wire::decode::<Slot>(&entry.value) {
            Ok(slot) => ReadOutcome::Found { revision: Revision(entry.revision.0), slot: Box::new(slot) },
            // A record of a newer release: not ours to judge, and it may be gone at the next look.
            Err(error) => ReadOutcome::Unavailable { message: format!("slot {key}: {error}") },
        }
    }

    /// Compare-and-swap; over [`ABSENT`], create-if-absent.
    pub async fn write(&self, key: &JobKey, expected: Revision, slot: &Slot) -> WriteOutcome {
        let bytes = match wire::encode(slot) {
            Ok(bytes) => bytes,
            Err(error) => return WriteOutcome::Unavailable { message: error.to_string() },
        };
        let (name, bytes) = (key.to_string(), bytes.into());
        let written = match expected {
            ABSENT => self.kv.create(&name, bytes).await,
            Revision(seen) => self.kv.update(&name, bytes, bus::Revision(seen)).await,
        };
        match written {
            Ok(revision) => WriteOutcome::Written { revision: Revision(revision.0) },
            Err(error) if error.is_conflict() => WriteOutcome::Conflict,
            Err(error) => WriteOutcome::Unavailable { message: error.to_string() },
        }
    }

    /// Every slot there is; what can not be read is left out.
    pub async fn list(&self) -> Result<Vec<(JobKey, Revision, Slot)>, BusError> {
        let listed = self.kv.list(None).await?;
        let known = listed.into_iter().filter_map(|(key, entry)| {
            let key = JobKey(key.parse::<Digest>().ok()?);
            let slot = wire::decode::<Slot>(&entry.value).ok()?;
            Some((key, Revision(entry.revision.0), slot))
        });
        Ok(known.collect())
    }
}
