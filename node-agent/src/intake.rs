//! Offers from the bus to the loop, and the one look at all slots when the agent starts.

use crate::agent::Told;
use crate::slots::Slots;
use agent_core::Event;
use bus::{Backoff, ConsumerSpec, SharedBus};
use common::ids::NodeId;
use common::messages::JobOffer;
use common::{subjects, wire};
use futures::StreamExt;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// Ends when the loop is gone.
pub async fn offers(bus: SharedBus, node: NodeId, told: Sender<Told>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    while !told.is_closed() {
        // From the beginning: offers of an hour at most, and old ones are void at the first look.
        let spec = ConsumerSpec::new(subjects::STREAM_JOBS).filter(subjects::jobs_of(&node));
        match bus.consume(spec).await {
            Ok(mut deliveries) => {
                while let Some(delivery) = deliveries.next().await {
                    let delivery = match delivery {
                        Ok(delivery) => delivery,
                        Err(error) => {
                            tracing::warn!(%error, "offers are lost sight of, listening anew");
                            break;
                        }
                    };
                    backoff.reset();
                    match wire::decode::<JobOffer>(&delivery.payload) {
                        Ok(offer) => {
                            if told.send(Told::news(Event::Offer(Box::new(offer)))).await.is_err() {
                                return;
                            }
                        }
                        Err(error) => tracing::warn!(%error, "an offer that can not be read is left out"),
                    }
                    // An invitation, never a right: whoever offers says it again when nothing comes of it.
                    if let Err(error) = delivery.ack().await {
                        tracing::debug!(%error, "an offer may come again");
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "can not listen for offers yet"),
        }
        tokio::time::sleep(backoff.delay()).await;
    }
}

/// Lists all slots once, however long the bus takes to answer.
pub async fn slots_at_start(slots: Slots, told: Sender<Told>) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    while !told.is_closed() {
        match slots.list().await {
            // A closed channel ends the loop by itself.
            Ok(all) => return drop(told.send(Told::news(Event::SlotsAtStart(all))).await),
            Err(error) => tracing::warn!(%error, "slots can not be listed yet"),
        }
        tokio::time::sleep(backoff.delay()).await;
    }
}
