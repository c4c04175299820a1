//! Whole files: nothing, a page, and one of several parts.

use artifacts::{ArtifactError, Store};
use common::digest::Digest;

pub async fn round_trips(store: &Store) {
    let dir = tempfile::tempdir().unwrap();
    // 40 MiB and a bit: five full parts and a short one, no two alike.
    let big: Vec<u8> =
        (0..(40u32 << 18) + 5).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for content in [&b""[..], b"a page", &big] {
        let (from, to) = (dir.path().join("from"), dir.path().join("deep/er/to"));
        std::fs::write(&from, content).unwrap();
        let put = store.put_file("files/f", &from).await.unwrap();
        assert_eq!((put.bytes, put.sha256), (content.len() as u64, Digest::of(content)));
        let got = store.get_file("files/f", &to, Some(&put.sha256)).await.unwrap();
        assert_eq!(got, put);
        assert!(std::fs::read(&to).unwrap() == content, "{} bytes came back changed", content.len());
    }
}

pub async fn a_wrong_digest_leaves_the_old_file(store: &Store) {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    std::fs::write(&to, "old").unwrap();
    store.put("files/new", "new").await.unwrap();
    let error = store.get_file("files/new", &to, Some(&Digest::of(b"other"))).await.unwrap_err();
    assert!(
        matches!(&error, ArtifactError::Corrupt { found, .. } if *found == Digest::of(b"new")),
        "{error:?}"
    );
    assert_eq!(std::fs::read_to_string(&to).unwrap(), "old");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["to"], "a temporary file stayed behind");
}

pub async fn a_missing_file_is_told_by_name(store: &Store) {
    let dir = tempfile::tempdir().unwrap();
    let error = store.put_file("files/none", &dir.path().join("no-such-file")).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Local { .. }), "{error:?}");
    assert!(error.to_string().contains("no-such-file"), "{error}");
    let error = store.get_file("files/none", &dir.path().join("to"), None).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Missing { .. }), "{error:?}");
}
