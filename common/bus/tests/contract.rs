//! What every bus owes its users, run against the real server and against the twin in memory.
//! One test per promise and kind; the promises are in `contract/`, the real server in `support/`.

mod contract {
    use futures::{Stream, StreamExt};
    use std::time::Duration;

    pub mod core;
    pub mod kv;
    pub mod stream;
    pub mod watch;

    /// Nothing may come within `wait`.
    pub async fn silence<T: std::fmt::Debug>(
        stream: &mut (impl Stream<Item = bus::Result<T>> + Unpin),
        wait: Duration,
    ) {
        if let Ok(item) = tokio::time::timeout(wait, stream.next()).await {
            panic!("unexpected: {item:?}");
        }
    }
}
mod support;

use bus::{Bus, BusLayout, MemoryBus, SharedBus};
use std::sync::Arc;

async fn memory_bus() -> SharedBus {
    let bus = Arc::new(MemoryBus::new());
    bus.ensure(&BusLayout::default()).await.unwrap();
    bus
}

macro_rules! contract {
    ($($room:ident :: $promise:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $promise() {
                let bus = crate::memory_bus().await;
                crate::contract::$room::$promise(bus).await;
            })*
        }
        mod nats {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $promise() {
                let server = crate::support::nats().await;
                crate::contract::$room::$promise(server.bus().await).await;
                server.stop().await;
            })*
        }
    };
}

contract! {
    kv::create_refuses_what_exists_and_accepts_what_was_deleted,
    kv::a_bucket_tells_when_it_was_made,
    kv::update_needs_the_revision_in_force,
    kv::a_key_can_be_created_on_condition_that_the_bucket_did_not_move,
    kv::delete_can_be_conditional,
    kv::of_many_writers_with_one_revision_one_wins,
    kv::list_is_sorted_filtered_and_without_deleted_keys,
    kv::bad_keys_are_refused,
    kv::values_up_to_the_limit_are_kept_and_larger_ones_refused,
    kv::a_missing_bucket_is_told,
    watch::state_then_marker_then_changes_in_order,
    watch::an_empty_bucket_is_up_to_date_at_once,
    watch::prefixes_are_respected,
    stream::the_same_message_id_is_stored_once,
    stream::what_is_not_acknowledged_comes_again_with_its_count,
    stream::progress_puts_redelivery_off,
    stream::a_late_ack_is_not_fenced,
    stream::a_nak_comes_again_after_its_delay,
    stream::filters_choose_by_subject,
    stream::two_readers_of_a_durable_share,
    stream::new_means_from_now,
    stream::a_durable_goes_on_where_it_stood,
    stream::old_messages_of_a_subject_give_way,
    stream::publishing_without_a_stream_is_told,
    core::subscribers_get_subject_headers_and_payload,
    core::requests_are_answered_refused_or_time_out,
    core::ensure_may_be_repeated_and_changed,
    core::info_tells_of_the_other_end,
}
