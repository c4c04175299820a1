//! Finding the captures of a dataset folder, flat or with sub-folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::attack::{AttackKind, is_attack_free};
use crate::error::{DataError, Result};
use crate::read::CaptureFormat;

/// Where one capture lies and what its names tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CaptureFile {
    /// `train_01_attack_free`, `test_03_...`.
    pub folder: String,
    /// File name without folder part and extension.
    pub name: String,
    pub path: PathBuf,
    pub format: CaptureFormat,
    pub attack_kind: AttackKind,
}

impl CaptureFile {
    /// True if the folder says that nothing was injected into its captures.
    pub fn in_attack_free_folder(&self) -> bool {
        let folder = self.folder.to_ascii_lowercase();
        folder.starts_with("train_01") || is_attack_free(&folder)
    }

    /// `folder/name`, for messages.
    pub fn label(&self) -> String {
        format!("{}/{}", self.folder, self.name)
    }
}

/// The captures of one dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    pub dataset: String,
    /// Sorted by folder, then name.
    pub train: Vec<CaptureFile>,
    /// Test folder -> its captures, sorted by name.
    pub tests: BTreeMap<String, Vec<CaptureFile>>,
    /// Files and folders that look like captures but belong to no train or test folder.
    pub ignored: Vec<PathBuf>,
}

impl Layout {
    /// All captures, the training ones first.
    pub fn captures(&self) -> impl Iterator<Item = &CaptureFile> {
        self.train.iter().chain(self.tests.values().flatten())
    }

