//! One contract, three stores: whatever holds for one kind holds for all. S3 is a real server.

mod contract {
    pub mod bytes;
    pub mod files;
    pub mod runs;
}

use artifacts::testing::Weed;
use artifacts::{Store, StoreOptions};

/// Every promise a store makes. `store` must be empty.
async fn whole_contract(store: &Store) {
    contract::bytes::round_trips(store).await;
    contract::bytes::a_second_put_of_the_same_key_is_safe(store).await;
    contract::bytes::what_is_not_there_is_none(store).await;
    contract::bytes::listing_goes_by_folder_and_is_sorted(store).await;
    contract::bytes::deleting_is_repeatable(store).await;
    contract::bytes::too_large_is_refused_before_it_is_read(store).await;
    contract::files::round_trips(store).await;
    contract::files::a_wrong_digest_leaves_the_old_file(store).await;
    contract::files::a_missing_file_is_told_by_name(store).await;
    contract::runs::the_manifest_comes_last_and_verifies(store).await;
    contract::runs::damage_is_told_by_kind(store).await;
    contract::runs::fetching_checks_digests_and_uses_the_cache(store).await;
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    whole_contract(&Store::open("memory://", &StoreOptions::default()).unwrap()).await;
}

#[tokio::test]
async fn a_folder_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/made/on/open", dir.path().display());
    let store = Store::open(&url, &StoreOptions::default()).unwrap();
    whole_contract(&store).await;
    let path = store.local_path("a/b").unwrap();
    assert_eq!(path, dir.path().canonicalize().unwrap().join("made/on/open/a/b"));
}

#[tokio::test]
async fn s3_keeps_the_contract() {
    let weed = Weed::start().unwrap_or_else(|e| panic!("{e}"));
    whole_contract(&Store::open(&weed.url("suite/a"), &weed.options()).unwrap()).await;
    // Without a prefix, the same bucket shows what lies below the prefix.
    let whole = Store::open(&weed.url(""), &weed.options()).unwrap();
    let all = whole.list("suite").await.unwrap();
    assert!(!all.is_empty() && all.iter().all(|o| o.key.starts_with("suite/a/")), "{all:?}");
    assert!(whole.local_path("a").is_none());

    contract::bytes::wrong_credentials_are_refused_for_good(&weed).await;
}
