//! What ran out of memory here, kept over restarts of the agent in `ceilings.json` of its work folder. Whoever
//! deletes the file lets it be found out anew.

use crate::workdir::Layout;
use agent_core::Ceilings;
use common::messages::Ceiling;
use std::fs;
use std::io;

/// What earlier lives found out; nothing when the file is not there or is none of ours.
pub fn load(layout: &Layout) -> Ceilings {
    let path = layout.ceilings();
    let read = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Vec<Ceiling>>(&bytes).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    Ceilings::of(read.unwrap_or_else(|error| {
        tracing::warn!(path = %path.display(), %error, "what ran out of memory before is not known");
        Vec::new()
    }))
}

/// Blocking, and short.
pub fn save(layout: &Layout, ceilings: &Ceilings) {
    let path = layout.ceilings();
    let temp = path.with_extension("part");
    let written = serde_json::to_vec_pretty(&ceilings.list())
        .map_err(io::Error::from)
        .and_then(|bytes| fs::write(&temp, bytes))
        .and_then(|()| fs::rename(&temp, &path));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "what ran out of memory is not kept over a restart");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::WorkDir;
    use common::digest::Digest;
    use common::ids::Phase;

    #[test]
    fn they_outlive_the_agent_and_a_damaged_file_is_no_obstacle() {
        let root = tempfile::tempdir().unwrap();
        let layout = WorkDir::take(root.path()).unwrap().layout();
        assert_eq!(load(&layout), Ceilings::default());
        let one = Ceiling {
            phase: Phase::Teacher,
            shape: Digest::of(b"large"),
            device_model: "L4".into(),
            micro_batch: 128,
        };
        let known = Ceilings::of([Ceiling { micro_batch: 512, ..one.clone() }, one.clone()]);
        save(&layout, &known);
        assert_eq!(load(&layout).list(), [one], "the lowest counts");
        fs::write(layout.ceilings(), "torn").unwrap();
        assert_eq!(load(&layout), Ceilings::default());
    }
}
