//! An attempt's result: manifest last, verification, fetching.

use artifacts::run::{fetch_run, upload_run, verify_run};
use artifacts::{ArtifactError, Cache, LocalFile, Store, UploadedRun, VerifyError};
use common::digest::Digest;
use common::ids::{Attempt, JobId, JobName, NodeId, Phase, PlanId};
use common::job_key::{JobInputs, JobKey};
use common::manifest::{FileEntry, MadeBy, Manifest};
use common::units::UnixMs;
use std::collections::BTreeMap;
use std::path::Path;

const CONTENTS: [(&str, &[u8]); 3] =
    [("gat.pth", b"weights of the GAT"), ("state/vgae.pth", b"weights of the VGAE"), ("empty.log", b"")];

fn manifest(files: Vec<FileEntry>) -> Manifest {
    let name = JobName::new("hcrl_sa".parse().unwrap(), Phase::Teacher);
    Manifest {
        schema: Manifest::SCHEMA,
        job: JobId { plan: PlanId::new("p1").unwrap(), name },
        key: JobKey(Digest::of(b"key")),
        attempt: Attempt(1),
        inputs: JobInputs {
            phase: Phase::Teacher,
            code_version: 1,
            semantic: serde_json::json!({}),
            dataset_digest: Digest::of(b"captures"),
            parents: BTreeMap::new(),
            force_generation: 0,
        },
        files,
        metrics: BTreeMap::from([("gat.test_01.f1".to_owned(), 0.99)]),
        made: MadeBy {
            node: NodeId::new("n1").unwrap(),
            device_model: "CPU".to_owned(),
            agent_version: "0".to_owned(),
            started: UnixMs(0),
            duration_ms: 1,
            peak_memory_mib: None,
            tuning_used: BTreeMap::new(),
        },
    }
}

async fn upload(store: &Store, prefix: &str, scratch: &Path) -> UploadedRun {
    let mut files = Vec::new();
    for (name, content) in CONTENTS {
        let path = scratch.join(name.replace('/', "-"));
        std::fs::write(&path, content).unwrap();
        files.push(LocalFile { name: name.to_owned(), path });
    }
    upload_run(store, prefix, &files, manifest).await.unwrap()
}

pub async fn the_manifest_comes_last_and_verifies(store: &Store) {
    let scratch = tempfile::tempdir().unwrap();
    // One file of two can be read: what could be uploaded is there, the manifest is not.
    let good = scratch.path().join("good");
    std::fs::write(&good, "x").unwrap();
    let files = [("good", good), ("bad", scratch.path().join("bad"))];
    let files = files.map(|(name, path)| LocalFile { name: name.to_owned(), path });
    let error = upload_run(store, "runs/half/a1", &files, manifest).await.unwrap_err();
    assert!(matches!(error, ArtifactError::Local { .. }), "{error:?}");
    assert!(store.head("runs/half/a1/good").await.unwrap().is_some());
    let none = verify_run(store, "runs/half/a1", &Digest::of(b"x")).await.unwrap_err();
    assert!(matches!(&none, VerifyError::Missing { at } if at.ends_with("a1/manifest.json")), "{none:?}");

    // Whole, and again: the same attempt uploaded twice is the same result.
    let first = upload(store, "runs/k/a1", scratch.path()).await;
    let second = upload(store, "runs/k/a1", scratch.path()).await;
    assert_eq!(first, second);
    assert_eq!(verify_run(store, "runs/k/a1", &first.manifest_digest).await.unwrap(), first.manifest);
    assert_eq!(first.manifest.files[1].sha256, Digest::of(CONTENTS[1].1));
    assert_eq!(store.list("runs/k/a1").await.unwrap().len(), CONTENTS.len() + 1);
}

pub async fn damage_is_told_by_kind(store: &Store) {
    let scratch = tempfile::tempdir().unwrap();
    let prefix = "runs/d/a2";
    let run = upload(store, prefix, scratch.path()).await;
    let verify = async || verify_run(store, prefix, &run.manifest_digest).await.unwrap_err();

    store.put(&format!("{prefix}/gat.pth"), &CONTENTS[0].1[..5]).await.unwrap();
    let cut = verify().await;
    assert!(matches!(&cut, VerifyError::SizeDiffers { found: 5, expected: 18, .. }), "{cut:?}");
    assert!(!cut.is_transient() && cut.to_string().contains("gat.pth"), "{cut}");

    store.delete(&[format!("{prefix}/gat.pth")]).await.unwrap();
    let gone = verify().await;
    assert!(matches!(&gone, VerifyError::Missing { at } if at.ends_with("gat.pth")), "{gone:?}");

    let other = verify_run(store, prefix, &Digest::of(b"another")).await.unwrap_err();
    assert!(matches!(other, VerifyError::DigestDiffers { .. }), "{other:?}");

    store.put(&format!("{prefix}/manifest.json"), "{}").await.unwrap();
    let empty = verify_run(store, prefix, &Digest::of(b"{}")).await.unwrap_err();
    assert!(matches!(empty, VerifyError::BadManifest { .. }), "{empty:?}");
}

pub async fn fetching_checks_digests_and_uses_the_cache(store: &Store) {
    let scratch = tempfile::tempdir().unwrap();
    let prefix = "runs/f/a1";
    let run = upload(store, prefix, scratch.path()).await;
    let cache = Cache::new(scratch.path().join("cache"), 1 << 20);
    let names = ["state/vgae.pth", "gat.pth"];
    let fetch = async |into: &str, cache: Option<&Cache>| {
        let dest = scratch.path().join(into);
        fetch_run(store, prefix, &run.manifest_digest, &names, &dest, cache).await
    };

    let paths = fetch("one", Some(&cache)).await.unwrap();
    assert_eq!(paths[0], scratch.path().join("one/state/vgae.pth"));
    assert_eq!(std::fs::read(&paths[0]).unwrap(), CONTENTS[1].1);
    // The object is damaged under its size: the cache still serves the right bytes, the store does not.
    store.put(&format!("{prefix}/gat.pth"), vec![0; CONTENTS[0].1.len()]).await.unwrap();
    let paths = fetch("two", Some(&cache)).await.unwrap();
    assert_eq!(std::fs::read(&paths[1]).unwrap(), CONTENTS[0].1);
    let damaged = fetch("three", None).await.unwrap_err();
    assert!(matches!(damaged, VerifyError::Store(ArtifactError::Corrupt { .. })), "{damaged:?}");
    assert!(!scratch.path().join("three/gat.pth").exists());

    let unknown = fetch_run(store, prefix, &run.manifest_digest, &["no"], scratch.path(), None).await;
    assert!(matches!(unknown, Err(VerifyError::Missing { .. })), "{unknown:?}");
}
