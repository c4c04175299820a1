//! Connecting: options, and the checks that a wrong server fails early and clearly.

use super::Link;
use crate::error::{BusError, Result};
use crate::server::{MINIMUM_VERSION, ServerVersion};
use async_nats::{ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerAddr, jetstream};
use rand::RngExt;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// How to reach the bus.
#[derive(Clone)]
pub struct NatsOptions {
    /// `nats://host:port` or `tls://host:port`; several servers of one cluster parted by commas.
    pub url: String,
    /// Name of this connection in the server's reports.
    pub name: String,
    pub token: Option<String>,
    /// A `.creds` file (JWT and seed).
    pub credentials_path: Option<PathBuf>,
    /// Certificate authority to trust, beside the system's.
    pub tls_ca_path: Option<PathBuf>,
    /// Client certificate and its key.
    pub tls_client_paths: Option<(PathBuf, PathBuf)>,
    /// Bound of each call, and of each try to connect.
    pub timeout: Duration,
}

impl NatsOptions {
    /// No login, no TLS but what the URL says, 2 s per call.
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            name: name.into(),
            token: None,
            credentials_path: None,
            tls_ca_path: None,
            tls_client_paths: None,
            timeout: Duration::from_secs(2),
        }
    }

    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }
}

/// A dead connection is noticed after two of these.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const LONGEST_RECONNECT_DELAY: Duration = Duration::from_secs(4);

pub(super) async fn connect(options: NatsOptions) -> Result<Link> {
    let url = without_login(&options.url);
    let addresses = options.url.split(',').map(|one| {
        one.trim().parse::<ServerAddr>().map_err(|error| BusError::BadOptions {
            detail: format!("{} is no address of a nats-server: {error}", without_login(one)),
        })
    });
    let addresses = addresses.collect::<Result<Vec<_>>>()?;
    let named_servers = addresses.len();
    let (ups, connected) = watch::channel(0);
    let settings = settings(&options, ups).await?;

    // Each server is tried once, each try bounded by the options' own time-out.
    let limit = options.timeout * (addresses.len() as u32 + 1);
    let tried = tokio::time::timeout(limit, settings.connect(addresses)).await;
    let unreachable = |detail| BusError::NatsUnreachable { url: url.clone(), detail };
    let client = tried
        .map_err(|_| unreachable(format!("no answer within {} ms", limit.as_millis())))?
        .map_err(|error| connect_error(&url, &error))?;

    let found = client.server_info().version;
    if ServerVersion::parse(&found).is_none_or(|version| version < MINIMUM_VERSION) {
        return Err(BusError::ServerTooOld { url, found, wanted: MINIMUM_VERSION.to_string() });
    }
    let context = jetstream::ContextBuilder::new().timeout(options.timeout).build(client.clone());
    let link = Link { client, context, url, named_servers, timeout: options.timeout, connected };
    link.account().await?;
    Ok(link)
}

async fn settings(options: &NatsOptions, ups: watch::Sender<u64>) -> Result<ConnectOptions> {
    let mut settings = ConnectOptions::new()
        .name(&options.name)
        .connection_timeout(options.timeout)
        .request_timeout(Some(options.timeout))
        .ping_interval(PING_INTERVAL)
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            match &event {
                Event::Connected => ups.send_modify(|count| *count += 1),
                other => tracing::info!(event = %other, "bus connection"),
            }
            async {}
        });
    if let Some(token) = &options.token {
        settings = settings.token(token.clone());
    }
    if let Some(path) = &options.credentials_path {
        settings = settings.credentials_file(path).await.map_err(|error| BusError::BadOptions {
            detail: format!("credentials file {}: {error}", path.display()),
        })?;
    }
    if let Some(path) = &options.tls_ca_path {
        settings = settings.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &options.tls_client_paths {
        settings = settings.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(settings)
}

/// At once, then doubling from 20 ms, with jitter so that a whole fleet does not return in one instant.
fn reconnect_delay(attempts: usize) -> Duration {
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let doublings = attempts.min(10) as u32;
    let whole = Duration::from_millis(10 * 2_u64.pow(doublings)).min(LONGEST_RECONNECT_DELAY);
    whole.mul_f64(rand::rng().random_range(0.5..=1.0))
}

fn connect_error(url: &str, error: &ConnectError) -> BusError {
    let url = url.to_owned();
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            BusError::AuthRefused { url, detail: error.to_string() }
        }
        ConnectErrorKind::ServerParse => BusError::BadOptions { detail: format!("{url}: {error}") },
        ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Tls
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => BusError::NatsUnreachable { url, detail: error.to_string() },
    }
}

/// The addresses as they may be shown and logged: `nats://token@host` becomes `nats://host`.
fn without_login(urls: &str) -> String {
    let strip = |url: &str| match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => url.to_owned(),
    };
    urls.split(',').map(|url| strip(url.trim())).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_address_keeps_no_secret() {
        assert_eq!(without_login("nats://s3cret@a:4222, tls://u:p@b"), "nats://a:4222,tls://b");
        assert_eq!(without_login("a:4222"), "a:4222");
    }

    #[test]
    fn reconnecting_slows_down_to_a_limit() {
        assert_eq!(reconnect_delay(1), Duration::ZERO);
        assert!(reconnect_delay(2) <= Duration::from_millis(40));
        assert!(
            (LONGEST_RECONNECT_DELAY / 2..=LONGEST_RECONNECT_DELAY).contains(&reconnect_delay(1_000_000))
        );
    }
}
