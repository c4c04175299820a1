//! Promises of durable streams.

use crate::contract::silence;
use crate::support::next;
use bus::names::{STREAM_EVENTS, STREAM_JOBS};
use bus::{BusError, BusLayout, ConsumerSpec, Deliver, ErrorClass, Headers, Sequence, SharedBus};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(400);

async fn publish(bus: &SharedBus, subject: &str, text: &'static str) -> Sequence {
    let id = format!("{subject} {text}");
    bus.publish_durable(subject, Headers::new(), text.into(), &id).await.unwrap()
}

pub async fn the_same_message_id_is_stored_once(bus: SharedBus) {
    let headers = Headers::from_iter([("traceparent", "00-1-2-01")]);
    let subject = "coord.jobs.n1";
    let first = bus.publish_durable(subject, headers.clone(), "1".into(), "job.1.0").await.unwrap();
    let again = bus.publish_durable(subject, headers.clone(), "1".into(), "job.1.0").await.unwrap();
    let other = bus.publish_durable(subject, Headers::new(), "2".into(), "job.1.1").await.unwrap();
    assert_eq!(first, again);
    assert!(other > first);

    let mut deliveries = bus.consume(ConsumerSpec::new(STREAM_JOBS)).await.unwrap();
    let delivery = next(&mut deliveries).await;
    assert_eq!((delivery.subject.as_str(), &delivery.payload[..]), (subject, &b"1"[..]));
    assert_eq!(delivery.headers, headers, "what the server adds is not ours");
    assert_eq!((delivery.sequence, delivery.redelivered), (first, 0));
    assert_eq!(next(&mut deliveries).await.sequence, other);
    silence(&mut deliveries, Duration::from_millis(50)).await;
}

pub async fn what_is_not_acknowledged_comes_again_with_its_count(bus: SharedBus) {
    publish(&bus, "coord.events.n1", "acked").await;
    let sequence = publish(&bus, "coord.events.n1", "held").await;
    let spec = ConsumerSpec::new(STREAM_EVENTS).durable("coordinator").ack_wait(SHORT);
    let mut deliveries = bus.consume(spec).await.unwrap();
    next(&mut deliveries).await.ack_confirmed().await.unwrap();
    let start = Instant::now();
    for count in 0..3 {
        let delivery = next(&mut deliveries).await;
        assert_eq!((delivery.sequence, delivery.redelivered), (sequence, count));
        if count == 2 {
            assert!(start.elapsed() >= SHORT * 2, "it came again after {:?}", start.elapsed());
            delivery.ack_confirmed().await.unwrap();
        }
    }
    silence(&mut deliveries, SHORT * 2).await;
}

pub async fn progress_puts_redelivery_off(bus: SharedBus) {
    publish(&bus, "coord.jobs.n1", "long").await;
    let mut deliveries = bus.consume(ConsumerSpec::new(STREAM_JOBS).ack_wait(SHORT)).await.unwrap();
    let delivery = next(&mut deliveries).await;
    for _ in 0..4 {
        silence(&mut deliveries, SHORT / 2).await;
        delivery.in_progress().await.unwrap();
    }
    delivery.ack_confirmed().await.unwrap();
    silence(&mut deliveries, SHORT * 2).await;
}

pub async fn a_late_ack_is_not_fenced(bus: SharedBus) {
    publish(&bus, "coord.events.n1", "x").await;
    let spec = ConsumerSpec::new(STREAM_EVENTS).durable("coordinator").ack_wait(SHORT);
    let mut slow = bus.consume(spec.clone()).await.unwrap();
    let held_too_long = next(&mut slow).await;
    drop(slow);
    let mut other = bus.consume(spec).await.unwrap();
    let taken_over = next(&mut other).await;
    assert_eq!((taken_over.sequence, taken_over.redelivered), (held_too_long.sequence, 1));
    // Accepted, and the message is gone from under its new holder. Rights must not rest on this.
    held_too_long.ack_confirmed().await.unwrap();
    silence(&mut other, SHORT * 2).await;
    taken_over.ack().await.unwrap();
}

pub async fn a_nak_comes_again_after_its_delay(bus: SharedBus) {
    publish(&bus, "coord.jobs.n1", "later").await;
    let mut deliveries = bus.consume(ConsumerSpec::new(STREAM_JOBS)).await.unwrap();
    let start = Instant::now();
    next(&mut deliveries).await.nak(SHORT).await.unwrap();
    let again = next(&mut deliveries).await;
    assert_eq!(again.redelivered, 1);
    assert!(start.elapsed() >= SHORT.mul_f64(0.9), "it came again after {:?}", start.elapsed());
    again.ack_confirmed().await.unwrap();
}

