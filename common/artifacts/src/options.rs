//! What a store URL means, and the bounds of every call made to it.

use crate::error::ArtifactError;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// How to reach a store. What is `None` comes from the standard `AWS_*` variables (S3 only).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// `http://host:port` of an S3-compatible server; `None` = `AWS_ENDPOINT_URL` or AWS itself.
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<Secret>,
    pub session_token: Option<Secret>,
    /// `bucket.host/key` in place of `host/bucket/key`. Self-hosted servers want path style (`false`).
    pub virtual_hosted_style: bool,
    pub connect_timeout: Duration,
    /// One HTTP request with its body; a part of a big object is one request.
    pub request_timeout: Duration,
    /// One call of ours with all its retries, or one part of a transfer.
    pub call_timeout: Duration,
    /// Repetitions of one request after connection errors, time-outs and 5xx.
    pub max_retries: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            endpoint: None,
            region: None,
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            virtual_hosted_style: false,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(30),
            call_timeout: Duration::from_secs(60),
            max_retries: 2,
        }
    }
}

/// Where a URL points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Folder(PathBuf),
    Memory,
    S3 { bucket: String, prefix: String },
}

impl Place {
    pub(crate) fn parse(url: &str) -> Result<Place, ArtifactError> {
        let bad = |problem: &str| ArtifactError::BadUrl { url: url.to_owned(), problem: problem.to_owned() };
        let Some((scheme, rest)) = url.split_once("://") else {
            return match url {
                "" => Err(bad("is empty")),
                path => Ok(Place::Folder(PathBuf::from(path))),
            };
        };
        match scheme {
            "file" if rest.starts_with('/') => Ok(Place::Folder(PathBuf::from(rest))),
            "file" => Err(bad("names a host; a folder has three slashes")),
            "memory" => Ok(Place::Memory),
            "s3" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                match bucket {
                    "" => Err(bad("names no bucket")),
                    _ => Ok(Place::S3 {
                        bucket: bucket.to_owned(),
                        prefix: prefix.trim_matches('/').to_owned(),
                    }),
                }
            }
            _ => Err(bad("has an unknown scheme")),
        }
    }
}

impl StoreOptions {
    pub(crate) fn s3(&self, url: &str, bucket: &str) -> Result<AmazonS3, ArtifactError> {
        use_ring();
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_virtual_hosted_style_request(self.virtual_hosted_style)
            .with_retry(self.retries());
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        if let Some(id) = &self.access_key_id {
            builder = builder.with_access_key_id(id);
        }
        if let Some(secret) = &self.secret_access_key {
            builder = builder.with_secret_access_key(&secret.0);
        }
        if let Some(token) = &self.session_token {
            builder = builder.with_token(&token.0);
        }
        let endpoint = self.endpoint.clone().or_else(endpoint_from_env);
        // An endpoint that says http:// is meant so: no second switch to turn.
        let allow_http = endpoint.as_deref().is_some_and(|e| e.starts_with("http://"));
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let client = ClientOptions::new()
            .with_allow_http(allow_http)
            .with_connect_timeout(self.connect_timeout)
            .with_timeout(self.request_timeout);
        builder
            .with_client_options(client)
            .build()
            .map_err(|e| ArtifactError::BadUrl { url: url.to_owned(), problem: e.to_string() })
    }

    fn retries(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(2),
                base: 2.,
            },
            max_retries: self.max_retries,
            retry_timeout: self.call_timeout,
        }
    }
}

fn endpoint_from_env() -> Option<String> {
    ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"].iter().find_map(|k| std::env::var(k).ok())
}

/// One crypto library in the process: without this, rustls panics at the first TLS connection as soon as
/// two are compiled in. An `Err` means that someone installed one before us, which is as good.
fn use_ring() {
    let _already = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_mean_places() {
        assert_eq!(Place::parse("/srv/x").unwrap(), Place::Folder("/srv/x".into()));
        assert_eq!(Place::parse("file:///srv/x").unwrap(), Place::Folder("/srv/x".into()));
        assert_eq!(Place::parse("memory://").unwrap(), Place::Memory);
        let s3 = |bucket: &str, prefix: &str| Place::S3 { bucket: bucket.into(), prefix: prefix.into() };
        assert_eq!(Place::parse("s3://b").unwrap(), s3("b", ""));
        assert_eq!(Place::parse("s3://b/p/q/").unwrap(), s3("b", "p/q"));
        for bad in ["", "s3://", "file://host/x", "http://x/y"] {
            let told = Place::parse(bad).unwrap_err().to_string();
            assert!(told.contains("s3://bucket/prefix"), "{told}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let options =
            StoreOptions { secret_access_key: Some(Secret("hush".into())), ..StoreOptions::default() };
        assert!(!format!("{options:?}").contains("hush"));
    }
}
