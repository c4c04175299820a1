//! Watching a bucket: the present state, a marker, then changes, across reconnections.

use super::Link;
use super::follow::{Follow, Followed, StreamLife};
use super::kv::{Bucket, SETTLED, is_marker};
use crate::error::{BusError, Result};
use crate::key::{Revision, Sequence};
use crate::kv::{Entry, KvEvent, KvWatch};
use crate::retry::Backoff;
use async_nats::jetstream::consumer::DeliverPolicy;
use futures::StreamExt;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Events that wait for a slow reader; beyond them the server waits.
const BUFFER_EVENTS: usize = 256;

struct Watcher {
    link: Arc<Link>,
    bucket: Bucket,
    prefix: String,
    /// Which of the streams that had this name over time.
    life: Option<StreamLife>,
    /// Last revision seen, of any key that the server's filter lets through.
    seen: u64,
    up_to_date: bool,
    /// Keys told before `UpToDate`, whose deletion must be told as well. Empty from then on.
    told: HashSet<String>,
    sender: mpsc::Sender<Result<KvEvent>>,
}

/// Nobody reads any more.
struct Closed;

pub(super) async fn watch(link: Arc<Link>, bucket: Bucket, prefix: &str) -> Result<KvWatch> {
    let (sender, receiver) = mpsc::channel(BUFFER_EVENTS);
    let (prefix, told) = (prefix.to_owned(), HashSet::new());
    let mut watcher = Watcher { link, bucket, prefix, life: None, seen: 0, up_to_date: false, told, sender };
    // Opened once before returning, so that a missing bucket is told to the caller.
    let first = watcher.open().await?;
    let task = AbortOnDropHandle::new(tokio::spawn(async move { watcher.run(first).await }));
    let next = |(mut receiver, task): (mpsc::Receiver<Result<KvEvent>>, AbortOnDropHandle<()>)| async move {
        receiver.recv().await.map(|event| (event, (receiver, task)))
    };
    Ok(futures::stream::unfold((receiver, task), next).boxed())
}

/// A consumer, and the sequence whose sight proves that the state is complete.
struct Opened {
    follow: Follow,
    target: u64,
}

impl Watcher {
    /// Only a whole token can be filtered by the server; otherwise it sends the whole bucket.
    fn server_prefix(&self) -> &str {
        if self.prefix.ends_with('.') { &self.prefix } else { "" }
    }

    async fn open(&mut self) -> Result<Opened> {
        let stream = &self.bucket.stream;
        let info = self.link.stream_info(stream).await?;
        let (life, state) = (StreamLife::of(&info), info.state);
        let found = state.last_sequence;
        if found < self.seen || self.life.replace(life).is_some_and(|before| before != life) {
            let (name, seen) = (self.bucket.name.clone(), Sequence(self.seen));
            return Err(BusError::HistoryLost { name, seen, found: Sequence(found) });
        }
        let policy = match self.seen {
            0 => DeliverPolicy::LastPerSubject,
            seen => DeliverPolicy::ByStartSequence { start_sequence: seen + 1 },
        };
        let filter = self.bucket.filter(self.server_prefix());
        let follow = Follow::open(self.link.clone(), stream, &filter, policy).await?;
        let complete = state.messages == 0 || (!self.server_prefix().is_empty() && follow.pending == 0);
        Ok(Opened { follow, target: if complete { 0 } else { found } })
    }

    async fn run(&mut self, first: Opened) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
        let mut opened = Ok(first);
        loop {
            let error = match opened {
                Ok(opened) => {
                    backoff.reset();
                    match self.follow(opened).await {
                        Ok(Closed) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            if !error.is_transient() {
                // A reader that left meanwhile need not know.
                let _ = self.sender.send(Err(error)).await;
                return;
            }
            let delay = backoff.delay();
            tracing::debug!(bucket = self.bucket.name, %error, seen = self.seen, "watch goes on anew");
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.sender.closed() => return,
            }
            opened = self.open().await;
        }
    }

    async fn follow(&mut self, opened: Opened) -> Result<Closed> {
        let Opened { mut follow, target } = opened;
        // With a filter the newest message of the bucket may never come; then nothing pending is the end.
        let filtered = !self.server_prefix().is_empty();
        let mut settled = target == 0;
        loop {
            if !self.up_to_date && (settled || self.seen >= target) {
                self.up_to_date = true;
                self.told = HashSet::new();
                if self.sender.send(Ok(KvEvent::UpToDate)).await.is_err() {
                    return Ok(Closed);
                }
            }
            let sender = self.sender.clone();
            let followed = tokio::select! {
                followed = follow.next() => followed?,
                () = tokio::time::sleep(SETTLED), if !self.up_to_date && follow.pending == 0 => {
                    settled = true;
                    continue;
                }
                () = sender.closed() => {
                    follow.close().await;
                    return Ok(Closed);
                }
            };
            settled |= filtered && follow.pending == 0;
            if self.tell(followed).await.is_err() {
                follow.close().await;
                return Ok(Closed);
            }
        }
    }

    async fn tell(&mut self, followed: Followed) -> std::result::Result<(), Closed> {
        let Followed { message, sequence } = followed;
        self.seen = sequence;
        let Some(key) = self.bucket.key(&message.subject).filter(|key| key.starts_with(&self.prefix)) else {
            return Ok(());
        };
        let (key, revision) = (key.to_owned(), Revision(sequence));
        let event = if is_marker(message.headers.as_ref()) {
            if !self.up_to_date && !self.told.remove(&key) {
                return Ok(());
            }
            KvEvent::Delete { key, revision }
        } else {
            if !self.up_to_date {
                self.told.insert(key.clone());
            }
            KvEvent::Put { key, entry: Entry { value: message.payload, revision } }
        };
        self.sender.send(Ok(event)).await.map_err(|_| Closed)
    }
}
