//! Finished results that the store does not have yet. A result survives its attempt and its agent: the scratch
//! folder of a finished attempt holds `finished.json`, and is put aside as `kept/<key>/` when the attempt is given
//! up or the agent starts anew. A later attempt of the same job (the key names captures, configuration and parents)
//! finds it there and stores it without training.

use crate::workdir::Layout;
use agent_core::{FinishedChild, RunId, SavedRun};
use common::digest::Digest;
use common::job_key::JobKey;
use common::manifest::FileEntry;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Makes a scratch folder a finished result.
const NAME: &str = "finished.json";
/// Set aside when an attempt begins, so that a disk that runs full meanwhile does not lose what it finished.
const SET_ASIDE_BYTES: usize = 32 << 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    key: JobKey,
    result: FinishedChild,
    /// Of all files below `out`.
    files: Vec<FileEntry>,
}

/// Sets room aside in a new scratch folder; blanks are no record.
pub fn set_aside(scratch: &Path) -> io::Result<()> {
    fs::write(scratch.join(NAME), vec![b' '; SET_ASIDE_BYTES])
}

/// Notes in the scratch folder that the attempt is finished. Failing to costs at most another training.
pub async fn note(layout: &Layout, saved: &SavedRun) {
    let (scratch, key, result) = (layout.scratch(&saved.run), saved.run.key, saved.result.clone());
    let noted = tokio::task::spawn_blocking(move || write(&scratch, key, result)).await;
    let failed = match noted {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    tracing::warn!(run = %saved.run, failed, "a restart of the agent would lose the finished result");
}

fn write(scratch: &Path, key: JobKey, result: FinishedChild) -> io::Result<()> {
    if read(scratch).is_some_and(|known| known.key == key) {
        return Ok(());
    }
    let entry = |name: &String| {
        let bytes = fs::read(scratch.join("out").join(name))?;
        Ok(FileEntry { name: name.clone(), bytes: bytes.len() as u64, sha256: Digest::of(&bytes) })
    };
    let files = result.done.files.iter().map(entry).collect::<io::Result<Vec<FileEntry>>>()?;
    let mut text = serde_json::to_vec(&Record { key, result, files })?;
    // Over the blanks, in place: needs no new room. Torn, it is no JSON.
    text.resize(text.len().max(SET_ASIDE_BYTES), b' ');
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(scratch.join(NAME))?;
    file.write_all(&text)?;
    file.sync_all()
}

fn read(folder: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(folder.join(NAME)).ok()?).ok()
}

/// Brings a kept result of this job into the attempt's scratch folder. Blocking.
pub fn find(layout: &Layout, run: &RunId) -> Option<FinishedChild> {
    let folder = layout.kept().join(run.key.to_string());
    let record = read(&folder)?;
    if record.key != run.key || !is_whole(&folder.join("out"), &record.files) {
        tracing::warn!(%run, folder = %folder.display(), "a kept result is damaged and left out");
        remove(&folder);
        return None;
    }
    let scratch = layout.scratch(run);
    remove(&scratch);
    match fs::rename(&folder, &scratch) {
        Ok(()) => Some(record.result),
        Err(error) => {
            tracing::warn!(%run, %error, "a kept result can not be used");
            None
        }
    }
}

fn is_whole(out: &Path, files: &[FileEntry]) -> bool {
    files.iter().all(|entry| fs::read(out.join(&entry.name)).is_ok_and(|b| Digest::of(&b) == entry.sha256))
}

/// Puts a finished result aside; a folder that holds none is left as it is. Blocking.
pub fn keep(layout: &Layout, scratch: &Path) {
    let Some(record) = read(scratch) else { return };
    let folder = layout.kept().join(record.key.to_string());
    remove(&folder);
    if let Err(error) = strip(scratch).and_then(|()| fs::rename(scratch, &folder)) {
        tracing::warn!(scratch = %scratch.display(), %error, "a finished result is not kept");
    }
}

/// Leaves the record and the files it names.
fn strip(scratch: &Path) -> io::Result<()> {
    for entry in fs::read_dir(scratch)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == "out" || name == NAME {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    // The order of use, for the limit of all that is kept.
    File::open(scratch)?.set_modified(std::time::SystemTime::now())
}

/// The job has a result in the store. Blocking.
pub fn forget(layout: &Layout, key: &JobKey) {
    remove(&layout.kept().join(key.to_string()));
}

fn remove(folder: &Path) {
    if let Err(error) = fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "a folder is not deleted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::WorkDir;
    use common::ids::Attempt;
    use common::trainer_protocol::Done;
    use common::units::UnixMs;
    use std::collections::BTreeMap;

    fn run(attempt: u32) -> RunId {
        RunId { key: JobKey(Digest::of(b"job")), attempt: Attempt(attempt) }
    }

    fn finished() -> FinishedChild {
        let done = Done {
            files: vec!["model.pth".into()],
            metrics: BTreeMap::from([("f1".to_owned(), 0.99)]),
            tuning_used: BTreeMap::new(),
            peak_memory_mib: None,
        };
        FinishedChild { done, started: UnixMs(7), duration_ms: 9, device_model: "cpu".into() }
    }

    fn finish(layout: &Layout, run: &RunId) {
        let scratch = layout.scratch(run);
        fs::create_dir_all(scratch.join("out")).unwrap();
        fs::create_dir_all(scratch.join("ckpt/3")).unwrap();
        set_aside(&scratch).unwrap();
        assert_eq!(read(&scratch), None, "blanks are no record");
        fs::write(scratch.join("out/model.pth"), "weights").unwrap();
        write(&scratch, run.key, finished()).unwrap();
    }

    #[test]
    fn a_finished_result_outlives_its_attempt_and_its_agent() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkDir::take(root.path()).unwrap();
        let layout = work.layout();
        finish(&layout, &run(1));
        drop(work); // kill -9 while it is uploaded
        let layout = WorkDir::take(root.path()).unwrap().layout();
        assert!(!layout.scratch(&run(1)).exists());
        assert_eq!(find(&layout, &run(2)), Some(finished()));
        assert_eq!(fs::read_to_string(layout.out(&run(2)).join("model.pth")).unwrap(), "weights");
        assert!(!layout.scratch(&run(2)).join("ckpt").exists(), "only the result is kept");
        assert_eq!(find(&layout, &run(3)), None, "it is attempt 2's now");
        keep(&layout, &layout.scratch(&run(2)));
        assert_eq!(find(&layout, &run(3)), Some(finished()));
        keep(&layout, &layout.scratch(&run(3)));
        forget(&layout, &run(1).key);
        assert_eq!(find(&layout, &run(4)), None);
    }

    #[test]
    fn a_damaged_or_unfinished_one_is_not_used() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkDir::take(root.path()).unwrap();
        let layout = work.layout();
        finish(&layout, &run(1));
        keep(&layout, &layout.scratch(&run(1)));
        fs::write(layout.kept().join(run(1).key.to_string()).join("out/model.pth"), "other").unwrap();
        assert_eq!(find(&layout, &run(2)), None);
        let scratch = layout.scratch(&run(5));
        fs::create_dir_all(&scratch).unwrap();
        set_aside(&scratch).unwrap();
        keep(&layout, &scratch);
        assert!(scratch.exists() && fs::read_dir(layout.kept()).unwrap().next().is_none());
    }
}
