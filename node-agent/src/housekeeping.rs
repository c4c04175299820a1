//! Limits of what gathers in the agent's folder: what was used longest ago goes first, and nothing of the last hour.

use crate::workdir::Layout;
use common::config::AgentSpec;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const EVERY: Duration = Duration::from_secs(30 * 60);
/// Used a moment ago: somebody may be at work with it.
const IN_USE: Duration = Duration::from_secs(3600);
/// Deeper folders than any of ours are left alone.
const DEPTH_MAX: u32 = 8;

/// Looks now and again, until dropped.
pub async fn keep(layout: Layout, limits: AgentSpec) {
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let layout = layout.clone();
        let kept = tokio::task::spawn_blocking(move || tidy(&layout, &limits, SystemTime::now()));
        if let Err(error) = kept.await {
            tracing::warn!(%error, "housekeeping broke off");
        }
    }
}

fn tidy(layout: &Layout, limits: &AgentSpec, now: SystemTime) {
    let gib = |n: u32| u64::from(n) << 30;
    let rooms = [
        ("prepared graphs", entries(&layout.prepared()), gib(limits.prepared_cache_gib)),
        ("kept results", entries(&layout.kept()), gib(limits.kept_results_gib)),
        ("process logs", files(&layout.process_logs()), u64::from(limits.process_logs_mib) << 20),
    ];
    for (what, found, max_bytes) in rooms {
        match found {
            Ok(found) => limit(what, found, max_bytes, now),
            Err(error) => tracing::warn!(what, %error, "can not be looked through"),
        }
    }
}

/// Something that is kept or deleted as a whole.
#[derive(Debug, Clone, PartialEq)]
struct Item {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// What lies directly in a folder.
fn entries(folder: &Path) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    for entry in fs::read_dir(folder)? {
        items.extend(item(&entry?.path(), DEPTH_MAX).ok());
    }
    Ok(items)
}

/// Every file below a folder.
fn files(folder: &Path) -> io::Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut folders = vec![(folder.to_owned(), DEPTH_MAX)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true if depth > 0 => folders.push((entry.path(), depth - 1)),
                true => {}
                false => items.extend(item(&entry.path(), 0).ok()),
            }
        }
    }
    Ok(items)
}

/// Size of everything in it, and the newest time of any of it.
fn item(path: &Path, depth: u32) -> io::Result<Item> {
    let meta = fs::symlink_metadata(path)?;
    let mut whole = Item { path: path.to_owned(), bytes: meta.len(), used: meta.modified()? };
    if meta.is_dir() && depth > 0 {
        for entry in fs::read_dir(path)? {
            let part = item(&entry?.path(), depth - 1)?;
            whole.bytes += part.bytes;
            whole.used = whole.used.max(part.used);
        }
    }
    Ok(whole)
}

fn limit(what: &str, mut items: Vec<Item>, max_bytes: u64, now: SystemTime) {
    items.sort_by_key(|item| item.used);
    let mut total: u64 = items.iter().map(|item| item.bytes).sum();
    for item in items {
        let idle = now.duration_since(item.used).unwrap_or_default();
        if total <= max_bytes || idle < IN_USE {
            return;
        }
        let removed = match item.path.is_dir() {
            true => fs::remove_dir_all(&item.path),
            false => fs::remove_file(&item.path),
        };
        match removed {
            Ok(()) => {
                total = total.saturating_sub(item.bytes);
                tracing::info!(what, path = %item.path.display(), bytes = item.bytes, "over the limit: deleted");
            }
            Err(error) => tracing::warn!(what, path = %item.path.display(), %error, "can not be deleted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workdir::WorkDir;

    fn make(path: &Path, bytes: usize, hours_ago: u64, now: SystemTime) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, vec![0; bytes]).unwrap();
        let used = now - Duration::from_secs(hours_ago * 3600);
        fs::File::open(path).unwrap().set_modified(used).unwrap();
        for folder in path.ancestors().skip(1).take(2) {
            fs::File::open(folder).unwrap().set_modified(used).unwrap();
        }
    }

    #[test]
    fn the_longest_unused_goes_first_and_nothing_of_the_last_hour() {
        let root = tempfile::tempdir().unwrap();
        let work = WorkDir::take(root.path()).unwrap();
        let (layout, now) = (work.layout(), SystemTime::now());
        let logs = layout.process_logs();
        let (old, newer, fresh) = (logs.join("p1/a.log"), logs.join("p2/b.log"), logs.join("p3/c.log"));
        make(&old, 600 << 10, 30, now);
        make(&newer, 600 << 10, 5, now);
        make(&fresh, 600 << 10, 0, now);
        let limits = AgentSpec { process_logs_mib: 1, ..AgentSpec::default() };
        tidy(&layout, &limits, now);
        assert!(!old.exists() && !newer.exists() && fresh.exists(), "1,800 KiB of 1,024 KiB");
        let folder = layout.prepared().join("key");
        make(&folder.join("train.graphs"), 700, 9, now);
        limit("graphs", entries(&layout.prepared()).unwrap(), 1_000_000, now);
        assert!(folder.exists());
        limit("graphs", entries(&layout.prepared()).unwrap(), 1_000, now);
        assert!(!folder.exists(), "a folder goes whole");
    }
}
