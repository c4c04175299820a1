//! `coord serve`: the coordinator as a service.

use super::args::ServeArgs;
use super::context::{Context, core_options};
use super::exit::{Exit, Fault};
use super::following::interrupted;
use super::link::open_bus;
use crate::shell::records::Patience;
use crate::shell::{ServeOptions, serve};
use anyhow::{Context as _, Result};
use bus::monitor::{SyncPolicy, sync_policy, usual_pages};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub async fn run(context: &Context, args: &ServeArgs) -> Result<Exit> {
    let (url, token, store_url) = addresses(context).await?;
    let options = ServeOptions { core: core_options(&context.config()?), bus_address: url.clone() };
    let store = context.open_store(store_url.as_deref())?;
    let stop = CancellationToken::new();
    let interrupted = interrupted()?;
    let on_signal = stop.clone();
    tokio::spawn(async move {
        interrupted.await;
        tracing::info!("asked to stop");
        on_signal.cancel();
    });
    // A service may start before its bus does; a wrong login or a bus without JetStream is told at once.
    let patience = Patience(Duration::from_secs(args.connect_timeout));
    let waited = || format!("waited up to {} s for the bus", args.connect_timeout);
    let connected = tokio::select! {
        bus = open_bus(&url, token.as_deref(), patience) => bus.with_context(waited)?,
        () = stop.cancelled() => return Ok(Exit::Ok),
    };
    check_sync(&url, &args.nats_monitor).await;
    tracing::info!(store = store.url(""), version = env!("CARGO_PKG_VERSION"), "coordinator starts");
    serve(connected, store, options, stop).await.context("the coordinator can not go on")?;
    tracing::info!("coordinator stopped");
    Ok(Exit::Ok)
}

/// Says so when the servers acknowledge what a power cut can take back. Only the monitoring page tells.
async fn check_sync(urls: &str, named: &[String]) {
    let pages = if named.is_empty() { usual_pages(urls) } else { named.to_vec() };
    for page in pages {
        match sync_policy(&page).await {
            Ok(SyncPolicy::Always) => {}
            Ok(policy) => tracing::warn!(
                server = page, sync = %policy,
                "a power cut can take back what this nats-server has acknowledged: put `sync_interval: always` \
                 into `jetstream {{}}` of its configuration"
            ),
            Err(error) if named.is_empty() => tracing::info!(
                %error, "whether the nats-server syncs its disk is not known; name its page with --nats-monitor"
            ),
            Err(error) => tracing::warn!(%error, "whether the nats-server syncs its disk is not known"),
        }
    }
}

async fn addresses(context: &Context) -> Result<(String, Option<String>, Option<String>)> {
    let global = &context.global;
    if let Some(url) = &global.nats {
        return Ok((url.clone(), global.nats_token.clone(), global.store.clone()));
    }
    match context.home().running().await? {
        Some(running) => {
            let store = global.store.clone().or(Some(running.store_url));
            Ok((running.nats_url, Some(running.token), store))
        }
        None => Err(Fault::new(Exit::Unavailable, "no bus was named")
            .way_out(
                "name one with --nats URL or COORD_NATS_URL; everything on one machine: `coord local up`",
            )
            .into()),
    }
}
