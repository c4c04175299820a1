//! `coord events`: the audit stream, from its beginning or as it goes on.

use super::args::EventsArgs;
use super::context::Context;
use super::exit::Exit;
use super::following::interrupted;
use super::link::{Link, Need};
use crate::output;
use anyhow::Result;
use bus::{BusError, ConsumerSpec, Deliveries};
use common::ids::PlanId;
use common::messages::Event;
use common::subjects;
use common::wire;
use futures::StreamExt;
use std::time::Duration;

/// Silence after which the stored events count as read.
const QUIET: Duration = Duration::from_millis(500);

pub async fn run(context: &Context, args: &EventsArgs) -> Result<Exit> {
    let link = context.connect_or_start_local(Need::Read).await?;
    let result = events(context, &link, args).await;
    link.close().await;
    result
}

async fn events(context: &Context, link: &Link, args: &EventsArgs) -> Result<Exit> {
    let mut spec = ConsumerSpec::new(subjects::STREAM_EVENTS);
    if args.plan != "all" {
        spec = spec.filter(subjects::events_of(&args.plan.parse::<PlanId>()?));
    }
    let mut deliveries = match link.client.bus.consume(spec).await {
        // Nobody ever wrote one.
        Err(BusError::StreamNotFound { .. }) => return Ok(Exit::Ok),
        other => other?,
    };
    let interrupted = interrupted()?;
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            () = &mut interrupted => return Ok(Exit::Interrupted),
            event = next(&mut deliveries, args.follow) => match event? {
                Some(event) => context.out.event(&event),
                None => return Ok(Exit::Ok),
            },
        }
    }
}

/// The next event that this build understands; `None` at the end of what is stored, unless `wait`.
async fn next(deliveries: &mut Deliveries, wait: bool) -> Result<Option<Event>> {
    loop {
        let delivery = match wait {
            true => deliveries.next().await,
            false => match tokio::time::timeout(QUIET, deliveries.next()).await {
                Ok(delivery) => delivery,
                Err(_quiet) => return Ok(None),
            },
        };
        let Some(delivery) = delivery else { return Ok(None) };
        let delivery = delivery?;
        delivery.ack().await?;
        match wire::decode::<Event>(&delivery.payload) {
            Ok(event) => return Ok(Some(event)),
            Err(e) => tracing::warn!(subject = delivery.subject, error = %e, "event not understood"),
        }
    }
}

impl output::Out {
    fn event(&self, event: &Event) {
        match self.format {
            output::Format::Json => self.json_line(&output::lists::event_json(event)),
            output::Format::Table | output::Format::Ids => self.data(&output::lists::event(event)),
        }
    }
}
