//! Promises of watches.

use crate::contract::silence;
use crate::support::next;
use bus::names::BUCKET_SLOTS;
use bus::{Entry, KvEvent, SharedBus, SharedKv};
use std::time::Duration;

pub async fn put(kv: &SharedKv, key: &str, value: &str) -> KvEvent {
    let value = bytes::Bytes::copy_from_slice(value.as_bytes());
    let revision = kv.put(key, value.clone()).await.unwrap();
    KvEvent::Put { key: key.to_owned(), entry: Entry { value, revision } }
}

pub async fn delete(kv: &SharedKv, key: &str) -> KvEvent {
    KvEvent::Delete { key: key.to_owned(), revision: kv.delete(key, None).await.unwrap() }
}

pub async fn state_then_marker_then_changes_in_order(bus: SharedBus) {
    let kv = bus.kv(BUCKET_SLOTS);
    put(&kv, "a", "old").await;
    let b = put(&kv, "b", "1").await;
    let a = put(&kv, "a", "2").await;
    put(&kv, "gone", "x").await;
    delete(&kv, "gone").await;

    let mut watch = kv.watch(None).await.unwrap();
    assert_eq!(next(&mut watch).await, b, "the present state comes in order of revision");
    assert_eq!(next(&mut watch).await, a);
    assert_eq!(next(&mut watch).await, KvEvent::UpToDate);
    silence(&mut watch, Duration::from_millis(50)).await;

    let mut told = Vec::new();
    let mut done = Vec::new();
    for round in 0..5 {
        done.push(put(&kv, "a", &format!("{round}")).await);
        told.push(next(&mut watch).await);
        done.push(delete(&kv, "b").await);
        told.push(next(&mut watch).await);
        done.push(put(&kv, "b", "again").await);
        told.push(next(&mut watch).await);
    }
    assert_eq!(told, done);
}

pub async fn an_empty_bucket_is_up_to_date_at_once(bus: SharedBus) {
    let kv = bus.kv(BUCKET_SLOTS);
    let mut watch = kv.watch(None).await.unwrap();
    assert_eq!(next(&mut watch).await, KvEvent::UpToDate);
    let mut filtered = kv.watch(Some("n1.")).await.unwrap();
    assert_eq!(next(&mut filtered).await, KvEvent::UpToDate);
    // Only a marker left: nothing is there.
    delete(&kv, "n1.k").await;
    let mut after = kv.watch(None).await.unwrap();
    assert_eq!(next(&mut after).await, KvEvent::UpToDate);
}

pub async fn prefixes_are_respected(bus: SharedBus) {
    let kv = bus.kv(BUCKET_SLOTS);
    let one = put(&kv, "n1.a", "1").await;
    let ten = put(&kv, "n10.a", "1").await;
    put(&kv, "n2.a", "1").await;

    let mut by_token = kv.watch(Some("n1.")).await.unwrap();
    let mut by_text = kv.watch(Some("n1")).await.unwrap();
    assert_eq!(next(&mut by_token).await, one);
    assert_eq!(next(&mut by_token).await, KvEvent::UpToDate);
    assert_eq!(next(&mut by_text).await, one);
    assert_eq!(next(&mut by_text).await, ten);
    assert_eq!(next(&mut by_text).await, KvEvent::UpToDate);

    put(&kv, "n2.a", "2").await;
    let gone = delete(&kv, "n10.a").await;
    let one = put(&kv, "n1.b", "3").await;
    assert_eq!(next(&mut by_token).await, one);
    assert_eq!(next(&mut by_text).await, gone);
    assert_eq!(next(&mut by_text).await, one);
}
