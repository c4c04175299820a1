//! Attackers on the bus: when they act, and what they send.

use std::collections::VecDeque;

use super::ecu::Payload;
use super::rng::Rng;
use super::vehicle::Vehicle;
use crate::frames::Frame;

/// What happens in a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attack {
    None,
    /// Id 0 floods the bus.
    Dos,
    /// Random ids with random bytes.
    Fuzzing,
    /// Wrong values under the id of the gear or of the rpm message, beside the real ones.
    Gear,
    Rpm,
    /// Real messages of a while ago, once more.
    Replay,
    /// The rpm message is kept off the bus. Nothing is injected, so nothing is labelled.
    Suppress,
    /// The rpm message is kept off the bus and replaced by one of the same rhythm.
    Masquerade,
}

/// When an attack is on: at irregular times, more than half of the capture.
pub(super) struct Phases(Vec<(f64, f64)>);

impl Phases {
    pub(super) fn new(seconds: f64, rng: &mut Rng) -> Self {
        // Long captures have phases of about two seconds, short ones still have several.
        let unit_s = (seconds / 8.0).min(2.0);
        let mut phases = Vec::new();
        let mut at = unit_s * rng.between(0.6, 1.0);
        while at < seconds {
            let end = at + unit_s * rng.between(0.6, 1.4);
            phases.push((at, end));
            at = end + unit_s * rng.between(0.5, 1.1);
        }
        Self(phases)
    }

    pub(super) fn is_on(&self, at_s: f64) -> bool {
        self.0.iter().any(|&(start, end)| (start..end).contains(&at_s))
    }

    /// `at_s` if the attack is on then, else the start of the next phase.
    fn next_on(&self, at_s: f64) -> Option<f64> {
        self.0.iter().find(|&&(_, end)| at_s < end).map(|&(start, _)| at_s.max(start))
    }
}

/// Real messages this old at most can be replayed.
const HISTORY_S: f64 = 3.0;

/// A sender of injected messages.
pub(super) struct Attacker {
    attack: Attack,
    pub(super) phases: Phases,
    /// Next injection: when, and under which id. None = no more.
    next: Option<(f64, u32)>,
    target: u32,
    period_s: (f64, f64),
    /// Last payload of the target seen on the bus, which spoofed ones are made from.
    template: Payload,
    replayed_ids: Vec<u32>,
    history: VecDeque<Frame>,
    /// Messages of the current replay, already with their new times.
    queue: VecDeque<Frame>,
}

impl Attacker {
    pub(super) fn new(attack: Attack, vehicle: &Vehicle, seconds: f64, rng: &mut Rng) -> Self {
        let target = if attack == Attack::Gear { vehicle.gear_id } else { vehicle.rpm_id };
        // Seconds between injections. Spoofing keeps to about the real message's rhythm.
        let period_s = match attack {
            Attack::Dos => (0.0006, 0.0010),
            Attack::Fuzzing => (0.002, 0.006),
            _ => (0.018, 0.040),
        };
        let slow = vehicle.messages.iter().filter(|message| message.id > target).map(|message| message.id);
        let replayed_ids: Vec<u32> = std::iter::once(target).chain(slow.skip(8).step_by(9).take(3)).collect();
        let mut attacker = Self {
            attack,
            phases: Phases::new(seconds, rng),
            next: None,
            target,
            period_s,
            template: ([0; 8], 8),
            replayed_ids,
            history: VecDeque::new(),
            queue: VecDeque::new(),
        };
        if !matches!(attack, Attack::None | Attack::Suppress | Attack::Masquerade) {
            attacker.schedule(0.0, rng);
        }
        attacker
    }

    /// When and under which id it next asks for the bus.
    pub(super) fn next(&self) -> Option<(f64, u32)> {
        self.next
    }

    /// True if the real message of this id is kept off the bus now.
    pub(super) fn blocks(&self, id: u32, at_s: f64) -> bool {
        matches!(self.attack, Attack::Suppress | Attack::Masquerade)
            && id == self.target
            && self.phases.is_on(at_s)
    }

