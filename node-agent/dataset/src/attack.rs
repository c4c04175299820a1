//! Kind of attack in a capture, told from its names.

use serde::{Deserialize, Serialize};

/// Kind of attack; the discriminants are the codes of the original's `attack_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum AttackKind {
    Normal = 0,
    Dos = 1,
    Fuzzing = 2,
    Gear = 3,
    Rpm = 4,
    Suppress = 5,
    Masquerade = 6,
    Mixed = 7,
    Unknown = 8,
}

/// First match wins: `rpm-accessory-1` is an rpm attack while driving with accessories on, `accessory-1` a
/// plain drive, so the attacks stand before the words for normal traffic.
const WORDS: &[(&str, AttackKind)] = &[
    ("suppress", AttackKind::Suppress),
    ("masquerade", AttackKind::Masquerade),
    ("dos", AttackKind::Dos),
    ("fuzz", AttackKind::Fuzzing),
    ("gear", AttackKind::Gear),
    ("rpm", AttackKind::Rpm),
    ("mixed", AttackKind::Mixed),
];

impl AttackKind {
    /// Kind from the capture's name, or where that tells nothing from its folder.
    pub fn from_names(folder: &str, name: &str) -> Self {
        let (folder, name) = (folder.to_ascii_lowercase(), name.to_ascii_lowercase());
        if is_attack_free(&folder) {
            return Self::Normal;
        }
        let word = |text: &str| WORDS.iter().find(|(word, _)| text.contains(word)).map(|&(_, kind)| kind);
        if let Some(kind) = word(&name) {
            return kind;
        }
        // `speed-accessory-1` is an attack too: only a name that starts with the word is a plain drive.
        if is_attack_free(&name) || name.starts_with("accessory") || name.starts_with("normal") {
            return Self::Normal;
        }
        word(&folder).unwrap_or(Self::Unknown)
    }

    /// The original's code of this kind, 0 to 8.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// True if a lower-case folder or capture name says that nothing was injected.
pub(crate) fn is_attack_free(name: &str) -> bool {
    ["attack_free", "attack-free", "attackfree"].iter().any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_is_told_from_file_then_folder() {
        let kind = AttackKind::from_names;
        assert_eq!(kind("train_01_attack_free", "accessory-1"), AttackKind::Normal);
        assert_eq!(kind("train_02_with_attacks", "accessory-1"), AttackKind::Normal);
        assert_eq!(kind("train_02_with_attacks", "attack-free-kia"), AttackKind::Normal);
        assert_eq!(kind("train_02_with_attacks", "DoS-kia"), AttackKind::Dos);
        assert_eq!(kind("test_04_unknown_vehicle_unknown_attack", "rpm-accessory-1"), AttackKind::Rpm);
        assert_eq!(kind("test_04_unknown_vehicle_unknown_attack", "speed-accessory-1"), AttackKind::Unknown);
        assert_eq!(kind("test_02_unknown_vehicle_known_attack", "fuzzing-Spark"), AttackKind::Fuzzing);
        assert_eq!(kind("test_03_gear_spoofing", "1"), AttackKind::Gear);
        assert_eq!(kind("test_05_suppress", "suppress-1").code(), 5);
        assert_eq!(kind("test_03_known_vehicle_unknown_attack", "malfunction-kia").code(), 8);
    }
}
