//! Message headers: names to single values. Names keep their case on the wire and are read back exactly,
//! so write W3C trace headers in lower case (`traceparent`, `tracestate`).

use std::collections::BTreeMap;

/// Headers of one message, ordered by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `name`, replacing an older value. Line breaks in either become spaces: a header ends at one.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let one_line = |text: String| text.replace(['\r', '\n'], " ");
        self.0.insert(one_line(name.into()), one_line(value.into()));
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes these headers take on the wire (`NATS/1.0`, one `name: value` line each, an empty line).
    pub(crate) fn wire_bytes(&self) -> usize {
        if self.0.is_empty() {
            return 0;
        }
        12 + self.0.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in pairs {
            headers.insert(name, value);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_cannot_smuggle_in_a_second_header() {
        let headers = Headers::from_iter([("traceparent", "00-ab\r\nevil: 1")]);
        assert_eq!(headers.get("traceparent"), Some("00-ab  evil: 1"));
        assert_eq!(headers.get("evil"), None);
    }
}
