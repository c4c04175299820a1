//! The audit stream: what was changed, by whom, told once the change is written.

use super::client::Client;
use common::ids::Revision;
use common::messages::Event;
use common::node::{DecidedBy, NodeRecord, NodeStanding};
use common::units::UnixMs;
use coordinator_core::Note;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Notes that may wait to be told; more are dropped.
const WAITING_MAX: usize = 256;

/// Tells, beside the loop, what others did.
pub(super) fn teller(client: Client) -> (mpsc::Sender<(Note, Revision)>, impl Future<Output = ()>) {
    let (to, mut notes) = mpsc::channel::<(Note, Revision)>(WAITING_MAX);
    let telling = async move {
        while let Some((note, written)) = notes.recv().await {
            tell(&client, &[note], written).await;
        }
    };
    (to, telling)
}

/// To the log and to the audit stream. Tracking never holds up a job: what can not be told is dropped.
/// `written` is the revision of the change, which makes a repeated telling harmless.
pub async fn tell(client: &Client, notes: &[Note], written: Revision) {
    for (i, note) in notes.iter().enumerate() {
        tracing::info!(job = %note.job.name, plan = %note.job.plan, attempt = note.attempt.map(|a| a.0),
            node = note.node.as_ref().map(|n| n.as_str()), kind = note.kind.as_str(), "{}", note.text);
        let event = Event {
            at: now(),
            job: Some(note.job.clone()),
            attempt: note.attempt,
            node: note.node.clone(),
            kind: note.kind.as_str().to_owned(),
            text: note.text.clone(),
            traceparent: note.traceparent.clone(),
        };
        // With the kind: revisions of two buckets may be equal.
        let id = format!("{}.{}.{}.{i}", note.job, note.kind.as_str(), written.0);
        if let Err(e) = client.publish_event(&event, &id).await {
            tracing::warn!(error = %e, "event not published");
        }
    }
}

/// What was decided about a node.
pub async fn tell_decision(client: &Client, record: &NodeRecord, written: Revision) {
    let kind = match record.standing {
        NodeStanding::Open => "uncordoned",
        other => other.as_str(),
    };
    match record.by {
        DecidedBy::Coordinator => tracing::warn!(node = %record.node, kind, "{}", record.reason),
        DecidedBy::Operator => tracing::info!(node = %record.node, kind, "{}", record.reason),
    }
    let event = Event {
        at: now(),
        job: None,
        attempt: None,
        node: Some(record.node.clone()),
        kind: kind.to_owned(),
        text: record.reason.clone(),
        traceparent: None,
    };
    if let Err(e) = client.publish_event(&event, &format!("{}.{kind}.{}", record.node, written.0)).await {
        tracing::warn!(error = %e, "event not published");
    }
}

/// Wall-clock time, for records and for people.
pub fn now() -> UnixMs {
    UnixMs(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64))
}
