//! `coord nodes`: who is there now.

use super::context::{Context, now};
use super::exit::Exit;
use super::link::or_empty;
use crate::output;
use anyhow::Result;
use std::collections::BTreeMap;

pub async fn run(context: &Context) -> Result<Exit> {
    let link = context.connect().await?;
    let beats = link.beats(&context.config()?, context.out).await?;
    let decided: BTreeMap<_, _> =
        or_empty(link.client.nodes().await)?.into_iter().map(|(node, at)| (node, at.value)).collect();
    let nodes: Vec<_> = beats.into_values().collect();
    context.out.page(
        output::nodes::json(&nodes, &decided, now()),
        || output::nodes::table(&nodes, &decided, now()),
        || nodes.iter().map(|n| n.node.to_string()).collect(),
    );
    Ok(Exit::Ok)
}
