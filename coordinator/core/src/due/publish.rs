//! Results of finished jobs become the versions in use.

use crate::effect::Effect;
use crate::state::State;
use common::chain::JobState;
use common::ids::JobName;
use common::registry::RegistryEntry;

/// Registry entries that are behind the chains.
pub(super) fn publish(state: &State) -> Vec<Effect> {
    state.index.behind.iter().filter_map(|name| entry(state, name)).collect()
}

fn entry(state: &State, name: &JobName) -> Option<Effect> {
    let record = &state.chains.get(&state.index.newest(name)?)?.record;
    let job = record.jobs.get(&name.phase)?;
    let duration_ms = match &job.state {
        JobState::Committed { duration_ms, .. } => *duration_ms,
        _ => job.expected_ms,
    };
    let entry = RegistryEntry {
        name: name.clone(),
        committed: job.state.result()?.clone(),
        inputs: job.spec.inputs.clone(),
        plan: record.id.plan.clone(),
        plan_created: record.plan_created,
        duration_ms,
    };
    let expected = state.registry.get(name).map(|known| known.revision);
    Some(Effect::Publish { entry: Box::new(entry), expected })
}
