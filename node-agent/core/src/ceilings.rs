//! What ran out of memory on this node, so that the next job of its kind begins with less.

use common::digest::Digest;
use common::ids::Phase;
use common::job_key::shape_of;
use common::messages::{Ceiling, JobOffer};
use std::collections::BTreeMap;

/// Most graphs at once, by phase, architecture of the networks and model of device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceilings(BTreeMap<(Phase, Digest, String), u32>);

impl Ceilings {
    pub fn of(known: impl IntoIterator<Item = Ceiling>) -> Ceilings {
        let mut ceilings = Ceilings::default();
        for c in known {
            ceilings.lower((c.phase, c.shape, c.device_model), c.micro_batch);
        }
        ceilings
    }

    fn lower(&mut self, kind: (Phase, Digest, String), micro_batch: u32) {
        let known = self.0.entry(kind).or_insert(micro_batch);
        *known = micro_batch.min(*known).max(1);
    }

    /// So many graphs at once ran out of memory: half of them is what comes next. Returns that.
    pub fn ran_out(&mut self, offer: &JobOffer, device_model: &str, micro_batch: u32) -> u32 {
        let next = (micro_batch / 2).max(1);
        self.lower(kind(offer, device_model), next);
        next
    }

    /// The most to begin with, as far as this node or whoever made the offer knows.
    pub fn most(&self, offer: &JobOffer, device_model: &str) -> Option<u32> {
        let own = self.0.get(&kind(offer, device_model)).copied();
        own.into_iter().chain(offer.micro_batch_max).min()
    }

    pub fn list(&self) -> Vec<Ceiling> {
        let told = |((phase, shape, device_model), micro_batch): (&(Phase, Digest, String), &u32)| Ceiling {
            phase: *phase,
            shape: *shape,
            device_model: device_model.clone(),
            micro_batch: *micro_batch,
        };
        self.0.iter().map(told).collect()
    }
}

fn kind(offer: &JobOffer, device_model: &str) -> (Phase, Digest, String) {
    (offer.job.name.phase, shape_of(&offer.spec.inputs.semantic), device_model.to_owned())
}
