//! The "mathematics": state 0 is the digest of everything the result depends on, each epoch digests the
//! state before it. So the outputs say whether a resumed run is the same as a whole one, and whether a phase
//! really saw its parents.

use common::digest::Digest;
use common::job_key::flatten;
use common::trainer_protocol::Start;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    pub epoch: u32,
    state: Digest,
    previous: Digest,
}

const STATE_FILE: &str = "state.json";

impl Model {
    /// From the checkpoint to resume from, else from the inputs.
    pub fn begin(start: &Start) -> io::Result<Model> {
        if let Some(folder) = &start.resume_from {
            let text = fs::read_to_string(folder.join(STATE_FILE))?;
            return serde_json::from_str(&text).map_err(io::Error::other);
        }
        let mut text = format!("{}/{}\n", start.dataset, start.phase);
        for (key, value) in flatten(&start.semantic) {
            text += &format!("{key}={value}\n");
        }
        for (phase, folder) in &start.parents {
            text += &format!("parent {phase} {}\n", digest_of_folder(folder)?);
        }
        let state = Digest::of(text.as_bytes());
        Ok(Model { epoch: 0, state, previous: state })
    }

    pub fn advance(&mut self) {
        self.previous = self.state;
        self.state = Digest::of(format!("{} then", self.state).as_bytes());
        self.epoch += 1;
    }

    /// As it was before the epoch under way.
    pub fn before(&self) -> Model {
        Model { epoch: self.epoch.saturating_sub(1), state: self.previous, previous: self.previous }
    }

    /// Writes a checkpoint whole and durable, and returns its folder.
    pub fn save(&self, scratch: &Path) -> io::Result<PathBuf> {
        let root = scratch.join("ckpt");
        let (dir, temp) = (root.join(self.epoch.to_string()), root.join(format!(".{}", self.epoch)));
        fs::create_dir_all(&temp)?;
        write_durable(&temp.join(STATE_FILE), &serde_json::to_vec(self)?)?;
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        fs::rename(&temp, &dir)?;
        Ok(dir)
    }

    pub fn write_outputs(&self, out: &Path, files: &[String], bytes: usize) -> io::Result<()> {
        fs::create_dir_all(out)?;
        for name in files {
            let content = match name.ends_with(".json") {
                true => serde_json::to_vec(&serde_json::json!({ "fake": { "f1": self.score() } }))?,
                false => stretch(&format!("{} {name}", self.state), bytes),
            };
            write_durable(&out.join(name), &content)?;
        }
        Ok(())
    }

    /// A made-up figure between 0 and 1 that only the state decides.
    pub fn score(&self) -> f64 {
        let text = self.state.to_string();
        // Four hexadecimal characters of a digest are always a number.
        f64::from(u16::from_str_radix(&text[..4], 16).unwrap_or(0)) / f64::from(u16::MAX)
    }

    pub fn loss(&self) -> f64 {
        1.0 / f64::from(self.epoch.max(1))
    }
}

/// `bytes` bytes that only `seed` decides.
fn stretch(seed: &str, bytes: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(bytes + 64);
    let mut block = Digest::of(seed.as_bytes());
    while content.len() < bytes {
        content.extend_from_slice(block.to_string().as_bytes());
        block = Digest::of(block.to_string().as_bytes());
    }
    content.truncate(bytes);
    content
}

fn write_durable(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Names and bytes of all files directly in a folder.
fn digest_of_folder(folder: &Path) -> io::Result<Digest> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    names.sort();
    let mut text = String::new();
    for path in names.iter().filter(|path| path.is_file()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        text += &format!("{name} {}\n", Digest::of(&fs::read(path)?));
    }
    Ok(Digest::of(text.as_bytes()))
}

/// Ends this process by a signal. One that can be survived (ignored) is followed by an abort.
pub fn raise(signal: i32) {
    let pid = std::process::id().to_string();
    let sent = std::process::Command::new("kill").arg(format!("-{signal}")).arg(pid).status();
    std::thread::sleep(std::time::Duration::from_millis(200));
    eprintln!("fake-trainer: still alive after signal {signal} ({sent:?})");
    std::process::abort();
}
