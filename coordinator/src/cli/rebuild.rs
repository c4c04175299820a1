//! `coord rebuild`: plans, chains and registry anew from the store. What is there is left as it is.

use super::args::RebuildArgs;
use super::context::Context;
use super::exit::Exit;
use super::link::Need;
use crate::output;
use crate::shell::rebuild::{look, write};
use anyhow::Result;
use bus::BusLayout;

pub async fn run(context: &Context, args: &RebuildArgs) -> Result<Exit> {
    let need = if args.dry_run { Need::Read } else { Need::Write };
    let link = context.connect_or_start_local(need).await?;
    let rebuilt = async {
        let store = context.open_store(link.store_url.as_deref())?;
        let looked = look(&store).await?;
        let written = match args.dry_run {
            true => None,
            false => {
                link.client.bus.ensure(&BusLayout::default()).await?;
                Some(write(&link.client, &looked.draft).await?)
            }
        };
        Ok::<_, anyhow::Error>((looked, written))
    };
    let rebuilt = rebuilt.await;
    link.close().await;
    let (looked, written) = rebuilt?;
    context.out.page(
        output::rebuild::json(&looked, written.as_ref()),
        || output::rebuild::table(&looked, written.as_ref()),
        || looked.draft.chains.iter().map(|c| c.id.to_string()).collect(),
    );
    Ok(Exit::Ok)
}
