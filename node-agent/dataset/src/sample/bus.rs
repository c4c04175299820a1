//! The bus: one message at a time, and of those that wait the lowest id first.

use super::attack::{Attack, Attacker};
use super::ecu::Ecu;
use super::rng::Rng;
use super::vehicle::Vehicle;
use crate::frames::{Frame, Frames};

const BITS_PER_S: f64 = 500_000.0;

/// Time on the wire: 47 bits of frame and gap, the data, and a stuffed bit for each ten.
fn duration_s(len: u8) -> f64 {
    let bits = 47.0 + 8.0 * f64::from(len);
    bits * 1.1 / BITS_PER_S
}

/// Traffic of `seconds` of a vehicle under an attack; times count from `start_s`.
pub(super) fn simulate(
    vehicle: &Vehicle,
    attack: Attack,
    seconds: f64,
    start_s: f64,
    rng: &mut Rng,
) -> Frames {
    let mut ecus: Vec<Ecu> = vehicle.messages.iter().map(|message| Ecu::new(message, rng)).collect();
    let mut attacker = Attacker::new(attack, vehicle, seconds, rng);
    let mut frames = Frames { has_labels: true, ..Frames::default() };
    let mut free_s = 0.0;
    // Each turn puts one message of at least 0.1 ms on the bus or lets one sender's time go on.
    while free_s < seconds {
        attacker.wake(free_s);
        let first = ecus.iter().map(|ecu| ecu.due_s).fold(f64::INFINITY, f64::min);
        let now_s: f64 = first.min(attacker.next().map_or(f64::INFINITY, |(due_s, _)| due_s)).max(free_s);
        let waiting = ecus.iter().position(|ecu| ecu.due_s <= now_s);
        let injected = attacker.next().filter(|&(due_s, _)| due_s <= now_s);
        // Ids ascend, so the first that waits wins among the real ones; an equal id of the attacker goes first.
        let attacker_wins = match (waiting, injected) {
            (Some(ecu), Some((_, id))) => id <= ecus[ecu].message.id,
            (None, injected) => injected.is_some(),
            (Some(_), None) => false,
        };
        let (id, (payload, len), label) = if let (true, Some((_, id))) = (attacker_wins, injected) {
            (id, attacker.send(now_s, rng), 1)
        } else if let Some(ecu) = waiting {
            let id = ecus[ecu].message.id;
            let real = ecus[ecu].send(rng);
            ecus[ecu].schedule(rng);
            match attacker.blocks(id, now_s) {
                false => (id, real, 0),
                true => match attacker.replacement(real, rng) {
                    Some(payload) => (id, payload, 1),
                    None => continue,
                },
            }
        } else {
            // Nobody waits: now_s is the time of the first to come, so one of the two does.
            break;
        };
        free_s = now_s + duration_s(len);
        let frame = Frame { timestamp_s: free_s, id, payload, len, label };
        if label == 0 {
            attacker.listen(frame);
        }
        frames.push(Frame { timestamp_s: start_s + free_s, ..frame });
    }
    frames
}
