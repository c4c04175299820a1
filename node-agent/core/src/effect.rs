//! What should happen now. Each is performed by the shell (or played by the simulator), and its outcome told
//! as an event; none is remembered as "sent" by the core.

use crate::attempt::{FinishedChild, Inputs, LocalCheckpoint};
use crate::state::RunId;
use common::ids::Revision;
use common::job_key::JobKey;
use common::messages::JobOffer;
use common::slot::Slot;

/// The revision of a slot that is not there: before its first write, and after its bucket was lost.
pub const ABSENT: Revision = Revision(0);

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// -> `SlotRead`
    ReadSlot { key: JobKey },
    /// Compare-and-swap; over [`ABSENT`] the slot is created, if nobody else did. -> `SlotWritten`
    WriteSlot { key: JobKey, expected: Revision, slot: Box<Slot> },
    /// Bring captures, parents' files and the newest whole checkpoint of this key (of any attempt) to the
    /// disk. -> `Fetched`, `FoundFinished`, `FetchFailed`
    Fetch { run: RunId, offer: Box<JobOffer> },
    /// Start the trainer. -> `Spawned`, `SpawnFailed`; then `Frame`s, then `Exited`
    Spawn { run: RunId, offer: Box<JobOffer>, inputs: Inputs },
    /// Send `Stop` to the child. -> `StopAsked`
    AskStop { run: RunId, reason: String, checkpoint: bool },
    /// See to it that no process of this attempt lives, now or later. With `fenced`, uploads of it that are
    /// under way are stopped as well; with `hung`, what it hangs in goes to its log first. -> `Exited`
    Kill { run: RunId, fenced: bool, hung: bool },
    /// Files, then `checkpoint.json`; then all but the newest two are removed. -> `CheckpointStored`,
    /// `CheckpointFailed`
    StoreCheckpoint { run: RunId, checkpoint: LocalCheckpoint },
    /// Files, then `manifest.json`. -> `ResultStored`, `ResultFailed`
    StoreResult(Box<SavedRun>),
    /// Stop whatever still works for this attempt and delete its scratch folder; with `keep`, a finished result in
    /// it is put aside for a later attempt of the same job. -> `Cleaned`
    Clean { run: RunId, keep: bool },
}

/// A result to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedRun {
    pub run: RunId,
    pub offer: JobOffer,
    pub result: FinishedChild,
}

impl Effect {
    /// Two effects with the same key are the same work (or must not happen at the same time): while one is
    /// under way, the other waits.
    pub fn key(&self) -> String {
        match self {
            // One read or write of a slot at a time, so outcomes come in the order of the calls.
            Effect::ReadSlot { key } | Effect::WriteSlot { key, .. } => format!("slot/{key}"),
            Effect::Fetch { run, .. } => format!("fetch/{run}"),
            Effect::Spawn { run, .. } => format!("spawn/{run}"),
            Effect::AskStop { run, .. } => format!("ask/{run}"),
            Effect::Kill { run, .. } => format!("kill/{run}"),
            Effect::StoreCheckpoint { run, .. } => format!("checkpoint/{run}"),
            Effect::StoreResult(saved) => format!("result/{}", saved.run),
            Effect::Clean { run, .. } => format!("clean/{run}"),
        }
    }
}
