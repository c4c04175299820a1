//! The end of a run: what rest is, who is not at rest, and what must hold then.

use super::super::admin;
use super::super::coordinator;
use crate::sim::World;
use common::chain::ChainRecord;
use common::ids::{ChainId, JobName};
use common::plan::Decision;
use common::registry::CommittedRef;
use common::units::UnixMs;
use coordinator_core::planner::plan;
use std::collections::BTreeMap;

pub fn is(w: &World) -> bool {
    unrest(w).next().is_none()
}

/// The first few things that are not at rest, in words.
pub fn who_is_not(w: &World) -> String {
    unrest(w).take(8).collect::<Vec<_>>().join("; ")
}

fn unrest(w: &World) -> impl Iterator<Item = String> + '_ {
    let admin = (w.admin.open > 0).then(|| format!("{} plans still to come", w.admin.open));
    let missing = w.bus.plans.values().flat_map(|(_, plan)| {
        plan.by_dataset().into_keys().filter_map(|dataset| {
            let id = ChainId { plan: plan.id.clone(), dataset: dataset.clone() };
            let made = w.bus.chains.contains_key(&id) || ChainRecord::from_plan(plan, &id).is_none();
            (!made).then(|| format!("no chain {id}"))
        })
    });
    let open = w.bus.chains.values().flat_map(|(_, record)| {
        record.jobs.iter().filter(|(_, j)| !j.state.is_terminal()).map(|(phase, job)| {
            let slot = job.key().and_then(|k| w.bus.slots.get(&k)).map(|e| &e.slot);
            format!("{} {phase} is {:?}, slot {slot:?}", record.id, job.state)
        })
    });
    let held = w.bus.slots.values().filter(|e| e.slot.state.reserved().is_some());
    let held = held.map(|e| format!("slot {:?}", e.slot));
    let agents = w.nodes.iter().filter_map(|node| {
        let quiet = node.agent.as_ref().is_some_and(|a| {
            a.runs.is_empty() && a.orphans.is_empty() && a.ledger.devices().all(|d| d.reserved_mib().0 == 0)
        });
        (!quiet || !node.children.is_empty()).then(|| {
            let runs = node.agent.as_ref().map(|a| a.runs.values().map(|r| &r.state).collect::<Vec<_>>());
            format!("agent {}: {} children, runs {runs:?}", node.id, node.children.len())
        })
    });
    let coordinators = (0..w.coordinators.len()).filter(|c| !coordinator::is_at_rest(w, *c)).map(|c| {
        let state = w.coordinators[c].state.as_ref();
        let due = state.map(|s| coordinator_core::due(s, coordinator::now(w, c)));
        format!("coordinator {c} has something to do: {due:?}")
    });
    let behind = w.coordinators.iter().filter(|c| c.losses_seen != w.bus.losses);
    let behind = behind.map(|_| "a coordinator has not noticed a loss yet".to_owned());
    admin.into_iter().chain(behind).chain(missing).chain(open).chain(held).chain(agents).chain(coordinators)
}

pub fn check(w: &mut World) {
    in_use(w);
    nothing_to_do(w);
}

/// What is in use is the result of the newest plan that has one. (Of plans made at the same moment any may win;
/// a result that a newer plan took over may still stand under the older one.)
fn in_use(w: &mut World) {
    let mut newest: BTreeMap<JobName, (UnixMs, Vec<&CommittedRef>)> = BTreeMap::new();
    for (_, record) in w.bus.chains.values() {
        for (phase, job) in &record.jobs {
            let Some(result) = job.state.result().filter(|r| job.key() == Some(r.key)) else { continue };
            let known = newest.entry(record.job_id(*phase).name).or_default();
            if known.0 < record.plan_created {
                *known = (record.plan_created, Vec::new());
            }
            if known.0 == record.plan_created {
                known.1.push(result);
            }
        }
    }
    let broken = newest.into_iter().find_map(|(name, (_, results))| {
        let used = w.bus.registry.get(&name).map(|(_, entry)| entry);
        let fine = used.is_some_and(|e| results.contains(&&e.committed));
        (!fine).then(|| format!("{name}: {used:?} instead of {results:?}"))
    });
    if let Some(broken) = broken {
        w.violated("the newest result is in use", broken);
    }
}

/// I9: a plan made anew over datasets whose last plan ended well has nothing to run and changes nothing.
fn nothing_to_do(w: &mut World) {
    let base = admin::base(w);
    let Some(mut last) = w.admin.applied.last().cloned() else { return };
    if !last.options.only.is_empty() {
        return;
    }
    last.options.force.clear();
    last.created = UnixMs(w.now);
    let newest = |dataset: &common::ids::DatasetId| {
        let of = w.bus.chains.values().filter(|(_, r)| r.id.dataset == *dataset);
        of.max_by_key(|(_, r)| r.plan_created).map(|(_, r)| r)
    };
    let well = last.datasets.iter().all(|d| {
        newest(&d.id).is_some_and(|r| {
            let as_asked = d.phases.iter().all(|(p, asked)| {
                r.jobs.get(p).is_some_and(|j| {
                    j.spec.inputs.semantic == asked.semantic
                        && Ok(j.spec.inputs.dataset_digest) == d.digest
                        && j.state.result().is_some_and(|res| j.key() == Some(res.key))
                })
            });
            as_asked && r.jobs.len() == d.phases.len()
        })
    });
    if !well {
        return;
    }
    match plan(&last, &base) {
        Ok(again) => {
            let runs: Vec<_> = again.to_run().map(|j| format!("{} {:?}", j.spec.name, j.decision)).collect();
            let quiet = again.jobs.iter().all(|j| matches!(j.decision, Decision::UpToDate { .. }));
            let chains = last.datasets.iter().filter_map(|d| {
                ChainRecord::from_plan(&again, &ChainId { plan: again.id.clone(), dataset: d.id.clone() })
            });
            let chains = chains.count();
            if !quiet || chains > 0 {
                w.violated("I9 nothing to do changes nothing", format!("{runs:?}, {chains} chains"));
            }
        }
        Err(e) => w.violated("I9 nothing to do changes nothing", e),
    }
}
