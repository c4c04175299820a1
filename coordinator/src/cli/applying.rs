//! Writing a plan: exactly the one that was made, only while what it rests on holds, and at most once.

use super::exit::{Exit, Fault};
use super::link::Link;
use crate::shell::client::Written;
use crate::shell::kept;
use anyhow::{Context as _, Result};
use artifacts::{Store, StoreOptions};
use bus::BusLayout;
use common::ids::{DatasetId, PlanId};
use common::plan::{Decision, Plan};
use coordinator_core::planner::Base;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use tracing::Instrument;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    Now,
    /// This very plan was applied before: a repeated apply changes nothing.
    Before,
    /// Nothing was written.
    NothingToRun,
}

/// Plans applied by others between our look and our write.
const TRIES_MAX: u32 = 20;
/// Longest wait for the store.
const KEEP_LIMIT: Duration = Duration::from_secs(3);

/// The look at what the plan rests on and its writing are one step: the plan is written only if no other was
/// since that look. (A plan that runs keeps its datasets from others until it is over.)
///
/// Errors: `Exit::Stale` with every difference when registry or running plans have moved.
pub async fn apply(link: &Link, mut plan: Plan) -> Result<Applied> {
    if plan.to_run().next().is_none() {
        return Ok(Applied::NothingToRun);
    }
    let span = tracing::info_span!("apply", coord.plan = %plan.id);
    telemetry::set_parent(&span, plan.traceparent.as_deref());
    async {
        let client = &link.client;
        let layout = BusLayout::default();
        client.patience.with(|| client.bus.ensure(&layout)).await?;
        // What the chains do hangs below the apply.
        let own = telemetry::current_traceparent();
        let given = std::mem::replace(&mut plan.traceparent, own.clone());
        plan.traceparent = own.or(given);
        for tries in 0..TRIES_MAX {
            let newest = client.newest_plan().await?;
            match client.plan(&plan.id).await? {
                // Written by us in an earlier turn, whose answer was lost on the way.
                Some(there) if tries > 0 && there == plan => return Ok(Applied::Now),
                Some(_) => return Ok(Applied::Before),
                None => {}
            }
            check_base(&plan, &client.base().await?)?;
            if let Written::Yes(_) = client.create_plan(&plan, newest).await? {
                keep(link, &plan).await;
                return Ok(Applied::Now);
            }
        }
        let message = format!("{TRIES_MAX} other plans were applied while plan {} was to be", plan.id);
        Err(Fault::new(Exit::Stale, message).way_out("try again").into())
    }
    .instrument(span)
    .await
}

/// Into the store as well, should the bus lose it before a coordinator has kept it there. Where we can not, it
/// will.
async fn keep(link: &Link, plan: &Plan) {
    let store = link.store_url.as_deref().map(|url| Store::open(url, &StoreOptions::default()));
    let Some(Ok(store)) = store else { return };
    match tokio::time::timeout(KEEP_LIMIT, kept::put_plan(&store, plan)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "plan not kept in the store"),
        Err(_) => tracing::debug!("the store takes too long to keep the plan"),
    }
}

fn check_base(plan: &Plan, base: &Base) -> Result<()> {
    let datasets: Vec<DatasetId> =
        plan.jobs.iter().map(|j| j.spec.name.dataset.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    if base.revision(&datasets) == plan.base_revision {
        return Ok(());
    }
    let moved = differences(plan, base, &datasets);
    let message = format!("plan {} is stale; since it was made:\n  {}", plan.id, moved.join("\n  "));
    Err(Fault::new(Exit::Stale, message).way_out("plan again: `coord plan`, then apply the new plan").into())
}

/// What moved since the plan was made, for people.
fn differences(plan: &Plan, base: &Base, datasets: &[DatasetId]) -> Vec<String> {
    let mut moved = Vec::new();
    for dataset in datasets {
        if let Some(running) = base.running.get(dataset) {
            moved.push(format!("{dataset}: plan {running} is retraining it"));
        }
    }
    for job in &plan.jobs {
        let name = &job.spec.name;
        let now = base.registry.get(name);
        let known = match &job.decision {
            Decision::UpToDate { committed } => Some(committed),
            Decision::Excluded { committed, .. } => committed.as_ref(),
            Decision::Run { .. } | Decision::Blocked { .. } => None,
        };
        match (known, now) {
            (Some(known), Some(now)) if known.manifest != now.committed.manifest => moved.push(format!(
                "{name}: the result in use was {}, now it is {} (plan {})",
                known.manifest.short(),
                now.committed.manifest.short(),
                now.plan
            )),
            (Some(known), None) => {
                moved.push(format!("{name}: the result {} is no longer in use", known.manifest.short()));
            }
            (None, Some(now)) if now.plan_created >= plan.created => moved.push(format!(
                "{name}: result {} was committed by plan {}",
                now.committed.manifest.short(),
                now.plan
            )),
            _ => {}
        }
    }
    if moved.is_empty() {
        moved.push("which results are in use, or which plans run".to_owned());
    }
    moved
}

/// A plan from a file of `plan --out` or of `--output-dir`.
pub fn read_plan_file(path: &Path) -> Result<Plan> {
    let text = std::fs::read(path).with_context(|| format!("reading the plan {}", path.display()))?;
    let broken = |problem: String| {
        Fault::new(Exit::Error, format!("{} is no plan: {problem}", path.display()))
            .way_out("make one with `coord plan --out FILE`")
    };
    let page: serde_json::Value = serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
    let plan = page.get("plan").cloned().unwrap_or(page);
    let plan: Plan = serde_json::from_value(plan).map_err(|e| broken(e.to_string()))?;
    let derived = Plan::derive_id(plan.base_revision, &plan.jobs, &plan.data_url)?;
    if !is_same_or_rerun(&plan.id, &derived) {
        let problem = format!("its content belongs to id {derived}, but it says {}", plan.id);
        return Err(broken(problem)
            .way_out("a plan can not be edited: change the settings and plan again")
            .into());
    }
    Ok(plan)
}

/// `p12` is `p12` and the first of the runs `p12-2`, `p12-3` ….
pub fn is_same_or_rerun(id: &PlanId, derived: &PlanId) -> bool {
    let rest = id.as_str().strip_prefix(derived.as_str());
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('-').is_some_and(|n| n.parse::<u32>().is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rerun_is_numbered_behind_the_id_of_its_content() {
        let id = |text: &str| PlanId::new(text).unwrap();
        assert!(is_same_or_rerun(&id("p12"), &id("p12")));
        assert!(is_same_or_rerun(&id("p12-2"), &id("p12")));
        for other in ["p123", "p12-", "p12-x", "q12"] {
            assert!(!is_same_or_rerun(&id(other), &id("p12")), "{other}");
        }
    }

    #[test]
    fn an_edited_or_foreign_file_is_refused_with_a_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        std::fs::write(&path, "{\"schema\": 1}").unwrap();
        let error = read_plan_file(&path).unwrap_err();
        assert!(error.downcast_ref::<Fault>().unwrap().way_out.is_some(), "{error}");
        assert!(read_plan_file(&dir.path().join("none.json")).is_err());
    }
}
