//! Where windows begin and end in a capture.

use serde::{Deserialize, Serialize};

use crate::error::{DataError, Result};
use crate::profile::ProfileConfig;

/// Rows the original reads at a time.
pub const ORIGINAL_CHUNK_ROWS: u64 = 5_000;

/// Which messages have a successor, and so become transitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChunkRule {
    /// All but the capture's last one. The default: nothing is lost for a reason that lies in a reader.
    #[default]
    Whole,
    /// The original's: within runs of 5,000 rows the last one has none and is dropped. Gives the published window
    /// counts.
    Original,
}

/// What a graph's nodes say of the ids they stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeEncoding {
    /// The original's: index in the vocabulary of training ids, mean data bytes, count, last position.
    #[default]
    Ids,
    /// Role and differences to what the vehicle itself did before, see [`crate::profile`].
    Profile(ProfileConfig),
}

/// Features of edges.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeFeatures {
    /// None: the default convolution has no use for them.
    #[default]
    None,
    /// The eleven of the original.
    Full,
}

/// How captures become windows. Semantic: a change makes other graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WindowConfig {
    /// Messages (transitions) a window.
    pub window: u32,
    /// Messages from one window's start to the next one's.
    pub stride: u32,
    pub chunk_rule: ChunkRule,
    pub edge_features: EdgeFeatures,
    pub nodes: NodeEncoding,
}

impl Default for WindowConfig {
    fn default() -> Self {
        Self {
            window: 100,
            stride: 100,
            chunk_rule: ChunkRule::default(),
            edge_features: EdgeFeatures::default(),
            nodes: NodeEncoding::default(),
        }
    }
}

impl WindowConfig {
    /// Local node numbers are u16, and a window has at most one node more than messages.
    pub const MAX_WINDOW: u32 = 65_000;

    /// Refuses windows and strides that make no sense.
    pub fn validate(&self) -> Result<()> {
        let bad =
            |key, value: u32, expected| DataError::BadSetting { key, value: value.to_string(), expected };
        if !(2..=Self::MAX_WINDOW).contains(&self.window) {
            return Err(bad("window", self.window, "2 to 65000 messages"));
        }
        if self.stride == 0 || self.stride > 1 << 30 {
            return Err(bad("stride", self.stride, "1 to 2^30 messages"));
        }
        Ok(())
    }

    /// How many windows before a window have messages in common with it.
    pub fn windows_sharing_messages(&self) -> u32 {
        self.window.div_ceil(self.stride.max(1)).saturating_sub(1)
    }

    /// True if row `row` (from 0) has no successor though others follow it, and so is no transition.
    pub fn loses(&self, row: u64) -> bool {
        self.chunk_rule == ChunkRule::Original && row % ORIGINAL_CHUNK_ROWS == ORIGINAL_CHUNK_ROWS - 1
    }

    /// Transitions that a capture of `rows` messages gives.
    pub fn transitions(&self, rows: u64) -> u64 {
        match self.chunk_rule {
            ChunkRule::Whole => rows.saturating_sub(1),
            ChunkRule::Original => rows - rows.div_ceil(ORIGINAL_CHUNK_ROWS),
        }
    }

    /// Windows of a capture of `rows` messages: the tail is dropped, but a short capture still gives one window
    /// as long as it has a transition.
    pub fn windows(&self, rows: u64) -> u64 {
        let (transitions, window) = (self.transitions(rows), u64::from(self.window));
        match transitions {
            0 => 0,
            n if n < window => 1,
            n => (n - window) / u64::from(self.stride) + 1,
        }
    }

    /// True if the message at `row` (from 0) cannot follow the one before it, by the chunk rule.
    pub(crate) fn breaks_before(&self, row: u64) -> bool {
        self.chunk_rule == ChunkRule::Original && row.is_multiple_of(ORIGINAL_CHUNK_ROWS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_counts_follow_from_the_rows() {
        let config = WindowConfig { chunk_rule: ChunkRule::Original, ..WindowConfig::default() };
        let windows = |rows: &[u64]| rows.iter().map(|&rows| config.windows(rows)).sum::<u64>();
        assert_eq!(windows(&[192_516, 117_173, 192_516, 117_173, 181_901, 135_670]), 9_364);
        assert_eq!(windows(&[149_547, 249_990]), 3_994);
        assert_eq!(windows(&[120_570, 65_665]), 1_861);
        assert_eq!(windows(&[173_436, 132_651]), 3_060);
        assert_eq!(windows(&[79_787]), 797);
    }

    #[test]
    fn short_captures_and_overlap() {
        let config = WindowConfig { window: 10, stride: 3, ..WindowConfig::default() };
        assert_eq!([0, 1, 2, 10, 11, 13, 14].map(|rows| config.windows(rows)), [0, 0, 1, 1, 1, 1, 2]);
        let original = WindowConfig { chunk_rule: ChunkRule::Original, ..config };
        assert_eq!(original.transitions(5_001), 4_999);
        assert!(
            original.breaks_before(5_000) && !original.breaks_before(4_999) && !config.breaks_before(5_000)
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for (window, stride) in [(1, 1), (65_001, 1), (100, 0)] {
            assert!(WindowConfig { window, stride, ..WindowConfig::default() }.validate().is_err());
        }
        assert!(serde_json::from_str::<WindowConfig>(r#"{"windw": 3}"#).is_err());
        assert_eq!(serde_json::from_str::<WindowConfig>("{}").unwrap(), WindowConfig::default());
    }
}
