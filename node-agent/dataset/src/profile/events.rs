//! Messages sent on events, in varied copies of training captures.
//!
//! Slow messages are often sent by a clock *and* at once when something happens, a few times in a row (the mixed
//! transmission mode of AUTOSAR COM). A parked or steadily driven car hardly shows that, and a classifier that has
//! not seen it takes each such message for an injected one.

use std::collections::VecDeque;

use oorandom::Rand64;

use super::VehicleProfile;
use crate::frames::Frame;

/// Label of an added message while graphs are built: the window is benign and unlike the original's.
pub(crate) const ADDED: u8 = 2;

/// Ids at least so slow may have events.
pub(super) const MIXED_PERIOD_S: f64 = 0.05;
/// Share of them that have.
const MIXED_SHARE: f64 = 0.5;
/// Seconds between an id's events, at most.
const PAUSE_MAX_S: f64 = 4.0;
/// An event's messages follow each other after so many seconds: a usual minimum delay up to half the period.
const DELAY_MIN_S: f64 = 0.010;
const DELAY_MAX_S: f64 = 0.060;
const REPEATS_MAX: u64 = 4;

/// Event messages of one capture.
pub(super) struct Events {
    ids: Vec<Mixed>,
    /// Messages to come, by time.
    due: VecDeque<(f64, usize)>,
}

struct Mixed {
    dense: u32,
    next_s: f64,
    /// Data byte that an event changes, and to what.
    byte: usize,
    value: u8,
}

impl Events {
    /// Chooses ids of the profile; `now_s` is the time of the capture's first message.
    pub(super) fn new(profile: &VehicleProfile, now_s: f64, rng: &mut Rand64) -> Self {
        let mut ids = Vec::new();
        for &dense in &profile.members {
            let id = &profile.ids[dense as usize];
            if !id.heard_once && id.period_s >= MIXED_PERIOD_S && rng.rand_float() < MIXED_SHARE {
                let byte = rng.rand_range(0..u64::from(id.len.max(1))) as usize;
                let next_s = now_s + rng.rand_float() * PAUSE_MAX_S;
                ids.push(Mixed { dense, next_s, byte, value: rng.rand_u64() as u8 });
            }
        }
        Self { ids, due: VecDeque::new() }
    }

    /// Event messages that come before a message of the time `now_s`, as (dense id, message).
    pub(super) fn before(
        &mut self,
        now_s: f64,
        profile: &VehicleProfile,
        rng: &mut Rand64,
        out: &mut Vec<(u32, Frame)>,
    ) {
        for (at, mixed) in self.ids.iter_mut().enumerate() {
            if now_s < mixed.next_s {
                continue;
            }
            let delay = DELAY_MIN_S + rng.rand_float() * (DELAY_MAX_S - DELAY_MIN_S);
            let delay = delay.min(profile.ids[mixed.dense as usize].period_s / 2.0);
            for repeat in 0..=rng.rand_range(0..REPEATS_MAX) {
                self.due.push_back((now_s + delay * repeat as f64, at));
            }
            mixed.next_s = now_s + rng.rand_float() * PAUSE_MAX_S;
            mixed.value = mixed.value.wrapping_add(rng.rand_range(1..255) as u8);
        }
        self.due.make_contiguous().sort_by(|a, b| a.0.total_cmp(&b.0));
        while let Some(&(timestamp_s, at)) = self.due.front().filter(|(due_s, _)| *due_s <= now_s) {
            self.due.pop_front();
            let mixed = &self.ids[at];
            let id = &profile.ids[mixed.dense as usize];
            let mut payload = id.last;
            payload[mixed.byte] = mixed.value;
            let frame = Frame { timestamp_s, id: 0, payload, len: id.len, label: ADDED };
            out.push((mixed.dense, frame));
        }
    }
}
