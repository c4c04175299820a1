//! What a private consumer remembers itself, so that it can be made anew where it stood.

use std::collections::BTreeSet;

/// Sequences delivered and not acknowledged, and the highest delivered.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Where the consumer was to begin.
    start: u64,
    /// 0 before the first delivery.
    highest: u64,
    open: BTreeSet<u64>,
}

/// What to do with a delivery.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Hand it over.
    Wanted,
    /// Acknowledged earlier, to a consumer that is gone: acknowledge again and drop.
    Settled,
}

impl Ledger {
    pub(super) fn starting_at(sequence: u64) -> Self {
        Self { start: sequence, highest: 0, open: BTreeSet::new() }
    }

    /// Where a new consumer must begin: the oldest that is open, else after the highest, else the start.
    pub(super) fn resume_at(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.start.max(self.highest + 1))
    }

    /// The highest delivered; 0 before the first.
    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    pub(super) fn delivered(&mut self, sequence: u64) -> Seen {
        if sequence <= self.highest && !self.open.contains(&sequence) {
            return Seen::Settled;
        }
        self.highest = self.highest.max(sequence);
        self.open.insert(sequence);
        Seen::Wanted
    }

    pub(super) fn acknowledged(&mut self, sequence: u64) {
        self.open.remove(&sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_consumer_begins_at_the_oldest_open_message_and_skips_what_is_settled() {
        let mut ledger = Ledger::starting_at(1);
        for sequence in [1, 2, 3] {
            assert_eq!(ledger.delivered(sequence), Seen::Wanted);
        }
        ledger.acknowledged(1);
        ledger.acknowledged(3);
        assert_eq!(ledger.resume_at(), 2);
        assert_eq!(ledger.delivered(2), Seen::Wanted);
        assert_eq!(ledger.delivered(3), Seen::Settled);
        assert_eq!(ledger.delivered(4), Seen::Wanted);
        ledger.acknowledged(2);
        ledger.acknowledged(4);
        assert_eq!(ledger.resume_at(), 5);
    }

    #[test]
    fn a_start_in_the_middle_wants_its_first_message() {
        let mut ledger = Ledger::starting_at(7);
        assert_eq!((ledger.resume_at(), ledger.highest()), (7, 0));
        assert_eq!(ledger.delivered(7), Seen::Wanted);
    }
}
