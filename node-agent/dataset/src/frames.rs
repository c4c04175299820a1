//! CAN messages in columns: what every reader gives and every builder takes.

use twox_hash::xxhash3_128::Hasher;

/// A run of messages of one capture, column by column, in file order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Frames {
    /// Seconds, as recorded; not always ascending.
    pub timestamp_s: Vec<f64>,
    /// Arbitration id, 11 or 29 bits.
    pub id: Vec<u32>,
    /// Data bytes, zeros behind the last one.
    pub payload: Vec<[u8; 8]>,
    /// Number of data bytes, 0 to 8.
    pub len: Vec<u8>,
    /// 1 if injected; 0 throughout where the capture carries no labels.
    pub label: Vec<u8>,
    /// False where the form of file has no label column.
    pub has_labels: bool,
}

/// One message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    pub timestamp_s: f64,
    pub id: u32,
    pub payload: [u8; 8],
    pub len: u8,
    pub label: u8,
}

impl Frames {
    /// Number of messages.
    pub fn len(&self) -> usize {
        self.id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    /// Appends one message.
    pub fn push(&mut self, frame: Frame) {
        self.timestamp_s.push(frame.timestamp_s);
        self.id.push(frame.id);
        self.payload.push(frame.payload);
        self.len.push(frame.len);
        self.label.push(frame.label);
    }

    /// The message at `row`; panics if there is none.
    pub fn frame(&self, row: usize) -> Frame {
        Frame {
            timestamp_s: self.timestamp_s[row],
            id: self.id[row],
            payload: self.payload[row],
            len: self.len[row],
            label: self.label[row],
        }
    }

    /// Appends all messages of `other`.
    pub fn append(&mut self, other: &Frames) {
        self.timestamp_s.extend_from_slice(&other.timestamp_s);
        self.id.extend_from_slice(&other.id);
        self.payload.extend_from_slice(&other.payload);
        self.len.extend_from_slice(&other.len);
        self.label.extend_from_slice(&other.label);
        self.has_labels |= other.has_labels;
    }

    /// Removes all messages, keeps the memory.
    pub fn clear(&mut self) {
        self.timestamp_s.clear();
        self.id.clear();
        self.payload.clear();
        self.len.clear();
        self.label.clear();
    }
}

/// Hash of a capture's messages whatever file they stand in. Copies that differ as files only (the parquet form
/// notes its own folder in each row) are told as copies by it; how the messages were cut into chunks is not seen.
pub(crate) struct RowHasher {
    hasher: Hasher,
    block: Vec<u8>,
}

impl RowHasher {
    pub(crate) fn new() -> Self {
        Self { hasher: Hasher::new(), block: Vec::new() }
    }

    pub(crate) fn add(&mut self, frames: &Frames) {
        self.block.clear();
        self.block.reserve(frames.len() * 22);
        for row in 0..frames.len() {
            let mut bytes = [0u8; 22];
            bytes[..8].copy_from_slice(&frames.timestamp_s[row].to_le_bytes());
            bytes[8..12].copy_from_slice(&frames.id[row].to_le_bytes());
            bytes[12..20].copy_from_slice(&frames.payload[row]);
            bytes[20] = frames.len[row];
            bytes[21] = frames.label[row];
            self.block.extend_from_slice(&bytes);
        }
        self.hasher.write(&self.block);
    }

    pub(crate) fn finish(&self) -> u128 {
        self.hasher.finish_128()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_hash_sees_every_column_and_no_chunks() {
        let frame = Frame { timestamp_s: 1.5, id: 9, payload: [1, 2, 0, 0, 0, 0, 0, 0], len: 2, label: 0 };
        let hash = |frames: &[Frame], chunk: usize| {
            let mut hasher = RowHasher::new();
            for part in frames.chunks(chunk) {
                let mut frames = Frames::default();
                part.iter().for_each(|&frame| frames.push(frame));
                hasher.add(&frames);
            }
            hasher.finish()
        };
        let rows = [frame; 7];
        assert_eq!(hash(&rows, 7), hash(&rows, 2));
        let mut seen = vec![hash(&rows, 7), hash(&rows[..6], 7)];
        for change in 0..5 {
            let mut other = rows;
            match change {
                0 => other[3].timestamp_s = 1.6,
                1 => other[3].id = 8,
                2 => other[3].payload[7] = 1,
                3 => other[3].len = 3,
                _ => other[3].label = 1,
            }
            seen.push(hash(&other, 7));
        }
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
