//! The stream of offers: they come late, twice, in another order, or after having been lost.

use super::World;
use super::queue::{Actor, Msg};
use common::messages::JobOffer;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Default)]
pub struct Offers {
    by_node: BTreeMap<usize, Vec<Arc<JobOffer>>>,
    ids: BTreeSet<String>,
}

pub fn publish(w: &mut World, offer: Arc<JobOffer>) {
    if !w.bus.offers.ids.insert(offer.message_id()) {
        return;
    }
    let Some(n) = w.nodes.iter().position(|n| n.id == offer.place.node) else { return };
    w.bus.offers.by_node.entry(n).or_default().push(offer.clone());
    let bad = w.menu.bad_offers;
    let delay = match () {
        () if bad && w.rng.chance(100) => w.rng.range(5_000, 40_000), // lost, then redelivered
        () if bad && w.rng.chance(200) => w.rng.range(100, 12_000),
        () => w.rng.range(1, 20),
    };
    deliver(w, n, delay, &offer);
    if bad && w.rng.chance(200) {
        let again = w.rng.range(1, 30_000);
        deliver(w, n, delay + again, &offer);
    }
}

fn deliver(w: &mut World, n: usize, delay: u64, offer: &Arc<JobOffer>) {
    let life = w.nodes[n].life;
    w.tell(delay, Actor::Node(n), life, Msg::Offer { offer: offer.clone(), tries: 0 });
}

/// What a new consumer of a node's offers finds in the stream: half of the time all of it.
pub fn backlog(w: &mut World, n: usize) {
    let offers = w.bus.offers.by_node.get(&n).cloned().unwrap_or_default();
    if w.rng.chance(500) {
        for offer in offers {
            let delay = w.rng.range(50, 3_000);
            deliver(w, n, delay, &offer);
        }
    }
}
