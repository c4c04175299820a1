//! What a kind of GPU can carry (`conf/gpu_profiles.yaml`), and which profile a card gets.

use super::tuning::precision_or_bool;
use crate::trainer_protocol::Precision;
use crate::units::Mib;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Profile of the CPU; it always exists.
pub const CPU_PROFILE: &str = "cpu";

/// Ceilings and habits of one class of card. All of it is tuning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuProfile {
    /// Words of the card's NVML name, any of which is enough (`A100`, `RTX 3090`); none = any card.
    pub name_contains: Vec<String>,
    /// Least total memory of the card.
    pub min_mib: Mib,
    /// Most graphs on the card at once.
    pub micro_batch: u32,
    /// Threads that prepare data, at most the cores of the machine.
    pub workers: u32,
    /// What `mixed_precision: true` means on this card.
    #[serde(deserialize_with = "precision_or_bool")]
    pub mixed_precision: Precision,
    /// Replay transitions and cached states kept on the card; what is beyond waits in host memory.
    pub buffer_size: u32,
    /// Most jobs on one card at once.
    pub max_per_gpu: u32,
    /// Share of the card's memory that may be reserved.
    pub cap_fraction: f64,
}

impl Default for GpuProfile {
    fn default() -> Self {
        GpuProfile {
            name_contains: Vec::new(),
            min_mib: Mib(0),
            micro_batch: 1024,
            workers: 8,
            mixed_precision: Precision::Auto,
            buffer_size: 100_000,
            max_per_gpu: 1,
            cap_fraction: 0.9,
        }
    }
}

impl GpuProfile {
    /// [`GpuProfile::cap_fraction`] in thousandths, rounded down: a ledger counts in integers.
    pub fn cap_permille(&self) -> u32 {
        // Validation keeps the fraction in (0, 1]; the epsilon undoes binary rounding of 0.9 and the like.
        (self.cap_fraction * 1000.0 + 1e-6).floor() as u32
    }

    /// Length of the longest of its names that the card's name contains; 0 = for any card.
    fn likeness(&self, card: &str, total_mib: Mib) -> Option<usize> {
        if total_mib < self.min_mib {
            return None;
        }
        if self.name_contains.is_empty() {
            return Some(0);
        }
        self.name_contains.iter().filter(|word| contains_words(card, word)).map(String::len).max()
    }
}

/// The profiles by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GpuProfiles(pub BTreeMap<String, GpuProfile>);

impl GpuProfiles {
    /// The profile for a card, with its name: the longest matching name wins, then the largest
    /// `min_mib` the card reaches, then the first name in the alphabet. A card that matches
    /// nothing gets the CPU's profile, which is the most careful one.
    pub fn profile_for(&self, card: &str, total_mib: Mib) -> (&str, &GpuProfile) {
        let fits = self.0.iter().filter(|(name, _)| name.as_str() != CPU_PROFILE);
        let ranked = fits.filter_map(|(name, p)| p.likeness(card, total_mib).map(|len| (len, name, p)));
        // `min_by_key` keeps the first of equals, and the map is in the order of names.
        let best = ranked.min_by_key(|(len, _, p)| (usize::MAX - len, u64::MAX - p.min_mib.0));
        best.map_or_else(|| self.cpu(), |(_, name, p)| (name.as_str(), p))
    }

    /// The profile of the CPU.
    pub fn cpu(&self) -> (&str, &GpuProfile) {
        let profile = self.0.get(CPU_PROFILE);
        // The built-in file has it and a later layer can only change it, never take it away.
        (CPU_PROFILE, profile.expect("the built-in gpu_profiles.yaml has a cpu profile"))
    }
}

/// Whether `card` contains `words` as whole words, in any case: `L4` is in `NVIDIA L4`, not in `NVIDIA L40S`.
fn contains_words(card: &str, words: &str) -> bool {
    let (card, words) = (card.to_lowercase(), words.to_lowercase());
    let edge = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
    card.match_indices(&words).any(|(at, found)| {
        edge(card[..at].chars().next_back()) && edge(card[at + found.len()..].chars().next())
    })
}
