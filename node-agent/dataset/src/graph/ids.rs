//! Dense numbers for the ids of one capture.

use std::collections::HashMap;

use crate::vocabulary::{STANDARD_IDS, Vocabulary};

const NONE: u32 = u32::MAX;

/// Gives each id of a capture a small number in order of appearance, and each number the key its node gets:
/// the vocabulary index, or the arbitration id itself as long as there is no vocabulary. Keys ascend with the ids
/// either way, so graphs made without a vocabulary stay sorted when one replaces the keys later.
pub(crate) struct IdSpace {
    vocabulary: Option<Vocabulary>,
    standard: Box<[u32]>,
    extended: HashMap<u32, u32>,
    /// Number of the out-of-vocabulary slot, once some id fell into it: all such ids are one node.
    unknown: u32,
    keys: Vec<u32>,
}

impl IdSpace {
    /// Keys are arbitration ids.
    pub(crate) fn raw() -> Self {
        Self::new(None)
    }

    /// Keys are indices of `vocabulary`.
    pub(crate) fn of(vocabulary: &Vocabulary) -> Self {
        Self::new(Some(vocabulary.clone()))
    }

    fn new(vocabulary: Option<Vocabulary>) -> Self {
        let standard = vec![NONE; STANDARD_IDS].into_boxed_slice();
        Self { vocabulary, standard, extended: HashMap::new(), unknown: NONE, keys: Vec::new() }
    }

    /// Number of an arbitration id.
    #[inline]
    pub(crate) fn dense(&mut self, id: u32) -> u32 {
        match self.standard.get(id as usize) {
            Some(&dense) if dense != NONE => dense,
            Some(_) => {
                let dense = self.add(id);
                self.standard[id as usize] = dense;
                dense
            }
            None => match self.extended.get(&id) {
                Some(&dense) => dense,
                None => {
                    let dense = self.add(id);
                    self.extended.insert(id, dense);
                    dense
                }
            },
        }
    }

    fn add(&mut self, id: u32) -> u32 {
        let (key, is_unknown) = match &self.vocabulary {
            None => (id, false),
            Some(vocabulary) => {
                let index = vocabulary.index_of(id);
                (index, index == vocabulary.oov_index())
            }
        };
        if is_unknown && self.unknown != NONE {
            return self.unknown;
        }
        let dense = self.keys.len() as u32;
        self.keys.push(key);
        if is_unknown {
            self.unknown = dense;
        }
        dense
    }

    /// Key of a number.
    pub(crate) fn key(&self, dense: u32) -> u32 {
        self.keys[dense as usize]
    }

    /// Key of each number.
    pub(crate) fn keys(&self) -> &[u32] {
        &self.keys
    }
}
