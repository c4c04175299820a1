//! JetStream forgets: a bucket comes back empty, or without its newest writes. Commits live in the chains and,
//! once they are in use, in the store as well; slots and the registry are made anew from both and by their holders.

use super::World;
use super::bus::SlotEntry;
use super::coordinator;
use super::faults::Fault;
use super::queue::{Actor, Ev};

/// A coordinator notices at its next look at the bus.
const NOTICED_WITHIN_MS: u64 = 3_000;

/// Slots as they were `newest_ms` ago. Of several writes of a slot within that time even what was before them
/// is gone.
pub fn slots(w: &mut World, newest_ms: u64) {
    let since = w.now.saturating_sub(newest_ms);
    let lost: Vec<_> = w.bus.slots.iter().filter(|(_, e)| e.written_at >= since).map(|(k, _)| *k).collect();
    for key in lost {
        let before = w.bus.slots.remove(&key).and_then(|e| e.before);
        w.history.mark("a slot was lost");
        if let Some((revision, slot, written_at)) = before.filter(|(.., at)| *at < since) {
            w.history.mark("a slot went back in time");
            w.bus.slots.insert(
                key,
                SlotEntry { revision, slot, written_at, before: None, writes: vec![written_at] },
            );
        }
    }
    w.bus.has_lost_slots = true;
    noticed(w);
}

pub fn registry(w: &mut World) {
    w.bus.registry.clear();
    w.history.mark("the registry was lost");
    noticed(w);
}

fn noticed(w: &mut World) {
    w.bus.losses += 1;
    for c in 0..w.coordinators.len() {
        let (delay, life) = (w.rng.range(10, NOTICED_WITHIN_MS), w.coordinators[c].life);
        w.after(delay, Ev::Fault(Fault::Reload { coordinator: c, life }));
    }
}

/// The watch says that this is another bucket: everything is loaded again.
pub fn reload(w: &mut World, c: usize, life: u32) {
    let actor = Actor::Coordinator(c);
    if w.coordinators[c].life != life || w.coordinators[c].state.is_none() {
        return;
    }
    if w.is_paused(actor) || !w.reaches_bus(actor) {
        let again = w.rng.range(500, 2_000);
        return w.after(again, Ev::Fault(Fault::Reload { coordinator: c, life }));
    }
    coordinator::crash(w, c);
    coordinator::start(w, c);
}
