//! What stands between an actor and the world: a pause, a cut line.

use super::World;
use super::queue::{Actor, Msg};

#[derive(Default)]
pub struct Gate {
    pub paused: bool,
    /// Told while paused, in order.
    pub inbox: Vec<Msg>,
    pub cut_until: u64,
    /// Until here something stood between this actor and the bus; what it does later is its own fault.
    pub disturbed_until: u64,
}

impl World {
    pub fn gate(&self, actor: Actor) -> &Gate {
        match actor {
            Actor::Coordinator(c) => &self.coordinators[c].gate,
            Actor::Node(n) => &self.nodes[n].gate,
        }
    }

    fn gate_mut(&mut self, actor: Actor) -> &mut Gate {
        match actor {
            Actor::Coordinator(c) => &mut self.coordinators[c].gate,
            Actor::Node(n) => &mut self.nodes[n].gate,
        }
    }

    pub fn life(&self, actor: Actor) -> u32 {
        match actor {
            Actor::Coordinator(c) => self.coordinators[c].life,
            Actor::Node(n) => self.nodes[n].life,
        }
    }

    pub fn is_paused(&self, actor: Actor) -> bool {
        self.gate(actor).paused
    }

    pub fn set_paused(&mut self, actor: Actor, paused: bool) {
        self.gate_mut(actor).paused = paused;
    }

    pub fn take_inbox(&mut self, actor: Actor) -> Vec<Msg> {
        std::mem::take(&mut self.gate_mut(actor).inbox)
    }

    pub fn keep_for_later(&mut self, actor: Actor, msg: Msg) {
        self.gate_mut(actor).inbox.push(msg);
    }

    pub fn cut(&mut self, actor: Actor, for_ms: u64) {
        let until = self.now + for_ms;
        let gate = self.gate_mut(actor);
        gate.cut_until = gate.cut_until.max(until);
        self.disturb(actor, for_ms);
    }

    pub fn uncut(&mut self, actor: Actor) {
        self.gate_mut(actor).cut_until = 0;
    }

    pub fn reaches_bus(&self, actor: Actor) -> bool {
        self.in_reach_at(actor) <= self.now
    }

    /// When the bus is in reach, as things stand.
    pub fn in_reach_at(&self, actor: Actor) -> u64 {
        self.gate(actor).cut_until.max(self.bus.up_again_at())
    }

    pub fn disturb(&mut self, actor: Actor, for_ms: u64) {
        let until = self.now + for_ms;
        let gate = self.gate_mut(actor);
        gate.disturbed_until = gate.disturbed_until.max(until);
    }
}
