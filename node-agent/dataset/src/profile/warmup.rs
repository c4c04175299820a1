//! A profile from the first messages of a capture.

use super::{GAP_MIN_S, IdProfile, VehicleProfile, distance};
use crate::frames::Frame;

/// An id that is first heard in the second half came with something else than the car's start, unless it is slow:
/// with so many messages it is no id of the vehicle, but may be the beginning of an attack.
const LATE_MESSAGES: u32 = 8;
/// More messages a second over the whole warm-up no id of a vehicle has (the fastest clocks tick every 5 to 10 ms),
/// but a flood has.
const RATE_MAX_PER_S: f64 = 400.0;
/// So many messages of one id are no flood, however short the warm-up.
const FEW_MESSAGES: f64 = 50.0;

/// What is gathered of one id.
#[derive(Default)]
struct Heard {
    profile: IdProfile,
    gaps_s: Vec<f64>,
    count: u32,
    first_s: f64,
}

#[derive(Default)]
pub(super) struct Warmup {
    ids: Vec<Heard>,
    first_s: Option<f64>,
    last_s: f64,
}

impl Warmup {
    pub(super) fn add(&mut self, dense: u32, frame: &Frame) {
        self.first_s.get_or_insert(frame.timestamp_s);
        self.last_s = frame.timestamp_s;
        if self.ids.len() <= dense as usize {
            self.ids.resize_with(dense as usize + 1, Heard::default);
        }
        let heard = &mut self.ids[dense as usize];
        let id = &mut heard.profile;
        if heard.count == 0 {
            heard.first_s = frame.timestamp_s;
        } else {
            heard.gaps_s.push((frame.timestamp_s - id.last_s).max(GAP_MIN_S));
            for byte in 0..8 {
                id.reach[byte] = id.reach[byte].max(distance(id.last[byte], frame.payload[byte]));
            }
        }
        heard.count += 1;
        id.last_s = frame.timestamp_s;
        id.last = frame.payload;
        id.len = frame.len;
    }

    pub(super) fn finish(self) -> VehicleProfile {
        let first_s = self.first_s.unwrap_or(self.last_s);
        let span_s = (self.last_s - first_s).max(GAP_MIN_S);
        let mut profile = VehicleProfile::default();
        for (dense, mut heard) in (0u32..).zip(self.ids) {
            let is_late = heard.first_s - first_s > span_s / 2.0 && heard.count >= LATE_MESSAGES;
            let is_flood = f64::from(heard.count) > RATE_MAX_PER_S * span_s + FEW_MESSAGES;
            if heard.count > 0 && !is_late && !is_flood {
                profile.members.push(dense);
                heard.gaps_s.sort_unstable_by(f64::total_cmp);
                let middle = heard.gaps_s.get(heard.gaps_s.len() / 2);
                heard.profile.heard_once = middle.is_none();
                // Heard once: the period is at least the longer of the silences before and after.
                let silence_s = (heard.first_s - first_s).max(self.last_s - heard.first_s);
                heard.profile.period_s = middle.copied().unwrap_or(silence_s).max(GAP_MIN_S);
            }
            // The same messages are judged next: what was last seen is not yet seen.
            profile.ids.push(IdProfile { seen: false, ..heard.profile });
        }
        // Nothing is overdue at the beginning.
        for id in &mut profile.ids {
            id.last_s = first_s;
        }
        profile
    }
}
