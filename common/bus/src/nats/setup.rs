//! Creating and updating what a layout names.

use super::Link;
use super::api::refused;
use crate::error::{BusError, Result};
use crate::layout::{BusLayout, MAX_CONSUMERS, StreamLayout};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use std::time::Duration;

/// Copies where the cluster can hold them.
const CLUSTER_REPLICAS: usize = 3;

pub(super) async fn ensure(link: &Link, layout: &BusLayout) -> Result<()> {
    let buckets = layout.buckets.iter().map(|name| bucket_config(name));
    let streams = layout.streams.iter().map(stream_config);
    for config in buckets.chain(streams) {
        ensure_one(link, config, layout.replicas).await?;
    }
    Ok(())
}

/// A bucket as every NATS client knows it (ADR-8): a stream that keeps one message per key. Built here rather
/// than by the client's own call because that one cannot say how many consumers are allowed.
fn bucket_config(bucket: &str) -> Config {
    Config {
        name: format!("KV_{bucket}"),
        subjects: vec![format!("$KV.{bucket}.>")],
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        duplicate_window: Duration::from_secs(120),
        ..unlimited(MAX_CONSUMERS)
    }
}

fn stream_config(layout: &StreamLayout) -> Config {
    Config {
        name: layout.name.clone(),
        subjects: layout.subjects.clone(),
        max_age: layout.max_age,
        max_messages_per_subject: layout.max_messages_per_subject.map_or(-1, i64::from),
        discard: DiscardPolicy::Old,
        duplicate_window: layout.duplicate_window,
        ..unlimited(layout.max_consumers)
    }
}

fn unlimited(max_consumers: u32) -> Config {
    Config {
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        max_bytes: -1,
        max_messages: -1,
        max_consumers: i32::try_from(max_consumers).unwrap_or(i32::MAX),
        ..Config::default()
    }
}

async fn ensure_one(link: &Link, wanted: Config, replicas: Option<usize>) -> Result<()> {
    match link.stream_info(&wanted.name).await {
        Ok(found) => update(link, found, wanted, replicas).await,
        Err(BusError::StreamNotFound { .. }) => create(link, wanted, replicas).await,
        Err(error) => Err(error),
    }
}

async fn create(link: &Link, mut wanted: Config, replicas: Option<usize>) -> Result<()> {
    wanted.num_replicas = replicas.unwrap_or_else(|| desired_replicas(link));
    match call(link, "CREATE", &wanted).await? {
        Ok(_) => Ok(()),
        // Another process was quicker; the limits are the same table's.
        Err(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => {
            let found = link.stream_info(&wanted.name).await?;
            update(link, found, wanted, replicas).await
        }
        Err(error) if replicas.is_none() && cannot_replicate(link, error.error_code()) => {
            tracing::warn!(stream = wanted.name, %error, "kept as one copy: fewer than three servers");
            wanted.num_replicas = 1;
            call(link, "CREATE", &wanted).await?.map(drop).map_err(|e| failed(&wanted.name, &e))
        }
        Err(error) => Err(failed(&wanted.name, &error)),
    }
}

/// Changes only what the table names, so that what an operator set besides (placement, metadata) stays.
async fn update(link: &Link, found: Info, wanted: Config, replicas: Option<usize>) -> Result<()> {
    let mut config = found.config.clone();
    if config.max_consumers != wanted.max_consumers {
        tracing::debug!(stream = config.name, "its consumer limit differs and cannot be changed any more");
    }
    config.subjects = wanted.subjects;
    config.max_age = wanted.max_age;
    config.max_messages_per_subject = wanted.max_messages_per_subject;
    config.duplicate_window = wanted.duplicate_window;
    config.num_replicas = replicas.unwrap_or_else(|| desired_replicas(link).max(found.config.num_replicas));
    if config == found.config {
        return Ok(());
    }
    if config.num_replicas > found.config.num_replicas {
        let (had, gets) = (found.config.num_replicas, config.num_replicas);
        tracing::warn!(
            stream = config.name,
            had,
            gets,
            "fewer copies than the cluster can hold: more are made"
        );
    }
    match call(link, "UPDATE", &config).await? {
        Ok(_) => Ok(()),
        Err(error) if replicas.is_none() && cannot_replicate(link, error.error_code()) => {
            config.num_replicas = found.config.num_replicas;
            tracing::warn!(
                stream = config.name, copies = config.num_replicas, %error,
                "the loss of one server can lose it: more copies can not be made now"
            );
            call(link, "UPDATE", &config).await?.map(drop).map_err(|e| failed(&config.name, &e))
        }
        Err(error) => Err(failed(&config.name, &error)),
    }
}

async fn call(link: &Link, verb: &str, config: &Config) -> Result<super::api::Answered<Info>> {
    let payload = serde_json::to_value(config).map_err(|error| BusError::Refused {
        what: format!("stream {}", config.name),
        detail: error.to_string(),
    })?;
    link.api(&format!("STREAM.{verb}.{}", config.name), &payload).await
}

fn failed(name: &str, error: &async_nats::jetstream::Error) -> BusError {
    refused(format!("creating or changing stream {name}"), name, error)
}

fn desired_replicas(link: &Link) -> usize {
    if link.client.server_info().cluster.is_some() { CLUSTER_REPLICAS } else { 1 }
}

/// Whether one copy is the right answer to a refused three. In a cluster that has three servers, of which one
/// is down now, it is not: a single copy would stay behind; the caller tries again.
fn cannot_replicate(link: &Link, code: ErrorCode) -> bool {
    let no_room = [ErrorCode::CLUSTER_NO_PEERS, ErrorCode::INSUFFICIENT_RESOURCES].contains(&code);
    code == ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED || (no_room && link.known_servers() < CLUSTER_REPLICAS)
}
