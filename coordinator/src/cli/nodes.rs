//! `coord nodes`: who is there now.

use super::context::{Context, now};
use super::exit::Exit;
use crate::output;
use anyhow::Result;

pub async fn run(context: &Context) -> Result<Exit> {
    let link = context.connect().await?;
    let beats = link.beats(&context.config()?, context.out).await?;
    let nodes: Vec<_> = beats.into_values().collect();
    context.out.page(
        output::nodes::json(&nodes, now()),
        || output::nodes::table(&nodes),
        || nodes.iter().map(|n| n.node.to_string()).collect(),
    );
    Ok(Exit::Ok)
}
