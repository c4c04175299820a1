//! Reading an archive back as tensors.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use tch::Tensor;
use zip::ZipArchive;

use super::PthError;
use super::unpickle::{TensorRef, Value, unpickle};

/// Pickles of state dicts are kilobytes; what is longer is none.
const PICKLE_MAX_BYTES: u64 = 64 << 20;

/// Tensors by section and name; those at the top level of the file are in section "".
pub type Sections = BTreeMap<String, BTreeMap<String, Tensor>>;

type Archive = ZipArchive<BufReader<File>>;

/// Reads a `.pth` written by [`super::write`], or by `torch.save` of a state dict or of a dict of state
/// dicts. Nothing in the file is executed; entries that are no tensors (an epoch, a name) are passed over.
///
/// # Errors
/// `Zip`, `Format` (with what was met), `Io`.
pub fn read(path: &Path) -> Result<Sections, PthError> {
    let format = |why: String| PthError::Format { path: path.into(), why };
    let (mut archive, prefix) = open(path)?;
    if let Ok(order) = entry(&mut archive, &format!("{prefix}byteorder"), 64)
        && order != b"little"
    {
        return Err(format("its numbers are not little-endian".into()));
    }
    let pickle = entry(&mut archive, &format!("{prefix}data.pkl"), PICKLE_MAX_BYTES).map_err(&format)?;
    let Value::Dict(top) = unpickle(&pickle).map_err(&format)? else {
        return Err(format("its top level is no dict".into()));
    };
    let mut sections = Sections::new();
    for (key, value) in top {
        let Value::Str(key) = key else { continue };
        match value {
            Value::Tensor(tensor) => {
                let tensor = load(&mut archive, &prefix, &tensor).map_err(&format)?;
                sections.entry(String::new()).or_default().insert(key.to_string(), tensor);
            }
            Value::Dict(entries) => {
                let mut tensors = BTreeMap::new();
                for (name, value) in entries {
                    if let (Value::Str(name), Value::Tensor(tensor)) = (name, value) {
                        let tensor = load(&mut archive, &prefix, &tensor).map_err(&format)?;
                        tensors.insert(name.to_string(), tensor);
                    }
                }
                sections.insert(key.to_string(), tensors);
            }
            _ => {}
        }
    }
    Ok(sections)
}

/// Bytes of an extra entry of [`super::write_with`]; none if the archive has none of that name.
///
/// # Errors
/// `Zip`, `Format`, `Io`.
pub fn read_extra(path: &Path, name: &str) -> Result<Option<Vec<u8>>, PthError> {
    let (mut archive, prefix) = open(path)?;
    let name = format!("{prefix}{name}");
    if !archive.file_names().any(|there| there == name) {
        return Ok(None);
    }
    let bytes = entry(&mut archive, &name, PICKLE_MAX_BYTES);
    bytes.map(Some).map_err(|why| PthError::Format { path: path.into(), why })
}

/// The archive and the folder its entries lie in.
fn open(path: &Path) -> Result<(Archive, String), PthError> {
    let file = File::open(path).map_err(|source| PthError::Io { path: path.into(), source })?;
    let archive = ZipArchive::new(BufReader::new(file))
        .map_err(|source| PthError::Zip { path: path.into(), source })?;
    let prefix = archive.file_names().find_map(|name| name.strip_suffix("data.pkl")).map(str::to_owned);
    match prefix.filter(|prefix| prefix.ends_with('/')) {
        Some(prefix) => Ok((archive, prefix)),
        None => Err(PthError::Format { path: path.into(), why: "it holds no data.pkl".into() }),
    }
}

fn entry(archive: &mut Archive, name: &str, max_bytes: u64) -> Result<Vec<u8>, String> {
    let entry = archive.by_name(name).map_err(|e| format!("entry {name}: {e}"))?;
    if entry.size() > max_bytes {
        return Err(format!("entry {name} claims {} bytes, at most {max_bytes} are plausible", entry.size()));
    }
    let mut bytes = Vec::new();
    entry.take(max_bytes).read_to_end(&mut bytes).map_err(|e| format!("entry {name}: {e}"))?;
    Ok(bytes)
}

fn load(archive: &mut Archive, prefix: &str, tensor: &TensorRef) -> Result<Tensor, String> {
    let name = format!("{prefix}data/{}", tensor.key);
    let element_bytes = tensor.kind.elt_size_in_bytes();
    let numel = usize::try_from(tensor.storage_numel).map_err(|_| "a negative storage size".to_string())?;
    let wanted = numel.checked_mul(element_bytes).ok_or("a storage size beyond any machine")?;
    let bytes = entry(archive, &name, wanted as u64)?;
    if bytes.len() != wanted {
        return Err(format!("entry {name} has {} bytes, the pickle says {wanted}", bytes.len()));
    }
    check_view(tensor)?;
    let flat =
        Tensor::f_from_data_size(&bytes, &[tensor.storage_numel], tensor.kind).map_err(|e| e.to_string())?;
    let view = flat
        .f_as_strided(tensor.size.as_slice(), tensor.stride.as_slice(), tensor.offset)
        .map_err(|e| e.to_string())?;
    Ok(view.contiguous())
}

/// The view must stay inside its storage, whatever the file claims.
fn check_view(tensor: &TensorRef) -> Result<(), String> {
    let bad = || format!("a view {:?}/{:?} outside its storage", tensor.size, tensor.stride);
    if tensor.size.len() != tensor.stride.len() || tensor.offset < 0 {
        return Err(bad());
    }
    if tensor.size.contains(&0) {
        return Ok(());
    }
    let mut last = tensor.offset;
    for (&size, &stride) in tensor.size.iter().zip(&tensor.stride) {
        if size < 0 || stride < 0 {
            return Err(bad());
        }
        last = (size - 1).checked_mul(stride).and_then(|span| last.checked_add(span)).ok_or_else(bad)?;
    }
    if last < tensor.storage_numel { Ok(()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests;