pub async fn filters_choose_by_subject(bus: SharedBus) {
    publish(&bus, "coord.jobs.n1", "a").await;
    publish(&bus, "coord.jobs.n2", "b").await;
    publish(&bus, "coord.jobs.n1", "c").await;
    let filtered = ConsumerSpec::new(STREAM_JOBS).filter("coord.jobs.n1");
    let mut deliveries = bus.consume(filtered).await.unwrap();
    for wanted in ["a", "c"] {
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.payload, wanted);
        delivery.ack().await.unwrap();
    }
    publish(&bus, "coord.jobs.n2", "d").await;
    silence(&mut deliveries, Duration::from_millis(100)).await;
    publish(&bus, "coord.jobs.n1", "e").await;
    assert_eq!(next(&mut deliveries).await.payload, "e");
    let bad = bus.consume(ConsumerSpec::new(STREAM_JOBS).filter("coord..n1")).await.err().unwrap();
    assert!(matches!(bad, BusError::InvalidSubject { .. }), "{bad}");
}

pub async fn two_readers_of_a_durable_share(bus: SharedBus) {
    let mut spec = ConsumerSpec::new(STREAM_EVENTS).durable("coordinator");
    spec.buffer = 1;
    let mut one = bus.consume(spec.clone()).await.unwrap();
    let mut two = bus.consume(spec).await.unwrap();
    let mut sent = BTreeSet::new();
    for number in 0..20 {
        let id = format!("{number}");
        let stored = bus.publish_durable("coord.events.n1", Headers::new(), id.clone().into(), &id).await;
        sent.insert(stored.unwrap());
    }
    let mut seen = BTreeSet::new();
    let mut counts = [0, 0];
    for _ in 0..20 {
        let (reader, delivery) = tokio::select! {
            delivery = next(&mut one) => (0, delivery),
            delivery = next(&mut two) => (1, delivery),
        };
        delivery.ack_confirmed().await.unwrap();
        assert!(seen.insert(delivery.sequence), "message {} came to both", delivery.sequence);
        counts[reader] += 1;
    }
    assert_eq!(seen, sent);
    assert!(counts.iter().all(|count| *count > 0), "one reader got nothing: {counts:?}");
}

pub async fn new_means_from_now(bus: SharedBus) {
    publish(&bus, "coord.events.p", "before").await;
    let mut fresh = bus.consume(ConsumerSpec::new(STREAM_EVENTS).deliver(Deliver::New)).await.unwrap();
    let after = publish(&bus, "coord.events.p", "after").await;
    assert_eq!(next(&mut fresh).await.sequence, after);
    let from = |sequence| ConsumerSpec::new(STREAM_EVENTS).deliver(Deliver::FromSequence(sequence));
    let mut present = bus.consume(from(after)).await.unwrap();
    assert_eq!(next(&mut present).await.sequence, after);
    let mut future = bus.consume(from(Sequence(after.0 + 2))).await.unwrap();
    publish(&bus, "coord.events.p", "too early").await;
    let wanted = publish(&bus, "coord.events.p", "wanted").await;
    assert_eq!(next(&mut future).await.sequence, wanted);
}

pub async fn a_durable_goes_on_where_it_stood(bus: SharedBus) {
    let spec = ConsumerSpec::new(STREAM_EVENTS).durable("coordinator");
    publish(&bus, "coord.events.n1", "a").await;
    let mut first = bus.consume(spec.clone()).await.unwrap();
    next(&mut first).await.ack_confirmed().await.unwrap();
    drop(first);
    let sequence = publish(&bus, "coord.events.n1", "b").await;
    let mut second = bus.consume(spec).await.unwrap();
    assert_eq!(next(&mut second).await.sequence, sequence);
}

pub async fn old_messages_of_a_subject_give_way(bus: SharedBus) {
    let mut layout = BusLayout::default();
    layout.streams[0].max_messages_per_subject = Some(2);
    bus.ensure(&layout).await.unwrap();
    for text in ["1", "2", "3"] {
        publish(&bus, "coord.jobs.n1", text).await;
    }
    publish(&bus, "coord.jobs.n2", "4").await;
    let mut deliveries = bus.consume(ConsumerSpec::new(STREAM_JOBS)).await.unwrap();
    for wanted in ["2", "3", "4"] {
        assert_eq!(next(&mut deliveries).await.payload, wanted);
    }
}

pub async fn publishing_without_a_stream_is_told(bus: SharedBus) {
    let sent = bus.publish_durable("coord.elsewhere.n1", Headers::new(), "x".into(), "id").await;
    let error = sent.unwrap_err();
    assert_eq!(error, BusError::StreamNotFound { stream: "coord.elsewhere.n1".into() });
    assert_eq!(error.class(), ErrorClass::Transient);
    let error = bus.consume(ConsumerSpec::new("nothere")).await.err().unwrap();
    assert_eq!(error, BusError::StreamNotFound { stream: "nothere".into() });
}
