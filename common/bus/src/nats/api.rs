//! Calls to the server, each bounded in time, and their errors in our terms.

use super::Link;
use crate::error::{BusError, Result};
use crate::headers::Headers;
use async_nats::client::{PublishErrorKind, Request, RequestErrorKind};
use async_nats::jetstream;
use async_nats::jetstream::account::Account;
use async_nats::jetstream::consumer::{PullConsumer, pull};
use async_nats::jetstream::context::RequestErrorKind as JsRequestErrorKind;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind};
use async_nats::jetstream::{Error as JsError, ErrorCode};
use async_nats::{HeaderMap, Message};
use bytes::Bytes;
use futures::StreamExt;
use std::future::{Future, IntoFuture};
use std::time::Duration;

/// The answer of JetStream: what was asked for, or its own error for the caller to interpret.
pub(super) type Answered<T> = std::result::Result<T, JsError>;

impl Link {
    /// Awaits `call` for the time-out of the connection at most.
    pub(super) async fn bounded<T>(
        &self,
        what: impl Fn() -> String,
        call: impl IntoFuture<Output = T>,
    ) -> Result<T> {
        within(self.timeout, what, call.into_future()).await
    }

    pub(super) fn check_size(&self, headers: &Headers, payload: &Bytes) -> Result<()> {
        let (size_bytes, limit_bytes) =
            (headers.wire_bytes() + payload.len(), self.client.server_info().max_payload);
        if size_bytes > limit_bytes {
            return Err(BusError::TooLarge { size_bytes, limit_bytes });
        }
        Ok(())
    }

    /// One request over core NATS.
    pub(super) async fn ask(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Message> {
        let mut request = Request::new().payload(payload).timeout(Some(timeout));
        if !headers.is_empty() {
            request = request.headers(headers);
        }
        // The client's own time-out does not cover the wait for a place in its queue while disconnected.
        let what = || format!("request on {subject}");
        let sent = self.client.send_request(subject.to_owned(), request);
        let answer = within(timeout + Duration::from_millis(100), what, sent).await?;
        answer.map_err(|error| match error.kind() {
            RequestErrorKind::TimedOut => {
                BusError::TimedOut { what: what(), after_ms: timeout.as_millis() as u64 }
            }
            RequestErrorKind::NoResponders => BusError::NoResponders { subject: subject.to_owned() },
            RequestErrorKind::InvalidSubject => {
                BusError::InvalidSubject { subject: subject.to_owned(), reason: "the client refused it" }
            }
            RequestErrorKind::MaxPayloadExceeded => {
                BusError::Refused { what: what(), detail: error.to_string() }
            }
            RequestErrorKind::Other => BusError::Disconnected { what: what(), detail: error.to_string() },
        })
    }

    /// Publishes to a stream and waits for the storage acknowledgement, which carries the sequence.
    pub(super) async fn store(
        &self,
        stream: &str,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Answered<u64>> {
        let answer =
            self.ask(subject, headers, payload, self.timeout).await.map_err(|error| match error {
                // No stream listens to the subject, or the leader of the one that does is being elected.
                BusError::NoResponders { .. } => BusError::StreamNotFound { stream: stream.to_owned() },
                other => other,
            })?;
        let what = || format!("publish on {subject}");
        let ack: Response<PublishAck> = serde_json::from_slice(&answer.payload)
            .map_err(|error| BusError::Refused { what: what(), detail: error.to_string() })?;
        Ok(match ack {
            Response::Ok(ack) => Ok(ack.sequence),
            Response::Err { error } => Err(error),
        })
    }

    /// One call of the JetStream API, `subject` without its prefix.
    pub(super) async fn api<T: ApiAnswer>(
        &self,
        subject: &str,
        payload: &serde_json::Value,
    ) -> Result<Answered<T>> {
        let what = || format!("JetStream {subject}");
        let asked = self.context.request(subject.to_owned(), payload);
        let answer: std::result::Result<Response<T>, _> = self.bounded(what, asked).await?;
        match answer {
            Ok(Response::Ok(value)) => Ok(Ok(value)),
            Ok(Response::Err { error }) => Ok(Err(error)),
            Err(error) => Err(self.request_error(what(), error.kind(), &error)),
        }
    }

    pub(super) fn request_error(
        &self,
        what: String,
        kind: JsRequestErrorKind,
        error: &dyn std::error::Error,
    ) -> BusError {
        match kind {
            JsRequestErrorKind::TimedOut => {
                BusError::TimedOut { what, after_ms: self.timeout.as_millis() as u64 }
            }
            JsRequestErrorKind::NoResponders => BusError::NoResponders { subject: what },
            JsRequestErrorKind::InvalidSubject => BusError::Refused { what, detail: error.to_string() },
            JsRequestErrorKind::Other => BusError::Disconnected { what, detail: error.to_string() },
        }
    }

    /// Asks JetStream about this account, which fails if there is no JetStream.
    pub(super) async fn account(&self) -> Result<Account> {
        let disabled = || BusError::JetStreamDisabled { url: self.url.clone() };
        match self.api("INFO", &serde_json::json!({})).await {
            Ok(Ok(account)) => Ok(account),
            Ok(Err(error)) => Err(match error.error_code() {
                ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => disabled(),
                _ => refused("JetStream INFO".to_owned(), "", &error),
            }),
            Err(BusError::NoResponders { .. }) => Err(disabled()),
            Err(error) => Err(error),
        }
    }

    /// State of a stream as its leader knows it.
    pub(super) async fn stream_info(&self, stream: &str) -> Result<jetstream::stream::Info> {
        let answer = self.api(&format!("STREAM.INFO.{stream}"), &serde_json::json!({})).await?;
        answer.map_err(|error| refused(format!("state of stream {stream}"), stream, &error))
    }

    /// Creates a pull consumer, or brings the one of that name in line.
    pub(super) async fn create_consumer(&self, stream: &str, config: pull::Config) -> Result<PullConsumer> {
        let what = || format!("consumer on stream {stream}");
        let created = self.context.create_consumer_on_stream(config, stream);
        self.bounded(what, created).await?.map_err(|error| self.consumer_error(what(), stream, &error))
    }

    pub(super) async fn get_consumer(&self, stream: &str, name: &str) -> Result<Option<PullConsumer>> {
        let what = || format!("consumer {name} of stream {stream}");
        let got = self.context.get_consumer_from_stream(name, stream);
        match self.bounded(what, got).await? {
            Ok(consumer) => Ok(Some(consumer)),
            Err(error) => match error.kind() {
                ConsumerErrorKind::JetStream(js) if js.error_code() == ErrorCode::CONSUMER_NOT_FOUND => {
                    Ok(None)
                }
                _ => Err(self.consumer_error(what(), stream, &error)),
            },
        }
    }

    /// Removes a consumer; if that fails, the server does so after the consumer's time of inactivity.
    pub(super) async fn forget_consumer(&self, stream: &str, name: &str) {
        let subject = format!("CONSUMER.DELETE.{stream}.{name}");
        match self.api::<serde_json::Value>(&subject, &serde_json::json!({})).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, stream, name, "consumer not deleted"),
            Err(error) => tracing::debug!(%error, stream, name, "consumer not deleted"),
        }
    }

