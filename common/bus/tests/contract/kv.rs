//! Promises of buckets.

use bus::names::{BUCKET_CHAINS, BUCKET_SLOTS};
use bus::{BusError, Entry, ErrorClass, Revision, SharedBus};
use bytes::Bytes;

pub async fn create_refuses_what_exists_and_accepts_what_was_deleted(bus: SharedBus) {
    let kv = bus.kv(BUCKET_SLOTS);
    assert_eq!(kv.get("a.b").await, Ok(None));
    let first = kv.create("a.b", "1".into()).await.unwrap();
    assert_eq!(kv.get("a.b").await, Ok(Some(Entry { value: "1".into(), revision: first })));

    let again = kv.create("a.b", "2".into()).await.unwrap_err();
    assert_eq!(again, BusError::AlreadyExists { bucket: BUCKET_SLOTS.into(), key: "a.b".into() });
    assert_eq!(again.class(), ErrorClass::Conflict);

    let marker = kv.delete("a.b", None).await.unwrap();
    assert!(marker > first);
    assert_eq!(kv.get("a.b").await, Ok(None));
    let second = kv.create("a.b", "3".into()).await.unwrap();
    assert!(second > marker);
    assert!(kv.create("a.b", "4".into()).await.unwrap_err().is_conflict());
    assert_eq!(kv.get("a.b").await.unwrap().unwrap().value, Bytes::from("3"));
}

pub async fn a_bucket_tells_when_it_was_made(bus: SharedBus) {
    let kv = bus.kv(BUCKET_SLOTS);
    let made = kv.created().await.unwrap();
    kv.put("k", "1".into()).await.unwrap();
    bus.ensure(&bus::BusLayout::default()).await.unwrap();
    assert_eq!(kv.created().await, Ok(made), "writes and a second set-up are not another life");
    assert!(matches!(bus.kv("none").created().await, Err(BusError::StreamNotFound { .. })));
}

pub async fn update_needs_the_revision_in_force(bus: SharedBus) {
    let kv = bus.kv(BUCKET_SLOTS);
    let first = kv.create("k", "1".into()).await.unwrap();
    let second = kv.update("k", "2".into(), first).await.unwrap();
    assert!(second > first);
    let stale = kv.update("k", "3".into(), first).await.unwrap_err();
    let key = "k".to_owned();
    assert_eq!(stale, BusError::WrongRevision { bucket: BUCKET_SLOTS.into(), key, expected: first });
    assert!(kv.update("absent", "1".into(), Revision(7)).await.unwrap_err().is_conflict());
    let third = kv.put("k", "4".into()).await.unwrap();
    assert_eq!(kv.get("k").await, Ok(Some(Entry { value: "4".into(), revision: third })));
}

pub async fn a_key_can_be_created_on_condition_that_the_bucket_did_not_move(bus: SharedBus) {
    let kv = bus.kv(BUCKET_SLOTS);
    let empty = kv.newest().await.unwrap();
    let first = kv.create_after("a", "1".into(), empty).await.unwrap();
    assert_eq!(kv.newest().await, Ok(first));
    // Somebody wrote another key since: what was read before may hold no longer.
    let moved = kv.create_after("b", "1".into(), empty).await.unwrap_err();
    let (bucket, key) = (BUCKET_SLOTS.to_owned(), "b".to_owned());
    assert_eq!(moved, BusError::WrongRevision { bucket, key, expected: empty });
    assert_eq!(kv.get("b").await, Ok(None));
    let exists = kv.create_after("a", "2".into(), first).await.unwrap_err();
    assert_eq!(exists, BusError::AlreadyExists { bucket: BUCKET_SLOTS.into(), key: "a".into() });
    let marker = kv.delete("a", None).await.unwrap();
    assert_eq!(kv.newest().await, Ok(marker));
    kv.create_after("a", "3".into(), marker).await.unwrap();
    let newest = kv.newest().await.unwrap();
    let tries = ["x", "y", "z"].map(|key| {
        let kv = kv.clone();
        tokio::spawn(async move { kv.create_after(key, "1".into(), newest).await.is_ok() })
    });
    let mut won = 0;
    for handle in tries {
        won += u32::from(handle.await.unwrap());
    }
    assert_eq!(won, 1);
}

pub async fn delete_can_be_conditional(bus: SharedBus) {
    let kv = bus.kv(BUCKET_SLOTS);
    let first = kv.put("k", "1".into()).await.unwrap();
    let second = kv.put("k", "2".into()).await.unwrap();
    assert!(kv.delete("k", Some(first)).await.unwrap_err().is_conflict());
    assert!(kv.get("k").await.unwrap().is_some());
    kv.delete("k", Some(second)).await.unwrap();
    assert_eq!(kv.get("k").await, Ok(None));
    // The revision before the deletion gives no right to write any more.
    assert!(kv.update("k", "3".into(), second).await.unwrap_err().is_conflict());
}

