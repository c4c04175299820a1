//! Results of finished jobs become the versions in use.

use crate::effect::Effect;
use crate::state::State;
use common::ids::JobName;
use common::registry::RegistryEntry;

/// Registry entries that are behind the chains. A later plan's result replaces an earlier one's, never the
/// other way round.
pub(super) fn publish(state: &State) -> Vec<Effect> {
    let mut effects = Vec::new();
    for chain in state.chains.values() {
        let record = &chain.record;
        for (phase, job) in &record.jobs {
            let Some(committed) = job.state.result() else { continue };
            // A result that was kept though its inputs have changed stays what it was.
            if chain.keys.get(phase) != Some(&committed.key) {
                continue;
            }
            let name = JobName::new(record.id.dataset.clone(), *phase);
            let known = state.registry.get(&name);
            let behind = known.is_none_or(|known| {
                known.entry.committed != *committed && known.entry.plan_created < record.plan_created
            });
            if !behind {
                continue;
            }
            let duration_ms = match &job.state {
                common::chain::JobState::Committed { duration_ms, .. } => *duration_ms,
                _ => job.expected_ms,
            };
            let entry = RegistryEntry {
                name,
                committed: committed.clone(),
                inputs: job.spec.inputs.clone(),
                plan: record.id.plan.clone(),
                plan_created: record.plan_created,
                duration_ms,
            };
            effects.push(Effect::Publish { entry: Box::new(entry), expected: known.map(|k| k.revision) });
        }
    }
    effects
}
