//! Promises of core messages and of the bus as a whole.

use crate::support::LONG;
use bus::{BusError, BusLayout, Headers, SharedBus};
use futures::StreamExt;
use std::time::{Duration, Instant};
use tokio::time::timeout;

pub async fn subscribers_get_subject_headers_and_payload(bus: SharedBus) {
    let mut all = bus.subscribe("coord.beats.>").await.unwrap();
    let mut one = bus.subscribe("coord.beats.n1").await.unwrap();
    let headers = Headers::from_iter([("traceparent", "00-a-b-01"), ("X-Case", "Kept")]);
    bus.publish("coord.beats.n2", Headers::new(), "2".into()).await.unwrap();
    bus.publish("coord.beats.n1", headers.clone(), "1".into()).await.unwrap();
    let first = timeout(LONG, all.next()).await.unwrap().unwrap();
    assert_eq!((first.subject.as_str(), &first.payload[..]), ("coord.beats.n2", &b"2"[..]));
    assert_eq!((first.headers, first.reply), (Headers::new(), None));
    for stream in [&mut all, &mut one] {
        let message = timeout(LONG, stream.next()).await.unwrap().unwrap();
        assert_eq!((message.subject.as_str(), &message.payload[..]), ("coord.beats.n1", &b"1"[..]));
        assert_eq!(message.headers, headers);
    }
    let wildcard = bus.publish("coord.beats.*", Headers::new(), "x".into()).await.unwrap_err();
    assert!(matches!(wildcard, BusError::InvalidSubject { .. }), "{wildcard}");
}

pub async fn requests_are_answered_refused_or_time_out(bus: SharedBus) {
    let ask = |wait| bus.request("coord.ask", Headers::new(), "ping".into(), wait);
    let nobody = ask(LONG).await.unwrap_err();
    assert_eq!(nobody, BusError::NoResponders { subject: "coord.ask".into() });

    let mut questions = bus.subscribe("coord.ask").await.unwrap();
    let start = Instant::now();
    let late = ask(Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(late, BusError::TimedOut { after_ms: 200, .. }), "{late}");
    assert!(start.elapsed() < LONG / 2);
    let unanswered = timeout(LONG, questions.next()).await.unwrap().unwrap();
    assert!(unanswered.reply.is_some());

    let server = async {
        let question = timeout(LONG, questions.next()).await.unwrap().unwrap();
        let answer = [&question.payload[..], b"-pong"].concat();
        bus.respond(&question, Headers::from_iter([("a", "b")]), answer.into()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(ask(LONG), server);
    let answer = answer.unwrap();
    assert_eq!(answer.payload, "ping-pong");
    assert_eq!(answer.headers.get("a"), Some("b"));
}

pub async fn ensure_may_be_repeated_and_changed(bus: SharedBus) {
    let mut layout = BusLayout::default();
    let revision = bus.kv("slots").put("k", "v".into()).await.unwrap();
    bus.ensure(&layout).await.unwrap();
    layout.streams[1].max_age = Duration::from_secs(3600);
    layout.streams[1].subjects.push("coord.more.>".to_owned());
    layout.buckets.push("extra".to_owned());
    let (one, two) = tokio::join!(bus.ensure(&layout), bus.ensure(&layout));
    one.unwrap();
    two.unwrap();
    bus.publish_durable("coord.more.x", Headers::new(), "1".into(), "id").await.unwrap();
    bus.kv("extra").put("k", "v".into()).await.unwrap();
    assert_eq!(bus.kv("slots").get("k").await.unwrap().unwrap().revision, revision, "nothing was lost");
}

pub async fn info_tells_of_the_other_end(bus: SharedBus) {
    let info = bus.info().await.unwrap();
    assert!(!info.server_version.is_empty());
    assert_eq!(info.cluster_size, 1);
    assert!(info.rtt < Duration::from_secs(2));
    assert!(bus.is_connected());
}
