//! Durable streams in memory: what is stored, for how long, and which ids were seen.

use super::consumer::ConsumerState;
use crate::bus::Message;
use crate::headers::Headers;
use crate::key::{Sequence, subject_matches};
use crate::layout::StreamLayout;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, VecDeque};
use tokio::time::Instant;

#[derive(Clone)]
pub(super) struct Stored {
    pub subject: String,
    pub headers: Headers,
    pub payload: Bytes,
    at: Instant,
}

pub(super) struct StoredStream {
    pub layout: StreamLayout,
    pub messages: BTreeMap<Sequence, Stored>,
    pub consumers: HashMap<String, ConsumerState>,
    last: u64,
    per_subject: HashMap<String, VecDeque<Sequence>>,
    ids: HashMap<String, (Sequence, Instant)>,
}

impl StoredStream {
    pub fn new(layout: StreamLayout) -> Self {
        Self {
            layout,
            messages: BTreeMap::new(),
            consumers: HashMap::new(),
            last: 0,
            per_subject: HashMap::new(),
            ids: HashMap::new(),
        }
    }

    pub fn last(&self) -> Sequence {
        Sequence(self.last)
    }

    pub fn takes(&self, subject: &str) -> bool {
        self.layout.subjects.iter().any(|filter| subject_matches(filter, subject))
    }

    /// Stores the message, or returns the sequence it already has under `msg_id`.
    pub fn append(&mut self, message: &Message, msg_id: Option<&str>) -> Sequence {
        let now = Instant::now();
        let window = self.layout.duplicate_window;
        self.ids.retain(|_, (_, at)| now.duration_since(*at) < window);
        if let Some((sequence, _)) = msg_id.and_then(|id| self.ids.get(id)) {
            return *sequence;
        }
        self.last += 1;
        let sequence = Sequence(self.last);
        if let Some(id) = msg_id {
            self.ids.insert(id.to_owned(), (sequence, now));
        }
        let (subject, headers) = (message.subject.clone(), message.headers.clone());
        let stored = Stored { subject, headers, payload: message.payload.clone(), at: now };
        self.messages.insert(sequence, stored);
        self.per_subject.entry(message.subject.clone()).or_default().push_back(sequence);
        self.drop_old(now, &message.subject);
        sequence
    }

    fn drop_old(&mut self, now: Instant, subject: &str) {
        if let Some(most) = self.layout.max_messages_per_subject
            && let Some(kept) = self.per_subject.get_mut(subject)
        {
            while kept.len() > most as usize {
                kept.pop_front().and_then(|oldest| self.messages.remove(&oldest));
            }
        }
        let max_age = self.layout.max_age;
        while let Some(oldest) = self.messages.first_entry() {
            if now.duration_since(oldest.get().at) < max_age {
                break;
            }
            let (sequence, stored) = oldest.remove_entry();
            if let Some(kept) = self.per_subject.get_mut(&stored.subject) {
                kept.retain(|s| *s != sequence);
            }
        }
    }
}
