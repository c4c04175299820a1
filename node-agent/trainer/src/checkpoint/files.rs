//! One snapshot as two files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Device, TchError, Tensor};

use super::CheckpointError;

const TENSORS_FILE: &str = "state.safetensors";
const HEADER_FILE: &str = "state.json";
/// Raised when an older trainer could misread what a newer one wrote.
const FORMAT_VERSION: u32 = 1;

/// What a fit wants kept: its own header (epoch, early stopping, RNG, ...) and tensors by unique name.
pub struct Snapshot<H> {
    pub header: H,
    pub tensors: Vec<(String, Tensor)>,
}

/// A snapshot read back; tensors lie on the CPU.
#[derive(Debug)]
pub struct Loaded<H> {
    pub header: H,
    pub tensors: BTreeMap<String, Tensor>,
}

#[derive(Serialize, Deserialize)]
struct Envelope<H> {
    format_version: u32,
    tensors_bytes: u64,
    tensors_sha256: String,
    header: H,
}

/// Writes both files into the existing folder `dir` and syncs them and the folder.
pub(super) fn write<H: Serialize>(dir: &Path, snapshot: &Snapshot<H>) -> Result<(), CheckpointError> {
    let tensors_path = dir.join(TENSORS_FILE);
    let on_cpu = snapshot
        .tensors
        .iter()
        .map(|(name, tensor)| {
            Ok((name.as_str(), tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?))
        })
        .collect::<Result<Vec<_>, TchError>>()
        .map_err(|source| CheckpointError::Tensors { dir: dir.into(), source })?;
    Tensor::write_safetensors(&on_cpu, &tensors_path)
        .map_err(|source| CheckpointError::Tensors { dir: dir.into(), source })?;
    sync(&tensors_path)?;
    let (tensors_bytes, tensors_sha256) = size_and_sha256(&tensors_path)?;
    let envelope =
        Envelope { format_version: FORMAT_VERSION, tensors_bytes, tensors_sha256, header: &snapshot.header };
    let text = serde_json::to_vec_pretty(&envelope)
        .map_err(|source| CheckpointError::Header { dir: dir.into(), source })?;
    let header_path = dir.join(HEADER_FILE);
    let mut file = File::create(&header_path).map_err(CheckpointError::io(&header_path))?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(CheckpointError::io(&header_path))?;
    sync(dir)
}

/// Reads and checks the snapshot in `dir`.
///
/// # Errors
/// `Torn` when a file is missing, short, or not the one the header speaks of; `Header` when the header is
/// of another shape than `H`.
pub fn load<H: DeserializeOwned>(dir: &Path) -> Result<Loaded<H>, CheckpointError> {
    let torn = |why: String| CheckpointError::Torn { dir: dir.into(), why };
    let header_path = dir.join(HEADER_FILE);
    let text = match std::fs::read(&header_path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(torn(format!("{HEADER_FILE} is missing")));
        }
        Err(e) => return Err(CheckpointError::io(&header_path)(e)),
    };
    let envelope: Envelope<H> = serde_json::from_slice(&text)
        .map_err(|source| CheckpointError::Header { dir: dir.into(), source })?;
    if envelope.format_version != FORMAT_VERSION {
        return Err(torn(format!(
            "format version {} where this trainer reads {FORMAT_VERSION}",
            envelope.format_version
        )));
    }
    let tensors_path = dir.join(TENSORS_FILE);
    if !tensors_path.is_file() {
        return Err(torn(format!("{TENSORS_FILE} is missing")));
    }
    let (bytes, sha256) = size_and_sha256(&tensors_path)?;
    if bytes != envelope.tensors_bytes {
        let expected = envelope.tensors_bytes;
        return Err(torn(format!("{TENSORS_FILE} has {bytes} bytes, the header says {expected}")));
    }
    if sha256 != envelope.tensors_sha256 {
        return Err(torn(format!("the digest of {TENSORS_FILE} is not the header's")));
    }
    let tensors = Tensor::read_safetensors(&tensors_path)
        .map_err(|source| CheckpointError::Tensors { dir: dir.into(), source })?;
    Ok(Loaded { header: envelope.header, tensors: tensors.into_iter().collect() })
}

/// Forces a file's bytes, or a folder's entries, to the disk.
pub(super) fn sync(path: &Path) -> Result<(), CheckpointError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(CheckpointError::io(path))
}

fn size_and_sha256(path: &Path) -> Result<(u64, String), CheckpointError> {
    let mut file = File::open(path).map_err(CheckpointError::io(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    let mut bytes = 0u64;
    loop {
        let read = file.read(&mut buffer).map_err(CheckpointError::io(path))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
    let hex = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((bytes, hex))
}
