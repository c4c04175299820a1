//! What a nats-server tells over HTTP of its own set-up: clients can not ask it over the bus.

use serde::Deserialize;
use std::fmt;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);
/// Port of the monitoring page where none is named, as in the documentation of nats-server.
const USUAL_PORT: u16 = 8222;

/// When a server makes sure that what it acknowledged is on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before it acknowledges.
    Always,
    /// Now and then: a power cut loses what was acknowledged since.
    Every(Duration),
}

impl fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncPolicy::Always => f.write_str("always"),
            SyncPolicy::Every(time) => write!(f, "every {} s", time.as_secs()),
        }
    }
}

/// Why a server's set-up can not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MonitorError {
    #[error("{url} does not answer ({detail})")]
    Away { url: String, detail: String },
    #[error("{url} tells nothing of JetStream ({detail})")]
    NotTold { url: String, detail: String },
}

#[derive(Deserialize)]
struct Varz {
    jetstream: JetStream,
}

#[derive(Deserialize)]
struct JetStream {
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    sync_always: bool,
    /// Nanoseconds.
    #[serde(default)]
    sync_interval: u64,
}

/// Asks the server whose monitoring page is at `url` (`http://host:port`).
pub async fn sync_policy(url: &str) -> Result<SyncPolicy, MonitorError> {
    // reqwest panics without one, even where it never speaks TLS. Another one that is there already will do.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let away = |e: reqwest::Error| MonitorError::Away { url: url.to_owned(), detail: e.to_string() };
    let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build().map_err(away)?;
    let page = client.get(format!("{}/varz", url.trim_end_matches('/'))).send().await.map_err(away)?;
    let page = page.bytes().await.map_err(away)?;
    let not_told = |detail: String| MonitorError::NotTold { url: url.to_owned(), detail };
    let varz: Varz = serde_json::from_slice(&page).map_err(|e| not_told(e.to_string()))?;
    let config = varz.jetstream.config.ok_or_else(|| not_told("JetStream is off".to_owned()))?;
    Ok(match config.sync_always {
        true => SyncPolicy::Always,
        false => SyncPolicy::Every(Duration::from_nanos(config.sync_interval)),
    })
}

/// Where the monitoring pages of these servers (`nats://host:port`, parted by commas) usually are.
pub fn usual_pages(nats_urls: &str) -> Vec<String> {
    let host = |url: &str| {
        let rest = url.trim().split_once("://").map_or(url.trim(), |(_, rest)| rest);
        let rest = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        rest.rsplit_once(':').map_or(rest, |(host, _)| host).to_owned()
    };
    nats_urls.split(',').map(|url| format!("http://{}:{USUAL_PORT}", host(url))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_page_is_on_the_same_host() {
        let pages = usual_pages("nats://token@a:4222, tls://b.example:4223,c");
        assert_eq!(pages, ["http://a:8222", "http://b.example:8222", "http://c:8222"]);
    }
}
