//! What should happen, as values. One interpreter in the shell performs them; an effect that is already
//! under way is recognised by its [`EffectKey`] and not started twice.

use common::chain::ChainRecord;
use common::digest::Digest;
use common::ids::{Attempt, ChainId, JobId, JobName, NodeId, Phase, Revision};
use common::job_key::JobKey;
use common::messages::JobOffer;
use common::registry::RegistryEntry;
use common::slot::Slot;

#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A plan was applied: make the chain of one of its datasets, if it is not there.
    CreateChain { record: ChainRecord },
    /// Replace the record, if it is still at `expected` and the slot that the decision rests on is still as
    /// seen. The performer reads that slot first: a watch that fell behind must not end a lease.
    WriteChain {
        record: ChainRecord,
        expected: Revision,
        guard: Option<(JobKey, Revision)>,
        notes: Vec<Note>,
    },
    /// Create (`None`) or replace the slot, if it is still at `expected`.
    WriteSlot { key: JobKey, slot: Slot, expected: Option<Revision>, notes: Vec<Note> },
    /// Tell the node. Harmless when said twice: the message has an id, and the slot decides.
    PublishOffer { offer: Box<JobOffer> },
    /// Ask the store whether the manifest has this digest and names only whole objects.
    Verify { job: JobId, key: JobKey, attempt: Attempt, manifest: Digest, traceparent: Option<String> },
    /// Take nothing new on this node until somebody has looked at it.
    Quarantine { node: NodeId, reason: String, expected: Option<Revision> },
    /// Make it the version in use, and leave the marker `committed` beside the run.
    Publish { entry: Box<RegistryEntry>, expected: Option<Revision> },
}

/// What an effect is about; two effects with the same key are never under way together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EffectKey {
    Chain(ChainId),
    Slot(JobKey),
    Offer(JobKey, Attempt, u32),
    Verify(JobKey, Attempt),
    Registry(JobName),
    Node(NodeId),
}

impl Effect {
    pub fn key(&self) -> EffectKey {
        match self {
            Effect::CreateChain { record } | Effect::WriteChain { record, .. } => {
                EffectKey::Chain(record.id.clone())
            }
            Effect::WriteSlot { key, .. } => EffectKey::Slot(*key),
            Effect::PublishOffer { offer } => EffectKey::Offer(offer.key, offer.attempt, offer.offer),
            Effect::Verify { key, attempt, .. } => EffectKey::Verify(*key, *attempt),
            Effect::Quarantine { node, .. } => EffectKey::Node(node.clone()),
            Effect::Publish { entry, .. } => EffectKey::Registry(entry.name.clone()),
        }
    }
}

/// A line for the audit stream, told when the write it belongs to succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    pub job: JobId,
    pub attempt: Option<Attempt>,
    pub node: Option<NodeId>,
    pub kind: NoteKind,
    pub text: String,
    /// Trace context of the apply that the job came with.
    pub traceparent: Option<String>,
}

impl Note {
    /// About a job of a chain.
    pub fn of(record: &ChainRecord, phase: Phase, kind: NoteKind, text: impl Into<String>) -> Note {
        let (job, traceparent) = (record.job_id(phase), record.traceparent.clone());
        Note { job, attempt: None, node: None, kind, text: text.into(), traceparent }
    }

    pub fn attempt(self, attempt: Attempt) -> Note {
        Note { attempt: Some(attempt), ..self }
    }

    pub fn node(self, node: Option<NodeId>) -> Note {
        Note { node, ..self }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    Unlocked,
    Offered,
    /// An agent took its slot.
    Leased,
    Committed,
    UpToDate,
    Retried,
    Failed,
    Skipped,
    Cancelled,
    Fenced,
    AttemptRaised,
    /// The holder is to save a checkpoint and give its device back.
    AskedToYield,
    Paused,
    Resumed,
    /// Over without a result, and to be tried again.
    Reopened,
}

impl NoteKind {
    pub fn as_str(self) -> &'static str {
        match self {
            NoteKind::Unlocked => "unlocked",
            NoteKind::Offered => "offered",
            NoteKind::Leased => "leased",
            NoteKind::Committed => "committed",
            NoteKind::UpToDate => "up_to_date",
            NoteKind::Retried => "retried",
            NoteKind::Failed => "failed",
            NoteKind::Skipped => "skipped",
            NoteKind::Cancelled => "cancelled",
            NoteKind::Fenced => "fenced",
            NoteKind::AttemptRaised => "attempt_raised",
            NoteKind::AskedToYield => "asked_to_yield",
            NoteKind::Paused => "paused",
            NoteKind::Resumed => "resumed",
            NoteKind::Reopened => "reopened",
        }
    }
}
