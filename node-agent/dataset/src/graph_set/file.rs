//! One file per set: magic, version, header length, JSON header, the arrays in little endian, xxh3-128 of all
//! that stands before it. A damaged or foreign file is told, never half used.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;
use twox_hash::xxhash3_128::Hasher;

use super::{CaptureInfo, EDGE_FEATURES, GraphSet, NODE_FEATURES};
use crate::atomic::write_atomically;
use crate::error::{DataError, Result};

const MAGIC: &[u8; 4] = b"CGRS";
const VERSION: u32 = 1;
/// Magic, version, header length.
const PREFIX_BYTES: usize = 12;
const DIGEST_BYTES: usize = 16;

#[derive(Serialize, Deserialize)]
struct Header {
    graphs: u64,
    nodes: u64,
    edges: u64,
    edge_features: bool,
    captures: Vec<CaptureInfo>,
}

/// Numbers the arrays are made of.
trait Number: Copy {
    const BYTES: usize;
    fn put(self, out: &mut Vec<u8>);
    fn get(bytes: &[u8]) -> Self;
}

macro_rules! number {
    ($($kind:ty),*) => {$(
        impl Number for $kind {
            const BYTES: usize = size_of::<$kind>();
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn get(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$kind>()];
                array.copy_from_slice(bytes);
                Self::from_le_bytes(array)
            }
        }
    )*};
}
number!(u8, u16, u32, f32, f64);

/// Writes and hashes in one go.
struct HashingWriter<'a, W: Write> {
    out: &'a mut W,
    hasher: Hasher,
    block: Vec<u8>,
}

impl<W: Write> HashingWriter<'_, W> {
    fn bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.write(bytes);
        self.out.write_all(bytes)
    }

    fn array<T: Number>(&mut self, values: &[T]) -> std::io::Result<()> {
        for chunk in values.chunks(16 * 1024) {
            let mut block = std::mem::take(&mut self.block);
            block.clear();
            chunk.iter().for_each(|value| value.put(&mut block));
            self.bytes(&block)?;
            self.block = block;
        }
        Ok(())
    }
}

/// Takes arrays off the front of the file's bytes.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl Cursor<'_> {
    fn array<T: Number>(&mut self, length: u64) -> Result<Vec<T>, String> {
        let bytes = usize::try_from(length)
            .ok()
            .and_then(|length| length.checked_mul(T::BYTES))
            .filter(|&bytes| bytes <= self.rest.len())
            .ok_or_else(|| format!("its header promises {length} more values than it holds"))?;
        let (front, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        Ok(front.chunks_exact(T::BYTES).map(T::get).collect())
    }
}

impl GraphSet {
    /// Writes the set to one file: temporary file, fsync, rename.
    pub fn save(&self, path: &Path) -> Result<()> {
        let header = Header {
            graphs: self.len() as u64,
            nodes: self.node_id.len() as u64,
            edges: self.edge_src.len() as u64,
            edge_features: self.edge_attr.is_some(),
            captures: self.captures.clone(),
        };
        let header = serde_json::to_vec(&header)
            .map_err(|e| DataError::BrokenGraphs { path: path.into(), reason: e.to_string() })?;
        write_atomically(path, |out| {
            let mut w = HashingWriter { out, hasher: Hasher::new(), block: Vec::new() };
            w.bytes(MAGIC)?;
            w.bytes(&VERSION.to_le_bytes())?;
            w.bytes(&(header.len() as u32).to_le_bytes())?;
            w.bytes(&header)?;
            w.array(&self.node_offsets)?;
            w.array(&self.edge_offsets)?;
            w.array(&self.node_id)?;
            w.array(&self.x)?;
            w.array(&self.edge_src)?;
            w.array(&self.edge_dst)?;
            w.array(self.edge_attr.as_deref().unwrap_or_default())?;
            w.array(&self.label)?;
            w.array(&self.capture)?;
            w.array(&self.start_s)?;
            let digest = w.hasher.finish_128().to_le_bytes();
            w.out.write_all(&digest)
        })
    }

    /// Reads a set written by [`Self::save`]; refuses a file that is cut, changed or of another version.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|e| DataError::io("read", path, e))?;
        parse(&bytes).map_err(|reason| DataError::BrokenGraphs { path: path.into(), reason })
    }
}

fn parse(bytes: &[u8]) -> Result<GraphSet, String> {
    if bytes.len() < PREFIX_BYTES + DIGEST_BYTES || &bytes[..4] != MAGIC {
        return Err("it does not begin as such a file does".into());
    }
    let version = u32::get(&bytes[4..8]);
    if version != VERSION {
        return Err(format!("version {version}, this program reads {VERSION}"));
    }
    let (body, digest) = bytes.split_at(bytes.len() - DIGEST_BYTES);
    if XxHash3_128::oneshot(body).to_le_bytes() != digest {
        return Err("its bytes do not fit its digest: it was cut or changed".into());
    }
    let header_bytes = u32::get(&bytes[8..12]) as usize;
    let header = body.get(PREFIX_BYTES..PREFIX_BYTES + header_bytes).ok_or("its header is cut")?;
    let rest = &body[PREFIX_BYTES + header_bytes..];
    let header: Header = serde_json::from_slice(header).map_err(|e| e.to_string())?;
    let mut cursor = Cursor { rest };
    let set = GraphSet {
        node_offsets: cursor.array(header.graphs + 1)?,
        edge_offsets: cursor.array(header.graphs + 1)?,
        node_id: cursor.array(header.nodes)?,
        x: cursor.array(header.nodes * NODE_FEATURES as u64)?,
        edge_src: cursor.array(header.edges)?,
        edge_dst: cursor.array(header.edges)?,
        edge_attr: match header.edge_features {
            true => Some(cursor.array(header.edges * EDGE_FEATURES as u64)?),
            false => None,
        },
        label: cursor.array(header.graphs)?,
        capture: cursor.array(header.graphs)?,
        start_s: cursor.array(header.graphs)?,
        captures: header.captures,
    };
    match cursor.rest.len() {
        0 => Ok(set),
        left => Err(format!("{left} bytes more than its header promises")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph_set::tests::chain_graphs;

    #[test]
    fn saved_set_comes_back_equal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/a.graphs");
        let set = chain_graphs(20, 3);
        set.save(&path).unwrap();
        assert_eq!(GraphSet::load(&path).unwrap(), set);
        let mut with_edges = GraphSet::empty(true);
        with_edges.captures = set.captures.clone();
        with_edges.save(&path).unwrap();
        assert_eq!(GraphSet::load(&path).unwrap(), with_edges);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file was left");
    }

    #[test]
    fn damage_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.graphs");
        chain_graphs(5, 3).save(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        let mut newer = whole.clone();
        newer[4] = 9;
        let cases: [(&[u8], &str); 5] = [
            (&whole[..whole.len() - 3], "cut or changed"),
            (&flipped, "cut or changed"),
            (&newer, "version 9"),
            (b"not a graph file at all, but long enough", "does not begin"),
            (b"", "does not begin"),
        ];
        for (bytes, expected) in cases {
            fs::write(&path, bytes).unwrap();
            let error = GraphSet::load(&path).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("a.graphs"), "{error}");
        }
    }
}