    /// What goes out in place of a blocked message, if anything does.
    pub(super) fn replacement(&self, real: Payload, rng: &mut Rng) -> Option<Payload> {
        (self.attack == Attack::Masquerade).then(|| masquerade(real, rng))
    }

    /// Sees a real message go over the bus.
    pub(super) fn listen(&mut self, frame: Frame) {
        if frame.id == self.target {
            self.template = (frame.payload, frame.len);
        }
        if self.attack == Attack::Replay && self.replayed_ids.contains(&frame.id) {
            self.history.push_back(frame);
            while self.history.front().is_some_and(|old| old.timestamp_s < frame.timestamp_s - HISTORY_S) {
                self.history.pop_front();
            }
        }
    }

    /// Bytes of the message now sent, and the next one's schedule.
    pub(super) fn send(&mut self, at_s: f64, rng: &mut Rng) -> Payload {
        let payload = match self.attack {
            Attack::Dos => ([0; 8], 8),
            Attack::Fuzzing => (std::array::from_fn(|_| rng.byte()), 8),
            Attack::Gear => spoof(self.template, &[0xE0, 0x9A], rng),
            Attack::Rpm => spoof(self.template, &[0x05, 0xB0 + rng.below(8) as u8], rng),
            _ => self.queue.pop_front().map_or(self.template, |frame| (frame.payload, frame.len)),
        };
        self.schedule(at_s, rng);
        payload
    }

    fn schedule(&mut self, now_s: f64, rng: &mut Rng) {
        if self.attack == Attack::Replay {
            self.schedule_replay(now_s);
            return;
        }
        let (low, high) = self.period_s;
        let at = self.phases.next_on(now_s + rng.between(low, high));
        let id = match self.attack {
            Attack::Dos => 0,
            Attack::Fuzzing => rng.below(0x800) as u32,
            _ => self.target,
        };
        self.next = at.map(|at| (at, id));
    }

    /// Goes on with the current replay; at its end waits for the next phase and takes what was heard before it.
    fn schedule_replay(&mut self, now_s: f64) {
        if self.queue.is_empty()
            && let Some(at) = self.phases.next_on(now_s)
            && let Some(first) = self.history.front().map(|frame| frame.timestamp_s)
            && self.phases.is_on(now_s)
        {
            let shift = at - first + 0.002;
            self.queue.extend(
                self.history.drain(..).map(|frame| Frame { timestamp_s: frame.timestamp_s + shift, ..frame }),
            );
            let end = self.phases.0.iter().find(|&&(_, end)| at < end).map_or(at, |&(_, end)| end);
            while self.queue.back().is_some_and(|frame| frame.timestamp_s >= end) {
                self.queue.pop_back();
            }
        }
        // Nothing left or nothing heard yet: `wake` looks again.
        self.next = self.queue.front().map(|frame| (frame.timestamp_s.max(now_s), frame.id));
    }

    /// Lets a replay begin once its phase has come; called before each step of the bus.
    pub(super) fn wake(&mut self, now_s: f64) {
        if self.attack == Attack::Replay && self.next.is_none() && self.phases.is_on(now_s) {
            self.schedule_replay(now_s);
        }
    }
}

/// The real message with other leading bytes, a counter that stands still or jumps, and the old checksum.
fn spoof((mut payload, len): Payload, leading: &[u8], rng: &mut Rng) -> Payload {
    payload[..leading.len()].copy_from_slice(leading);
    if rng.chance(0.5) {
        payload[6] = rng.below(16) as u8;
    }
    (payload, len)
}

/// Right rhythm and counter; the value is shifted, the checksum not made anew.
fn masquerade((mut payload, len): Payload, rng: &mut Rng) -> Payload {
    payload[1] = payload[1].wrapping_add(0x38 + rng.below(8) as u8);
    (payload, len)
}
