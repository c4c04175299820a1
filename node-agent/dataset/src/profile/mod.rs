//! What is normal for the vehicle a capture comes from, learned from the first messages of the capture itself.
//!
//! A detector that knows vehicles by their arbitration ids calls every message of another vehicle strange. Here a
//! message is described by how it differs from what its own vehicle did before: is its id one of the profile, does
//! it come early or late against the id's period, do its data bytes jump further than they did so far. These
//! figures mean the same in every vehicle.
//!
//! The first messages of a capture ([`ProfileConfig::messages`]) are presumed benign: ids and periods are taken from
//! them and stay. An id that appears later is a stranger for the rest of the capture, whoever sends it. How far
//! data bytes move goes on being learned, from messages that come on time, since a parked car says little about a
//! moving one. Everything is causal: a message is judged by what lies before it, but for the first ones, which are
//! judged once all of them are there.

mod events;
mod variation;
mod warmup;

use serde::{Deserialize, Serialize};

use crate::frames::Frame;
pub(crate) use events::ADDED;
pub(crate) use variation::Variation;
use warmup::Warmup;

/// Roles of nodes in place of ids: octaves of the period, 1 ms to 2 s, and strangers as the last one.
pub const ROLES: u32 = 13;
/// Role of an id outside the profile.
pub(crate) const STRANGER: u32 = ROLES - 1;

/// Times are recorded with microseconds, and now and then step back.
const GAP_MIN_S: f64 = 1e-5;
/// A message within this many octaves of its period is on time. Benign messages stay within half of it.
const ON_TIME_OCTAVES: f32 = 0.5;
/// Lateness is cut here: sixteen times too early or too late.
const LATENESS_LIMIT: f32 = 4.0;

/// How the profile of a vehicle is learned. Semantic: a change makes other graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileConfig {
    /// First messages of a capture that make the profile.
    pub messages: u32,
}

impl Default for ProfileConfig {
    fn default() -> Self {
        Self { messages: 4_000 }
    }
}

/// One id of the vehicle.
#[derive(Debug, Clone, Copy, Default)]
struct IdProfile {
    /// Usual seconds between two messages; 0 = not in the profile.
    period_s: f64,
    /// Usual number of data bytes.
    len: u8,
    seen: bool,
    /// Heard once while learning: the period is only known to be at least `period_s`.
    heard_once: bool,
    last_s: f64,
    last: [u8; 8],
    /// Furthest that each data byte has moved between two messages, on the circle of 256 values (counters wrap).
    reach: [u8; 8],
}

/// How one message differs from its vehicle's normal.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Mark {
    /// log2(time since the id's last message / its period): below 0 early, above 0 late; 0 for strangers.
    pub(crate) lateness: f32,
    /// Share of data bytes that moved further than they ever did.
    pub(crate) jump: f32,
    /// The number of data bytes is not the id's.
    pub(crate) odd_len: bool,
}

/// Profile of one vehicle.
#[derive(Default)]
pub(crate) struct VehicleProfile {
    /// By the capture's dense number of the id.
    ids: Vec<IdProfile>,
    /// Numbers of the ids in the profile.
    members: Vec<u32>,
}

impl VehicleProfile {
    /// Learns ids, periods, lengths and reaches from the capture's first messages; `dense` numbers their ids.
    pub(crate) fn learn(frames: impl Iterator<Item = Frame>, mut dense: impl FnMut(u32) -> u32) -> Self {
        let mut warmup = Warmup::default();
        frames.for_each(|frame| warmup.add(dense(frame.id), &frame));
        warmup.finish()
    }

    /// Judges the next message of the capture, then learns from it.
    pub(crate) fn mark(&mut self, dense: u32, frame: &Frame) -> Mark {
        if self.ids.len() <= dense as usize {
            self.ids.resize(dense as usize + 1, IdProfile::default());
        }
        let id = &mut self.ids[dense as usize];
        let known = id.period_s > 0.0;
        let mut mark = Mark { odd_len: known && frame.len != id.len, ..Mark::default() };
        if known && id.seen {
            let gap = (frame.timestamp_s - id.last_s).max(GAP_MIN_S);
            let latest = if id.heard_once { 0.0 } else { LATENESS_LIMIT };
            mark.lateness = ((gap / id.period_s).log2() as f32).clamp(-LATENESS_LIMIT, latest);
            mark.jump = id.move_to(frame, mark.lateness.abs() <= ON_TIME_OCTAVES);
        }
        id.seen = true;
        id.last_s = frame.timestamp_s;
        id.last = frame.payload;
        mark
    }

    /// Takes an id out of the profile.
    fn forget(&mut self, dense: u32) {
        self.members.retain(|&member| member != dense);
        self.ids[dense as usize].period_s = 0.0;
    }

    /// Usual seconds between two messages of the id; none if it is not in the profile.
    pub(crate) fn period_s(&self, dense: u32) -> Option<f64> {
        self.ids.get(dense as usize).map(|id| id.period_s).filter(|&period| period > 0.0)
    }

    /// Role of an id's node.
    pub(crate) fn role(&self, dense: u32) -> u32 {
        self.period_s(dense).map_or(STRANGER, |period| {
            let octave = (period * 1e3).log2().floor();
            octave.clamp(0.0, f64::from(STRANGER - 1)) as u32
        })
    }

    /// Share of the profile's ids that have not been heard for more than `periods` of their periods at `now_s`.
    pub(crate) fn overdue(&self, now_s: f64, periods: f64) -> f32 {
        let late = |&&dense: &&u32| {
            let id = &self.ids[dense as usize];
            !id.heard_once && now_s - id.last_s > periods * id.period_s
        };
        self.members.iter().filter(late).count() as f32 / self.members.len().max(1) as f32
    }
}

impl IdProfile {
    /// Share of data bytes that jump; learns the moves.
    fn move_to(&mut self, frame: &Frame, on_time: bool) -> f32 {
        let mut jumps = 0u32;
        for byte in 0..8 {
            let moved = distance(self.last[byte], frame.payload[byte]);
            let reach = &mut self.reach[byte];
            if moved <= *reach {
                continue;
            }
            let near = reach.saturating_mul(2).saturating_add(2);
            if moved > near {
                jumps += 1;
                if on_time {
                    *reach += (moved - *reach).div_ceil(8);
                }
            } else {
                *reach = moved;
            }
        }
        jumps as f32 / f32::from(frame.len.max(1))
    }
}

/// Between two values of a byte, on the circle.
fn distance(a: u8, b: u8) -> u8 {
    a.wrapping_sub(b).min(b.wrapping_sub(a))
}

#[cfg(test)]
mod tests;
