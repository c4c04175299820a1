//! How many graphs at once: a search over measured batches.
//!
//! From the number the profile vouches for: what fits well below the target is grown by what a graph was seen to
//! take (at most fourfold, for the first measurement holds constant parts as well); what does not fit is halved, or
//! the middle is tried between that and what did.
//! Over when the effective batch fits, when nothing is to be gained, or after some tries.

/// Measurements at most: each is one forward and backward pass.
const TRIES_MAX: u32 = 10;
const GROWTH_MAX: u64 = 4;
/// Less than an eighth more is not worth another pass.
const WORTHWHILE: f64 = 1.125;

/// What came of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    /// Bytes before the batch, and at its worst moment.
    Fits { before: u64, peak: u64 },
    /// Out of memory.
    Refused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// To be tried now.
    at: u32,
    most: u32,
    target: u64,
    /// The largest that stayed below the target.
    held: u32,
    /// The smallest that did not.
    refused: Option<u32>,
    tries: u32,
}

impl Search {
    /// From `start` up to `most` graphs, into `target` bytes.
    #[must_use]
    pub fn new(start: u32, most: u32, target: u64) -> Self {
        let most = most.max(1);
        Self { at: start.clamp(1, most), most, target, held: 0, refused: None, tries: 0 }
    }

    /// The batch to try.
    #[must_use]
    pub fn at(&self) -> u32 {
        self.at
    }

    /// Takes what came of the batch at [`Self::at`]; true if there is another to try.
    pub fn note(&mut self, tried: Tried) -> bool {
        self.tries += 1;
        let at = u64::from(self.at);
        let next = match tried {
            Tried::Fits { before, peak } => {
                let of_one = (peak.saturating_sub(before) / at).max(1);
                let room = self.target.saturating_sub(before) / of_one;
                if peak <= self.target {
                    self.held = self.held.max(self.at);
                    let below = self.refused.map_or(self.most, |refused| refused - 1);
                    room.min(at * GROWTH_MAX).min(u64::from(below))
                } else {
                    self.refuse();
                    room.clamp(1, (at - 1).max(1))
                }
            }
            Tried::Refused => {
                self.refuse();
                let held = u64::from(self.held);
                held + at.saturating_sub(held) / 2
            }
        };
        // Not above `most`, which is a u32.
        self.at = next as u32;
        let gain = f64::from(self.at) >= f64::from(self.held) * WORTHWHILE || self.at == self.most;
        gain && self.at > self.held && Some(self.at) != self.refused && self.tries < TRIES_MAX
    }

    fn refuse(&mut self) {
        self.refused = Some(self.refused.map_or(self.at, |refused| refused.min(self.at)));
    }

    /// The largest batch that fitted; one graph at least, which the first step then finds out about.
    #[must_use]
    pub fn found(&self) -> u32 {
        self.held.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device where graphs take 10 bytes each beside 100, and nothing above `capacity` bytes can be had.
    fn search(start: u32, most: u32, target: u64, capacity: u64) -> (u32, u32) {
        let mut search = Search::new(start, most, target);
        loop {
            let peak = 100 + 10 * u64::from(search.at());
            let tried = if peak > capacity { Tried::Refused } else { Tried::Fits { before: 100, peak } };
            if !search.note(tried) {
                return (search.found(), search.tries);
            }
        }
    }

    #[test]
    fn grows_to_the_target_and_not_beyond_the_effective_batch() {
        assert_eq!(search(8, 1_000, 100 + 10 * 640, u64::MAX).0, 640);
        assert_eq!(search(8, 64, 1 << 30, u64::MAX), (64, 3));
        assert_eq!(search(64, 64, 1 << 30, u64::MAX), (64, 1));
    }

    #[test]
    fn shrinks_below_what_is_refused_or_above_the_target() {
        let (found, _) = search(512, 1_000, 100 + 10 * 100, u64::MAX);
        assert!((89..=100).contains(&found), "{found}");
        // The target is far, but the device refuses: halved until it holds, then the middle above it.
        let (found, _) = search(512, 1_000, 1 << 30, 100 + 10 * 200);
        assert!((178..=200).contains(&found), "{found}");
    }

    #[test]
    fn ends_with_one_graph_where_nothing_fits() {
        assert_eq!(search(1, 64, 1 << 30, 0).0, 1);
        assert_eq!(search(512, 512, 1 << 30, 0).0, 1);
        assert!(search(512, 512, 1 << 30, 0).1 <= TRIES_MAX);
    }
}