pub async fn of_many_writers_with_one_revision_one_wins(bus: SharedBus) {
    let kv = bus.kv(BUCKET_CHAINS);
    let start = kv.create("k", "start".into()).await.unwrap();
    let tries = (0..16).map(|writer| {
        let kv = kv.clone();
        tokio::spawn(async move { kv.update("k", format!("{writer}").into(), start).await })
    });
    let mut won = Vec::new();
    for (writer, handle) in tries.collect::<Vec<_>>().into_iter().enumerate() {
        match handle.await.unwrap() {
            Ok(revision) => won.push((writer, revision)),
            Err(error) => assert!(error.is_conflict(), "{error}"),
        }
    }
    assert_eq!(won.len(), 1, "{won:?}");
    let entry = kv.get("k").await.unwrap().unwrap();
    assert_eq!((entry.value, entry.revision), (won[0].0.to_string().into(), won[0].1));
}

pub async fn list_is_sorted_filtered_and_without_deleted_keys(bus: SharedBus) {
    let kv = bus.kv(BUCKET_CHAINS);
    assert_eq!(kv.list(None).await, Ok(vec![]));
    for key in ["p2.b", "p1.b", "p1.a", "p1.gone", "p10.a"] {
        kv.put(key, key.into()).await.unwrap();
    }
    kv.put("p1.a", "new".into()).await.unwrap();
    kv.delete("p1.gone", None).await.unwrap();
    let keys = |listed: Vec<(String, Entry)>| {
        listed.into_iter().map(|(key, entry)| format!("{key}={}", String::from_utf8_lossy(&entry.value)))
    };
    let listed = |prefix| {
        let kv = kv.clone();
        async move { keys(kv.list(prefix).await.unwrap()).collect::<Vec<_>>() }
    };
    assert_eq!(listed(None).await, ["p1.a=new", "p1.b=p1.b", "p10.a=p10.a", "p2.b=p2.b"]);
    assert_eq!(listed(Some("p1.")).await, ["p1.a=new", "p1.b=p1.b"]);
    assert_eq!(listed(Some("p1")).await, ["p1.a=new", "p1.b=p1.b", "p10.a=p10.a"]);
    assert_eq!(listed(Some("none")).await, Vec::<String>::new());
    // The newest write of the bucket is a deletion: listing must not wait for a message that shows a value.
    kv.delete("p2.b", None).await.unwrap();
    assert_eq!(listed(Some("p2")).await, Vec::<String>::new());
}

pub async fn bad_keys_are_refused(bus: SharedBus) {
    let kv = bus.kv(BUCKET_SLOTS);
    for key in ["", "a b", ".a", "a.", "a..b", "*", ">", "a*", "ä"] {
        for error in [
            kv.get(key).await.unwrap_err(),
            kv.create(key, Bytes::new()).await.unwrap_err(),
            kv.update(key, Bytes::new(), Revision(1)).await.unwrap_err(),
            kv.put(key, Bytes::new()).await.unwrap_err(),
            kv.delete(key, None).await.unwrap_err(),
        ] {
            assert!(matches!(&error, BusError::InvalidKey { key: named, .. } if named == key), "{error}");
            assert_eq!(error.class(), ErrorClass::Permanent);
        }
    }
    kv.put("A-z/0_9=x.y", "1".into()).await.unwrap();
}

pub async fn values_up_to_the_limit_are_kept_and_larger_ones_refused(bus: SharedBus) {
    let kv = bus.kv(BUCKET_CHAINS);
    let big: Bytes = (0..900 * 1024).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
    let first = kv.create("big", big.clone()).await.unwrap();
    assert_eq!(kv.get("big").await.unwrap().unwrap().value, big);
    assert_eq!(kv.list(None).await.unwrap()[0].1.value, big);
    let huge = Bytes::from(vec![0; 1024 * 1024 + 1]);
    let error = kv.update("big", huge.clone(), first).await.unwrap_err();
    let size_bytes = huge.len();
    assert_eq!(error, BusError::TooLarge { size_bytes, limit_bytes: 1024 * 1024 });
    assert_eq!(error.class(), ErrorClass::Permanent);
    let error = bus.publish_durable("coord.events.p", Default::default(), huge, "id").await.unwrap_err();
    assert!(matches!(error, BusError::TooLarge { .. }), "{error}");
    // The refused message did no harm to the connection.
    assert_eq!(kv.get("big").await.unwrap().unwrap().revision, first);
}

pub async fn a_missing_bucket_is_told(bus: SharedBus) {
    let kv = bus.kv("nothere");
    let missing = BusError::StreamNotFound { stream: "KV_nothere".into() };
    assert_eq!(kv.put("k", Bytes::new()).await, Err(missing.clone()));
    assert_eq!(kv.get("k").await, Err(missing.clone()));
    assert_eq!(kv.watch(None).await.err(), Some(missing.clone()));
    assert_eq!(kv.list(None).await.err(), Some(missing));
}
