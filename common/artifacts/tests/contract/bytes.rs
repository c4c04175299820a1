//! Small objects.

use artifacts::testing::Weed;
use artifacts::{ArtifactError, Secret, Store, StoreOptions};

pub async fn round_trips(store: &Store) {
    for bytes in [&b""[..], b"x", &[0xff; 70_000]] {
        store.put("bytes/one", bytes.to_vec()).await.unwrap();
        assert_eq!(store.get("bytes/one", 1 << 20).await.unwrap(), bytes);
        assert_eq!(store.head("bytes/one").await.unwrap().unwrap().bytes, bytes.len() as u64);
    }
}

pub async fn a_second_put_of_the_same_key_is_safe(store: &Store) {
    store.put("bytes/again", "same").await.unwrap();
    store.put("bytes/again", "same").await.unwrap();
    assert_eq!(store.get("bytes/again", 10).await.unwrap(), "same");
}

pub async fn what_is_not_there_is_none(store: &Store) {
    assert_eq!(store.head("bytes/nothing").await.unwrap(), None);
    let error = store.get("bytes/nothing", 10).await.unwrap_err();
    assert!(matches!(&error, ArtifactError::Missing { at } if at.ends_with("/bytes/nothing")), "{error}");
    assert!(!error.is_transient());
    assert_eq!(store.list("bytes/no/such/folder").await.unwrap(), []);
}

pub async fn listing_goes_by_folder_and_is_sorted(store: &Store) {
    for key in ["list/b/2", "list/b/10", "list/bc", "list/a"] {
        store.put(key, key).await.unwrap();
    }
    let keys = |found: Vec<artifacts::Listed>| found.into_iter().map(|o| o.key).collect::<Vec<_>>();
    assert_eq!(keys(store.list("list").await.unwrap()), ["list/a", "list/b/10", "list/b/2", "list/bc"]);
    assert_eq!(keys(store.list("list/b").await.unwrap()), ["list/b/10", "list/b/2"]);
    assert_eq!(store.list("list/b/").await.unwrap()[1].bytes, 8);
}

pub async fn deleting_is_repeatable(store: &Store) {
    store.put("gone/1", "1").await.unwrap();
    store.put("gone/2", "2").await.unwrap();
    store.delete(&["gone/0", "gone/1", "gone/2"]).await.unwrap();
    store.delete(&["gone/1"]).await.unwrap();
    assert_eq!(store.list("gone").await.unwrap(), []);
    store.delete::<&str>(&[]).await.unwrap();
}

pub async fn too_large_is_refused_before_it_is_read(store: &Store) {
    store.put("bytes/large", vec![0; 11]).await.unwrap();
    let error = store.get("bytes/large", 10).await.unwrap_err();
    assert!(matches!(error, ArtifactError::TooLarge { bytes: 11, max_bytes: 10, .. }), "{error}");
}

pub async fn wrong_credentials_are_refused_for_good(weed: &Weed) {
    let options = StoreOptions { secret_access_key: Some(Secret("wrong".into())), ..weed.options() };
    let store = Store::open(&weed.url("suite/b"), &options).unwrap();
    let error = store.put("x", "x").await.unwrap_err();
    assert!(matches!(error, ArtifactError::Denied { .. }), "{error:?}");
    assert!(!error.is_transient());
    let told = error.to_string();
    assert!(told.contains("s3://test/suite/b/x") && told.contains("AWS_SECRET_ACCESS_KEY"), "{told}");
}
