//! The cache on its own: limits, damage, a place it cannot write.

use artifacts::Cache;
use common::digest::Digest;
use std::path::Path;
use std::time::{Duration, SystemTime};

async fn keep(cache: &Cache, scratch: &Path, content: &[u8]) -> Digest {
    let (file, digest) = (scratch.join("in"), Digest::of(content));
    std::fs::write(&file, content).unwrap();
    cache.keep(&digest, &file).await;
    digest
}

async fn has(cache: &Cache, scratch: &Path, digest: &Digest) -> bool {
    cache.copy_out(digest, &scratch.join("out")).await.unwrap()
}

fn kept_path(dir: &Path, digest: &Digest) -> std::path::PathBuf {
    let name = digest.to_string();
    dir.join(&name[..2]).join(name)
}

#[tokio::test]
async fn the_longest_unused_goes_first() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("cache");
    let cache = Cache::new(&dir, 250);
    let old = keep(&cache, scratch.path(), &[1; 100]).await;
    let used = keep(&cache, scratch.path(), &[2; 100]).await;
    for (digest, age_s) in [(&old, 100), (&used, 200)] {
        let file = std::fs::File::options().write(true).open(kept_path(&dir, digest)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age_s)).unwrap();
    }
    assert!(has(&cache, scratch.path(), &used).await, "this use makes it the youngest");
    let new = keep(&cache, scratch.path(), &[3; 100]).await;
    assert!(!has(&cache, scratch.path(), &old).await);
    assert!(has(&cache, scratch.path(), &used).await);
    assert!(has(&cache, scratch.path(), &new).await);
    let too_big = keep(&cache, scratch.path(), &[4; 251]).await;
    assert!(!has(&cache, scratch.path(), &too_big).await);
    assert!(has(&cache, scratch.path(), &new).await, "what can never fit evicts nothing");
}

#[tokio::test]
async fn a_damaged_file_is_not_served() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("cache");
    let cache = Cache::new(&dir, 1000);
    let digest = keep(&cache, scratch.path(), b"content").await;
    std::fs::write(kept_path(&dir, &digest), "CONTENT").unwrap();
    assert!(!has(&cache, scratch.path(), &digest).await);
    assert!(!kept_path(&dir, &digest).exists() && !scratch.path().join("out").exists());
}

#[tokio::test]
async fn a_cache_that_cannot_be_written_fails_nobody() {
    let scratch = tempfile::tempdir().unwrap();
    let not_a_folder = scratch.path().join("file");
    std::fs::write(&not_a_folder, "").unwrap();
    let cache = Cache::new(not_a_folder.join("cache"), 1000);
    let digest = keep(&cache, scratch.path(), b"content").await;
    assert!(!not_a_folder.join("cache").exists());
    assert!(cache.copy_out(&digest, &scratch.path().join("out")).await.is_err());
}
