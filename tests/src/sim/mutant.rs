//! Deliberately broken rules, as switches around the cores: a simulator that does not catch these catches
//! nothing.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Slots are written without looking at the revision.
    SlotPut,
    /// The dependents' unlock is written before the commit of their parent.
    UnlockFirst,
    /// An effect is said once and never again, whatever came of it.
    SaidOnce,
    /// A finished claim is committed whatever attempt it names.
    AnyAttempt,
    /// Nobody tells the coordinator that the bus is away, so silence counts.
    LeaseWhileAway,
    /// A coordinator that was stopped takes the silence of that time for the holders'.
    BlindToStandstill,
    /// The slot is not read again before a lease is ended.
    NoGuard,
    /// Every claim counts as verified.
    NoVerify,
    /// An agent takes a refused renewal for a success.
    DeafAgent,
    /// An agent takes every offer, whatever its ledger says: the room is made up.
    Overcommit,
}
