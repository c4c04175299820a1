//! One sender of one message: its next time, and its bytes.

use super::rng::Rng;
use super::vehicle::{Byte, Message, Rhythm, checksum};

/// Share of the period by which a send time strays.
const JITTER: f64 = 0.04;

struct Moving {
    value: f64,
    speed: f64,
}

pub(super) struct Ecu<'a> {
    pub(super) message: &'a Message,
    /// When the message next asks for the bus, seconds from the capture's start.
    pub(super) due_s: f64,
    /// When it would have been due without jitter, so that jitter does not add up.
    ideal_s: f64,
    counter: u8,
    signals: Vec<Moving>,
    busy: bool,
    phase_ends_s: f64,
}

/// Data bytes, and how many.
pub(super) type Payload = ([u8; 8], u8);

impl<'a> Ecu<'a> {
    pub(super) fn new(message: &'a Message, rng: &mut Rng) -> Self {
        let signals = message
            .signals
            .iter()
            .map(|signal| Moving { value: rng.between(signal.low, signal.high), speed: 0.0 })
            .collect();
        let mut ecu = Self {
            message,
            due_s: 0.0,
            ideal_s: 0.0,
            counter: rng.below(16) as u8,
            signals,
            busy: false,
            phase_ends_s: 0.0,
        };
        ecu.ideal_s = rng.between(0.0, ecu.period_s());
        ecu.due_s = ecu.ideal_s;
        ecu
    }

    fn period_s(&self) -> f64 {
        match self.message.rhythm {
            Rhythm::Periodic { period_s } => period_s,
            Rhythm::Eventful { busy_s, idle_s } => {
                if self.busy {
                    busy_s
                } else {
                    idle_s
                }
            }
        }
    }

    /// Moves on to the next send time.
    pub(super) fn schedule(&mut self, rng: &mut Rng) {
        if matches!(self.message.rhythm, Rhythm::Eventful { .. }) && self.ideal_s >= self.phase_ends_s {
            self.busy = !self.busy;
            self.phase_ends_s = self.ideal_s + rng.between(0.3, 1.5);
        }
        let period_s = self.period_s();
        self.ideal_s += period_s;
        self.due_s = self.ideal_s + period_s * JITTER * rng.bell();
    }

    /// Lets the signals move and gives the bytes of the next message.
    pub(super) fn send(&mut self, rng: &mut Rng) -> Payload {
        for (moving, signal) in self.signals.iter_mut().zip(&self.message.signals) {
            moving.speed = 0.98 * moving.speed + signal.push * rng.bell();
            moving.value += moving.speed;
            if moving.value < signal.low || moving.value > signal.high {
                moving.speed = -moving.speed;
                moving.value = moving.value.clamp(signal.low, signal.high);
            }
        }
        self.counter = (self.counter + 1) % 16;
        self.bytes()
    }

    fn bytes(&self) -> Payload {
        let word = |signal: usize| (self.signals[signal].value * 65_535.0) as u16;
        let mut payload = [0; 8];
        let length = self.message.bytes.len();
        for (byte, kind) in payload.iter_mut().zip(&self.message.bytes) {
            *byte = match *kind {
                Byte::Constant(value) => value,
                Byte::High(signal) => (word(signal) >> 8) as u8,
                Byte::Low(signal) => word(signal) as u8,
                Byte::Counter(upper) => (upper << 4) | self.counter,
                Byte::Gear(signal) => ((self.signals[signal].value * 6.99) as u8) << 4,
                Byte::Checksum => 0,
            };
        }
        if self.message.bytes.last() == Some(&Byte::Checksum) {
            payload[length - 1] = checksum(self.message.id, &payload[..length - 1]);
        }
        (payload, length as u8)
    }
}
