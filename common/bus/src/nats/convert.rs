//! Headers and messages, ours to async-nats' and back.

use crate::bus::Message;
use crate::error::{BusError, Result};
use crate::headers::Headers;
use async_nats::{HeaderMap, HeaderName, HeaderValue};
use std::str::FromStr;

/// Headers that the server itself sets or reads; not part of a message's meaning.
const SERVER_PREFIX: &str = "Nats-";

pub(super) fn to_nats(headers: &Headers) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, text) in headers.iter() {
        let parsed = HeaderName::from_str(name).map_err(|error| BusError::Refused {
            what: format!("header {name:?}"),
            detail: error.to_string(),
        })?;
        map.insert(parsed, value(text)?);
    }
    Ok(map)
}

pub(super) fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|error| BusError::Refused {
        what: format!("header value {text:?}"),
        detail: error.to_string(),
    })
}

pub(super) fn headers_from_nats(map: Option<&HeaderMap>) -> Headers {
    let pairs = map.into_iter().flat_map(HeaderMap::iter);
    let pairs = pairs.filter_map(|(name, values)| Some((name.to_string(), values.first()?.as_str())));
    pairs.filter(|(name, _)| !name.starts_with(SERVER_PREFIX)).collect()
}

pub(super) fn from_nats(message: async_nats::Message) -> Message {
    Message {
        subject: message.subject.to_string(),
        headers: headers_from_nats(message.headers.as_ref()),
        payload: message.payload,
        reply: message.reply.map(|reply| reply.to_string()),
    }
}
