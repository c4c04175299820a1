//! torch's zip container: whole at its final name, or not there at all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tch::{Device, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::PthError;
use super::kind::storage_name;
use super::pickle::push_tensor;

/// Torch aligns storages so that they can be mapped into memory.
const STORAGE_ALIGNMENT_BYTES: u16 = 64;

/// Raw bytes of tensors, numbered in the order in which a pickle speaks of them.
#[derive(Debug, Default)]
pub struct Storages(Vec<Vec<u8>>);

impl Storages {
    /// Keeps a tensor's bytes and writes its description into `pickle`.
    ///
    /// # Errors
    /// `Kind` for an element type without storage class.
    pub fn push(&mut self, pickle: &mut Vec<u8>, name: &str, tensor: &Tensor) -> Result<(), PthError> {
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let kind = tensor.f_kind()?;
        let storage = storage_name(kind).ok_or_else(|| PthError::Kind { name: name.to_owned(), kind })?;
        push_tensor(pickle, storage, self.0.len(), &tensor.size());
        let mut bytes = vec![0u8; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        self.0.push(bytes);
        Ok(())
    }
}

/// Writes the texts and pickles `entries` (names below the archive's folder) and the storages to `path`:
/// temporary file, synced, renamed. The same content gives the same bytes.
///
/// # Errors
/// `Io`/`Zip` when the disk refuses; what was there before stays.
pub fn write_archive(path: &Path, entries: &[(&str, &[u8])], storages: &Storages) -> Result<(), PthError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let written = fill(&temporary, entries, storages).and_then(|()| {
        std::fs::rename(&temporary, path).map_err(|source| PthError::Io { path: path.into(), source })
    });
    if written.is_err() {
        // Best effort: the first error is the one to tell.
        let _ = std::fs::remove_file(&temporary);
        return written;
    }
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(|source| PthError::Io { path: parent.into(), source })
}

fn fill(path: &Path, entries: &[(&str, &[u8])], storages: &Storages) -> Result<(), PthError> {
    let io = |source| PthError::Io { path: path.into(), source };
    let zip_error = |source| PthError::Zip { path: path.into(), source };
    let file = File::create(path).map_err(io)?;
    let mut archive = ZipWriter::new(BufWriter::new(file));
    // A fixed date keeps equal weights equal in bytes.
    let plain = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    let aligned = plain.with_alignment(STORAGE_ALIGNMENT_BYTES);
    let tail: [(&str, &[u8]); 2] = [("byteorder", b"little"), ("version", b"3\n")];
    for (name, bytes) in entries.iter().chain(&tail) {
        archive.start_file(format!("archive/{name}"), plain).map_err(zip_error)?;
        archive.write_all(bytes).map_err(io)?;
    }
    for (key, bytes) in storages.0.iter().enumerate() {
        let options = aligned.large_file(bytes.len() > u32::MAX as usize);
        archive.start_file(format!("archive/data/{key}"), options).map_err(zip_error)?;
        archive.write_all(bytes).map_err(io)?;
    }
    let buffered = archive.finish().map_err(zip_error)?;
    let file = buffered.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_all().map_err(io)
}
