//! The ids a model knows: sorted ids of the training captures, and one slot for all others.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Which training rows give the vocabulary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VocabularyScope {
    /// Ids of all rows of the training captures, injected ones included (as the original does).
    #[default]
    AllTrain,
    /// Ids of rows labelled 0 only, so that a fuzzed id does not get an embedding of its own.
    BenignTrain,
}

/// Sorted arbitration ids; index `ids.len()` is the slot of every id outside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "VocabularyFile", into = "VocabularyFile")]
pub struct Vocabulary {
    ids: Vec<u32>,
    /// Index of each standard (11-bit) id: almost all traffic, so worth a direct table.
    standard: Box<[u32]>,
    extended: HashMap<u32, u32>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VocabularyFile {
    num_ids: u32,
    ids: Vec<u32>,
}

/// Number of 11-bit ids.
pub(crate) const STANDARD_IDS: usize = 2048;

impl Vocabulary {
    /// Vocabulary of the given arbitration ids, in any order, repeats allowed.
    pub fn new(ids: impl IntoIterator<Item = u32>) -> Self {
        let mut ids: Vec<u32> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let oov = ids.len() as u32;
        let mut standard = vec![oov; STANDARD_IDS].into_boxed_slice();
        let mut extended = HashMap::new();
        for (index, &id) in (0u32..).zip(&ids) {
            match standard.get_mut(id as usize) {
                Some(slot) => *slot = index,
                None => {
                    extended.insert(id, index);
                }
            }
        }
        Self { ids, standard, extended }
    }

    /// Embedding rows a model needs: known ids + the out-of-vocabulary slot.
    pub fn num_ids(&self) -> u32 {
        self.ids.len() as u32 + 1
    }

    /// Index of the slot shared by all unknown ids (the last one).
    pub fn oov_index(&self) -> u32 {
        self.ids.len() as u32
    }

    /// Index of an arbitration id, [`Self::oov_index`] if unknown.
    pub fn index_of(&self, id: u32) -> u32 {
        match self.standard.get(id as usize) {
            Some(&index) => index,
            None => self.extended.get(&id).copied().unwrap_or(self.oov_index()),
        }
    }

    /// The known arbitration ids, ascending.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }
}

impl From<VocabularyFile> for Vocabulary {
    fn from(file: VocabularyFile) -> Self {
        Self::new(file.ids)
    }
}

impl From<Vocabulary> for VocabularyFile {
    fn from(vocabulary: Vocabulary) -> Self {
        Self { num_ids: vocabulary.num_ids(), ids: vocabulary.ids }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_ids_share_the_last_index() {
        let vocabulary = Vocabulary::new([0x7ff, 0x10, 0x10, 0x18db_33f1]);
        assert_eq!(vocabulary.num_ids(), 4);
        assert_eq!(vocabulary.index_of(0x10), 0);
        assert_eq!(vocabulary.index_of(0x7ff), 1);
        assert_eq!(vocabulary.index_of(0x18db_33f1), 2);
        assert_eq!(vocabulary.index_of(0x11), 3);
        assert_eq!(vocabulary.index_of(0x1000_0000), 3);
        assert_eq!(vocabulary.oov_index(), 3);
    }

    #[test]
    fn json_keeps_the_order() {
        let vocabulary = Vocabulary::new([5, 3, 9]);
        let text = serde_json::to_string(&vocabulary).unwrap();
        assert_eq!(text, r#"{"num_ids":4,"ids":[3,5,9]}"#);
        assert_eq!(serde_json::from_str::<Vocabulary>(&text).unwrap(), vocabulary);
    }

    #[test]
    fn empty_vocabulary_has_the_unknown_slot() {
        let vocabulary = Vocabulary::new([]);
        assert_eq!((vocabulary.num_ids(), vocabulary.index_of(1)), (1, 0));
    }
}