    fn consumer_error(&self, what: String, stream: &str, error: &ConsumerError) -> BusError {
        match error.kind() {
            ConsumerErrorKind::TimedOut => {
                BusError::TimedOut { what, after_ms: self.timeout.as_millis() as u64 }
            }
            ConsumerErrorKind::Request => BusError::Disconnected { what, detail: error.to_string() },
            ConsumerErrorKind::JetStream(js) => refused(what, stream, &js),
            ConsumerErrorKind::InvalidConsumerType
            | ConsumerErrorKind::InvalidName
            | ConsumerErrorKind::Other => BusError::Refused { what, detail: error.to_string() },
        }
    }

    /// Sends a message to ourselves and waits for it: the server handles the commands of one connection in
    /// order, so it has handled all earlier ones then. (`flush` only empties the client's buffer.)
    pub(super) async fn round_trip(&self) -> Result<()> {
        let what = || "round trip to the server".to_owned();
        let down = |error: &dyn std::error::Error| BusError::Disconnected {
            what: what(),
            detail: error.to_string(),
        };
        let inbox = self.client.new_inbox();
        let echo = async {
            let mut echo = self.client.subscribe(inbox.clone()).await.map_err(|error| down(&error))?;
            self.client.publish(inbox, Bytes::new()).await.map_err(|error| publish_error(what(), &error))?;
            echo.next().await.map(drop).ok_or_else(|| down(&std::fmt::Error))
        };
        self.bounded(what, echo).await?
    }
}

/// What the JetStream API answers with.
pub(super) trait ApiAnswer: for<'de> serde::Deserialize<'de> + Send {}
impl<T: for<'de> serde::Deserialize<'de> + Send> ApiAnswer for T {}

async fn within<T>(limit: Duration, what: impl Fn() -> String, call: impl Future<Output = T>) -> Result<T> {
    let answer = tokio::time::timeout(limit, call).await;
    answer.map_err(|_| BusError::TimedOut { what: what(), after_ms: limit.as_millis() as u64 })
}

pub(super) fn publish_error(what: String, error: &async_nats::client::PublishError) -> BusError {
    match error.kind() {
        PublishErrorKind::Send => BusError::Disconnected { what, detail: error.to_string() },
        PublishErrorKind::MaxPayloadExceeded | PublishErrorKind::InvalidSubject => {
            BusError::Refused { what, detail: error.to_string() }
        }
    }
}

/// An error of JetStream that needs no special care: gone or being elected, passing, or final.
pub(super) fn refused(what: String, stream: &str, error: &JsError) -> BusError {
    const PASSING: usize = 503;
    const DUPLICATE_IN_PROCESS: ErrorCode = ErrorCode(10158);
    if error.error_code() == ErrorCode::STREAM_NOT_FOUND {
        return BusError::StreamNotFound { stream: stream.to_owned() };
    }
    // Somebody else stores the same message at this very moment; asked again, it is known as a duplicate.
    if error.code() == PASSING || error.error_code() == DUPLICATE_IN_PROCESS {
        return BusError::Unavailable { what, detail: error.to_string() };
    }
    BusError::Refused { what, detail: error.to_string() }
}
