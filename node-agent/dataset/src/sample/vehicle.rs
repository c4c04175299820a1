//! A made-up vehicle: which messages it sends, how often, and what their bytes mean.

use super::rng::Rng;

/// What a data byte carries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Byte {
    Constant(u8),
    /// Upper or lower half of a 16-bit signal.
    High(usize),
    Low(usize),
    /// Counts 0 to 15 in the lower half of the byte, this in the upper half.
    Counter(u8),
    /// Gear, 0 (park) to 6, in the upper half of the byte; follows a signal.
    Gear(usize),
    Checksum,
}

/// When a message is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rhythm {
    Periodic {
        period_s: f64,
    },
    /// Quick while something happens (a driver at the controls), slow otherwise.
    Eventful {
        busy_s: f64,
        idle_s: f64,
    },
}

/// A slowly moving value between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Signal {
    pub(super) low: f64,
    pub(super) high: f64,
    /// Largest change of speed a message.
    pub(super) push: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Message {
    pub(super) id: u32,
    pub(super) rhythm: Rhythm,
    pub(super) bytes: Vec<Byte>,
    pub(super) signals: Vec<Signal>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Vehicle {
    pub(super) name: &'static str,
    /// Ascending ids.
    pub(super) messages: Vec<Message>,
    pub(super) gear_id: u32,
    pub(super) rpm_id: u32,
}

/// How many messages of which period a vehicle has; together 1,500 to 1,700 a second.
const PERIODS: [(u64, f64); 6] = [(10, 0.010), (9, 0.020), (4, 0.050), (7, 0.100), (4, 0.200), (3, 0.500)];
const EVENTFUL: u64 = 4;
/// The gear and the rpm message; slower than the quickest ones, so that a spoofed one does not become the most
/// frequent id of its window.
const TARGET_PERIOD_S: f64 = 0.020;

impl Vehicle {
    /// The vehicle number `number` of a seed, with ids of its own.
    pub(super) fn new(name: &'static str, seed: u64, number: u64) -> Self {
        let mut rng = Rng::new(seed, 1_000 + number);
        let mut rhythms = Vec::new();
        for (count, period_s) in PERIODS {
            let count = count + rng.below(2);
            rhythms.extend((0..count).map(|_| Rhythm::Periodic { period_s }));
        }
        rhythms.extend((0..EVENTFUL).map(|_| Rhythm::Eventful { busy_s: 0.020, idle_s: 0.250 }));
        let ids = draw_ids(&mut rng, rhythms.len() + 2);
        // Urgent messages get low ids, as on a real bus; the two targets lie among the first third.
        let third = ids.len() / 3;
        let (gear, rpm) = (ids[third], ids[third - 3]);
        let mut others = ids.iter().copied().filter(|&id| id != gear && id != rpm);
        let mut messages: Vec<Message> = rhythms
            .into_iter()
            .zip(&mut others)
            .map(|(rhythm, id)| any_message(id, rhythm, &mut rng))
            .collect();
        messages.push(gear_message(gear));
        messages.push(rpm_message(rpm));
        messages.sort_by_key(|message| message.id);
        Self { name, messages, gear_id: gear, rpm_id: rpm }
    }
}

/// Ascending different ids; none so low that a flooding attacker would not win against it.
fn draw_ids(rng: &mut Rng, count: usize) -> Vec<u32> {
    let mut ids = std::collections::BTreeSet::new();
    // There are 1,968 ids to draw from and some forty are wanted, so this ends soon.
    while ids.len() < count {
        ids.insert(0x050 + rng.below(0x7B0) as u32);
    }
    ids.into_iter().collect()
}

fn any_message(id: u32, rhythm: Rhythm, rng: &mut Rng) -> Message {
    let length = if rng.chance(0.75) { 8 } else { 2 + rng.below(6) as usize };
    let mut bytes: Vec<Byte> =
        (0..length).map(|_| Byte::Constant(if rng.chance(0.5) { 0 } else { rng.byte() })).collect();
    let mut signals = Vec::new();
    for start in (0..length.saturating_sub(3)).step_by(2).take(1 + rng.below(2) as usize) {
        bytes[start] = Byte::High(signals.len());
        bytes[start + 1] = Byte::Low(signals.len());
        let low = rng.between(0.0, 0.5);
        let signal = Signal { low, high: rng.between(low + 0.1, 1.0), push: rng.between(0.0001, 0.002) };
        signals.push(signal);
    }
    if length >= 4 && rng.chance(0.7) {
        bytes[length - 2] = Byte::Counter(rng.below(16) as u8);
        bytes[length - 1] = Byte::Checksum;
    }
    Message { id, rhythm, bytes, signals }
}

fn gear_message(id: u32) -> Message {
    let bytes = vec![
        Byte::Gear(0),
        Byte::Constant(0x45),
        Byte::High(1),
        Byte::Low(1),
        Byte::Constant(0),
        Byte::Constant(0x10),
        Byte::Counter(0),
        Byte::Checksum,
    ];
    let gear = Signal { low: 0.0, high: 1.0, push: 0.0006 };
    let torque = Signal { low: 0.2, high: 0.6, push: 0.001 };
    Message { id, rhythm: Rhythm::Periodic { period_s: TARGET_PERIOD_S }, bytes, signals: vec![gear, torque] }
}

fn rpm_message(id: u32) -> Message {
    let bytes = vec![
        Byte::Constant(0x05),
        Byte::High(0),
        Byte::Low(0),
        Byte::High(1),
        Byte::Low(1),
        Byte::Constant(0),
        Byte::Counter(0),
        Byte::Checksum,
    ];
    let rpm = Signal { low: 0.08, high: 0.45, push: 0.001 };
    let load = Signal { low: 0.1, high: 0.7, push: 0.002 };
    Message { id, rhythm: Rhythm::Periodic { period_s: TARGET_PERIOD_S }, bytes, signals: vec![rpm, load] }
}

/// Checksum of the other bytes and the id: a sum, as many makers use.
pub(super) fn checksum(id: u32, bytes: &[u8]) -> u8 {
    let sum = bytes.iter().fold(id as u8 ^ (id >> 8) as u8, |sum, &byte| sum.wrapping_add(byte));
    sum ^ 0xA5
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(vehicle: &Vehicle, id: u32) -> bool {
        vehicle.messages.iter().any(|message| message.id == id)
    }

    #[test]
    fn vehicles_differ_in_ids_and_agree_in_shape() {
        let vehicles: Vec<Vehicle> = (0..3).map(|number| Vehicle::new("v", 7, number)).collect();
        assert_eq!(Vehicle::new("v", 7, 1), vehicles[1]);
        for vehicle in &vehicles {
            assert!((43..=50).contains(&vehicle.messages.len()), "{}", vehicle.messages.len());
            assert!(vehicle.messages.windows(2).all(|pair| pair[0].id < pair[1].id));
            assert!(has(vehicle, vehicle.gear_id) && has(vehicle, vehicle.rpm_id));
        }
        let shared = vehicles[0].messages.iter().filter(|m| has(&vehicles[1], m.id)).count();
        assert!(shared < 10, "{shared}");
    }
}
