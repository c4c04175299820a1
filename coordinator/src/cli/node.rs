//! `coord node cordon | drain | uncordon | quarantine`: a decision about a machine, written over whatever was
//! decided before.

use super::args::{DrainArgs, NodeArgs, NodeVerb};
use super::context::{Context, now, unknown};
use super::exit::{Exit, Fault};
use super::link::{Link, or_empty};
use crate::output;
use crate::shell::audit;
use crate::shell::client::Written;
use anyhow::Result;
use common::ids::NodeId;
use common::node::{DecidedBy, NodeRecord, NodeStanding};
use common::slot::{Slot, SlotState};
use std::collections::BTreeSet;
use std::time::Duration;

/// Races against a coordinator that quarantines the same node.
const TRIES_MAX: u32 = 10;

pub async fn run(context: &Context, verb: &NodeVerb) -> Result<Exit> {
    let (args, standing) = decision(verb);
    let link = context.connect().await?;
    let result = decide(context, &link, args, standing).await;
    link.close().await;
    result.map(|()| Exit::Ok)
}

fn decision(verb: &NodeVerb) -> (&NodeArgs, NodeStanding) {
    match verb {
        NodeVerb::Cordon(args) => (args, NodeStanding::Cordoned),
        NodeVerb::Uncordon(args) => (args, NodeStanding::Open),
        NodeVerb::Quarantine(args) => (args, NodeStanding::Quarantined),
        NodeVerb::Drain(DrainArgs { node, deadline, checkpoint }) => {
            let deadline_ms = deadline.as_ref().map(|d| Duration::as_millis(d) as u64);
            let standing = match checkpoint {
                true => NodeStanding::Draining { after_ms: 0, grace_ms: deadline_ms },
                false => NodeStanding::Draining { after_ms: deadline_ms.unwrap_or(0), grace_ms: None },
            };
            (node, standing)
        }
    }
}

async fn decide(context: &Context, link: &Link, args: &NodeArgs, standing: NodeStanding) -> Result<()> {
    let mut known = or_empty(link.client.nodes().await)?.remove(&args.node);
    if known.is_none() && !args.absent {
        let heard: BTreeSet<NodeId> =
            link.beats(&context.config()?, context.out).await?.into_keys().collect();
        if !heard.contains(&args.node) {
            let names: Vec<String> = heard.iter().map(ToString::to_string).collect();
            let fault = unknown("node", args.node.as_str(), &names);
            let way_out = fault.way_out.clone().unwrap_or_default();
            return Err(fault.way_out(format!("{way_out}; one that is away now: add --absent")).into());
        }
    }
    let (by, since) = (DecidedBy::Operator, now());
    let record = NodeRecord { node: args.node.clone(), standing, reason: args.reason.clone(), by, since };
    for _ in 0..TRIES_MAX {
        match link.client.write_node(&record, known.as_ref().map(|at| at.revision)).await? {
            Written::Yes(revision) => {
                audit::tell_decision(&link.client, &record, revision).await;
                let running = running_on(link, &args.node).await?;
                context.out.page(
                    output::nodes::decided_json(&record, &running),
                    || output::nodes::decided(&record, &running),
                    || vec![record.node.to_string()],
                );
                return Ok(());
            }
            Written::Lost => known = link.client.node(&args.node).await?,
        }
    }
    let message = format!("the record of {} changed {TRIES_MAX} times while it was to be written", args.node);
    Err(Fault::new(Exit::Error, message).way_out("try again").into())
}

/// Attempts that hold something there.
async fn running_on(link: &Link, node: &NodeId) -> Result<Vec<Slot>> {
    let slots = or_empty(link.client.slots().await)?;
    let held = slots
        .into_values()
        .map(|at| at.value)
        .filter(|slot| matches!(&slot.state, SlotState::Held { place, .. } if place.node == *node));
    Ok(held.collect())
}