    /// Number of captures.
    pub fn len(&self) -> usize {
        self.train.len() + self.tests.values().map(Vec::len).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Finds the captures of `<root>/<dataset>/`; opens each file only to see its format.
///
/// Understood, also mixed: flat files `<folder>__<capture>.<ext>` and sub-folders `<folder>/<capture>.<ext>`,
/// with the extensions csv, parquet and log. A folder whose name contains `train` is for training, one that
/// starts with `test` is a test folder of its own.
pub fn find(root: &Path, dataset: &str) -> Result<Layout> {
    let folder = root.join(dataset);
    if !folder.is_dir() {
        let mend = match list_datasets(root) {
            Ok(names) if !names.is_empty() => format!("datasets there: {}", names.join(", ")),
            _ => "give the folder that holds the dataset folders".to_string(),
        };
        return Err(DataError::Missing { what: "dataset folder", path: folder, mend });
    }
    let mut layout = Layout {
        dataset: dataset.to_string(),
        train: Vec::new(),
        tests: BTreeMap::new(),
        ignored: Vec::new(),
    };
    for path in sorted_entries(&folder)? {
        if path.is_dir() {
            let sub_folder = file_name(&path);
            for file in sorted_entries(&path)?.into_iter().filter(|file| is_capture(file)) {
                let name = stem(&file);
                place(&mut layout, file, &sub_folder, name)?;
            }
        } else if is_capture(&path) {
            match stem(&path).split_once("__") {
                Some((sub_folder, name)) => place(&mut layout, path.clone(), sub_folder, name.to_string())?,
                None => layout.ignored.push(path),
            }
        }
    }
    if layout.is_empty() {
        return Err(DataError::NoCaptures { path: folder });
    }
    layout.train.sort();
    layout.tests.values_mut().for_each(|captures| captures.sort());
    let folders = std::iter::once(&layout.train).chain(layout.tests.values());
    for pair in folders.flat_map(|captures| captures.windows(2)) {
        if (&pair[0].folder, &pair[0].name) == (&pair[1].folder, &pair[1].name) {
            return Err(DataError::TwoForms { first: pair[0].path.clone(), second: pair[1].path.clone() });
        }
    }
    Ok(layout)
}

/// Names of the folders below `root` that hold captures, sorted.
pub fn list_datasets(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in sorted_entries(root)?.into_iter().filter(|path| path.is_dir()) {
        if holds_captures(&path)? {
            names.push(file_name(&path));
        }
    }
    Ok(names)
}

fn holds_captures(folder: &Path) -> Result<bool> {
    for path in sorted_entries(folder)? {
        let role = if path.is_dir() { file_name(&path) } else { stem(&path) };
        let found = role_of(&role) != Role::None
            && if path.is_dir() {
                sorted_entries(&path)?.iter().any(|file| is_capture(file))
            } else {
                is_capture(&path) && role.contains("__")
            };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[derive(PartialEq, Eq)]
enum Role {
    Train,
    Test,
    None,
}

fn role_of(folder: &str) -> Role {
    let folder = folder.to_ascii_lowercase();
    if folder.starts_with("test") {
        Role::Test
    } else if folder.contains("train") {
        Role::Train
    } else {
        Role::None
    }
}

fn place(layout: &mut Layout, path: PathBuf, folder: &str, name: String) -> Result<()> {
    let role = role_of(folder);
    if role == Role::None {
        layout.ignored.push(path);
        return Ok(());
    }
    let capture = CaptureFile {
        attack_kind: AttackKind::from_names(folder, &name),
        format: CaptureFormat::detect(&path)?,
        folder: folder.to_string(),
        name,
        path,
    };
    match role {
        Role::Train => layout.train.push(capture),
        _ => layout.tests.entry(folder.to_string()).or_default().push(capture),
    }
    Ok(())
}

fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => DataError::Missing {
            what: "folder",
            path: folder.to_path_buf(),
            mend: "give the folder that holds the dataset folders".to_string(),
        },
        _ => DataError::io("list folder", folder, e),
    })?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| DataError::io("list folder", folder, e))?.path();
        if !file_name(&path).starts_with('.') {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_capture(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
    path.is_file() && matches!(extension.as_deref(), Some("csv" | "parquet" | "log"))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "timestamp,arbitration_id,data_field,attack\n1.0,0C9,00,0\n1.1,0D1,00,0\n";

    fn write(root: &Path, name: &str, text: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn both_forms_are_found() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "car/train_01_attack_free/attack-free-1.csv", CSV);
        write(root.path(), "car/train_02_with_attacks/DoS-1.csv", CSV);
        write(root.path(), "car/test_01_known__rpm-2.csv", CSV);
        write(root.path(), "car/test_01_known/can.log", "(1.0) can0 044#2A\n");
        write(root.path(), "car/README.md", "not a capture");
        write(root.path(), "car/loose.csv", CSV);
        write(root.path(), "empty/notes.txt", "nothing");
        let layout = find(root.path(), "car").unwrap();
        assert_eq!(
            layout.train.iter().map(CaptureFile::label).collect::<Vec<_>>(),
            ["train_01_attack_free/attack-free-1", "train_02_with_attacks/DoS-1"]
        );
        assert_eq!(layout.tests["test_01_known"].len(), 2);
        assert_eq!(layout.tests["test_01_known"][0].format, CaptureFormat::Candump);
        assert_eq!(layout.tests["test_01_known"][1].attack_kind, AttackKind::Rpm);
        assert_eq!(layout.ignored.len(), 1);
        assert!(layout.train[0].in_attack_free_folder() && !layout.train[1].in_attack_free_folder());
        assert_eq!(list_datasets(root.path()).unwrap(), ["car"]);
    }

    #[test]
    fn a_capture_in_two_forms_is_refused() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "car/train_01/a.csv", CSV);
        write(root.path(), "car/train_01__a.csv", CSV);
        assert!(matches!(find(root.path(), "car"), Err(DataError::TwoForms { .. })));
    }

    #[test]
    fn missing_and_empty_folders_tell_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "car/train_01/a.csv", CSV);
        fs::create_dir_all(root.path().join("bare/train_01")).unwrap();
        let error = find(root.path(), "cra").unwrap_err().to_string();
        assert!(error.contains("cra does not exist") && error.contains("datasets there: car"), "{error}");
        assert!(matches!(find(root.path(), "bare"), Err(DataError::NoCaptures { .. })));
        assert!(matches!(list_datasets(&root.path().join("no")), Err(DataError::Missing { .. })));
    }
}
