//! Dicts of tensors as an archive.

use std::path::Path;

use tch::Tensor;

use super::PthError;
use super::archive::{Storages, write_archive};
use super::pickle::{op, push_str};

/// Writes `{section: {name: tensor}}` to `path` (temporary file, synced, renamed). Same tensors in the
/// same order give the same bytes.
///
/// # Errors
/// `Kind` for an element type without storage class, `Io`/`Zip` when the disk refuses.
pub fn write(path: &Path, sections: &[(&str, Vec<(String, Tensor)>)]) -> Result<(), PthError> {
    write_with(path, sections, &[])
}

/// The same with further entries, which Python's reader passes over (name below the archive's folder, bytes).
///
/// # Errors
/// As [`write`].
pub fn write_with(
    path: &Path,
    sections: &[(&str, Vec<(String, Tensor)>)],
    extras: &[(&str, &[u8])],
) -> Result<(), PthError> {
    let mut pickle = vec![op::PROTO, 2, op::EMPTY_DICT, op::MARK];
    let mut storages = Storages::default();
    for (section, tensors) in sections {
        push_str(&mut pickle, section);
        pickle.extend([op::EMPTY_DICT, op::MARK]);
        for (name, tensor) in tensors {
            push_str(&mut pickle, name);
            storages.push(&mut pickle, name, tensor)?;
        }
        pickle.push(op::SETITEMS);
    }
    pickle.extend([op::SETITEMS, op::STOP]);
    let entries: Vec<(&str, &[u8])> =
        [("data.pkl", &pickle[..])].into_iter().chain(extras.iter().copied()).collect();
    write_archive(path, &entries, &storages)
}
