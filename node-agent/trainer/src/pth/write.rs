//! Writing the archive and its pickle.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use tch::{Device, Tensor};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::PthError;
use super::kind::storage_name;

/// Torch aligns storages so that they can be mapped into memory.
const STORAGE_ALIGNMENT_BYTES: u16 = 64;

/// Opcodes of pickle protocol 2 used here.
mod op {
    pub const PROTO: u8 = 0x80;
    pub const EMPTY_DICT: u8 = b'}';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const MARK: u8 = b'(';
    pub const TUPLE: u8 = b't';
    pub const SETITEMS: u8 = b'u';
    pub const BINUNICODE: u8 = b'X';
    pub const GLOBAL: u8 = b'c';
    pub const REDUCE: u8 = b'R';
    pub const BINPERSID: u8 = b'Q';
    pub const NEWFALSE: u8 = 0x89;
    pub const BININT: u8 = b'J';
    pub const BININT1: u8 = b'K';
    pub const LONG1: u8 = 0x8a;
    pub const STOP: u8 = b'.';
}

/// Writes `{section: {name: tensor}}` to `path` (temporary file, synced, renamed). Same tensors in the
/// same order give the same bytes.
///
/// # Errors
/// `Kind` for an element type without storage class, `Io`/`Zip` when the disk refuses.
pub fn write(path: &Path, sections: &[(&str, Vec<(String, Tensor)>)]) -> Result<(), PthError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let written = write_archive(&temporary, sections).and_then(|()| {
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

fn write_archive(path: &Path, sections: &[(&str, Vec<(String, Tensor)>)]) -> Result<(), PthError> {
    let io = |source| PthError::Io { path: path.into(), source };
    let zip_error = |source| PthError::Zip { path: path.into(), source };
    let mut pickle = vec![op::PROTO, 2, op::EMPTY_DICT, op::MARK];
    let mut storages: Vec<Vec<u8>> = Vec::new();
    for (section, tensors) in sections {
        push_str(&mut pickle, section);
        pickle.extend([op::EMPTY_DICT, op::MARK]);
        for (name, tensor) in tensors {
            let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
            let kind = tensor.f_kind()?;
            let storage = storage_name(kind).ok_or_else(|| PthError::Kind { name: name.clone(), kind })?;
            push_str(&mut pickle, name);
            push_tensor(&mut pickle, storage, storages.len(), &tensor.size());
            let mut bytes = vec![0u8; tensor.numel() * kind.elt_size_in_bytes()];
            tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
            storages.push(bytes);
        }
        pickle.push(op::SETITEMS);
    }
    pickle.extend([op::SETITEMS, op::STOP]);

    let file = File::create(path).map_err(io)?;
    let mut archive = ZipWriter::new(BufWriter::new(file));
    // A fixed date keeps equal weights equal in bytes.
    let plain = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    let aligned = plain.with_alignment(STORAGE_ALIGNMENT_BYTES);
    archive.start_file("archive/data.pkl", plain).map_err(zip_error)?;
    archive.write_all(&pickle).map_err(io)?;
    archive.start_file("archive/byteorder", plain).map_err(zip_error)?;
    archive.write_all(b"little").map_err(io)?;
    for (key, bytes) in storages.iter().enumerate() {
        let options = aligned.large_file(bytes.len() > u32::MAX as usize);
        archive.start_file(format!("archive/data/{key}"), options).map_err(zip_error)?;
        archive.write_all(bytes).map_err(io)?;
    }
    archive.start_file("archive/version", plain).map_err(zip_error)?;
    archive.write_all(b"3\n").map_err(io)?;
    let buffered = archive.finish().map_err(zip_error)?;
    let file = buffered.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_all().map_err(io)
}

/// `_rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())`.
fn push_tensor(out: &mut Vec<u8>, storage: &str, key: usize, size: &[i64]) {
    push_global(out, "torch._utils", "_rebuild_tensor_v2");
    out.push(op::MARK);
    let numel = size.iter().product::<i64>();
    out.push(op::MARK);
    push_str(out, "storage");
    push_global(out, "torch", storage);
    push_str(out, &key.to_string());
    push_str(out, "cpu");
    push_int(out, numel);
    out.extend([op::TUPLE, op::BINPERSID]);
    push_int(out, 0);
    push_tuple(out, size);
    push_tuple(out, &contiguous_strides(size));
    out.push(op::NEWFALSE);
    push_global(out, "collections", "OrderedDict");
    out.extend([op::EMPTY_TUPLE, op::REDUCE]);
    out.extend([op::TUPLE, op::REDUCE]);
}

fn contiguous_strides(size: &[i64]) -> Vec<i64> {
    let mut strides = vec![1; size.len()];
    for i in (0..size.len().saturating_sub(1)).rev() {
        strides[i] = strides[i + 1] * size[i + 1].max(1);
    }
    strides
}

fn push_global(out: &mut Vec<u8>, module: &str, name: &str) {
    out.push(op::GLOBAL);
    out.extend_from_slice(module.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(name.as_bytes());
    out.push(b'\n');
}

fn push_str(out: &mut Vec<u8>, text: &str) {
    out.push(op::BINUNICODE);
    // Names of tensors are far below 4 GiB.
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn push_tuple(out: &mut Vec<u8>, values: &[i64]) {
    if values.is_empty() {
        out.push(op::EMPTY_TUPLE);
        return;
    }
    out.push(op::MARK);
    for &value in values {
        push_int(out, value);
    }
    out.push(op::TUPLE);
}

fn push_int(out: &mut Vec<u8>, value: i64) {
    if let Ok(byte) = u8::try_from(value) {
        out.extend([op::BININT1, byte]);
    } else if let Ok(int) = i32::try_from(value) {
        out.push(op::BININT);
        out.extend_from_slice(&int.to_le_bytes());
    } else {
        out.extend([op::LONG1, 8]);
        out.extend_from_slice(&value.to_le_bytes());
    }
}
