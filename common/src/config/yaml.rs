//! YAML text to a tree that knows its lines.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::Spanned;
use std::fmt;

/// A mapping, or anything else as a plain value.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Map(Vec<(String, At)>),
    Leaf(Value),
}

/// A node and the line of its key (of itself at the root).
#[derive(Debug, Clone, PartialEq)]
pub struct At {
    pub line: u64,
    pub node: Node,
}

/// The text is no YAML, or holds something a configuration can not.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct YamlError {
    pub line: u64,
    pub message: String,
}

pub fn parse(text: &str) -> Result<At, YamlError> {
    // The parser refuses a document without content, which here means "nothing to say".
    if text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) {
        return Ok(At { line: 1, node: Node::Leaf(Value::Null) });
    }
    let root: Spanned<Node> = serde_saphyr::from_str(text).map_err(|e| YamlError {
        line: e.location().map_or(1, |at| at.line()),
        message: first_line(&e.without_snippet().to_string()),
    })?;
    Ok(At { line: root.referenced.line(), node: root.value })
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Node, E> {
        Ok(Node::Leaf(v.into()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Node, E> {
        Ok(Node::Leaf(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Node, E> {
        Ok(Node::Leaf(v.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Node, E> {
        let number = serde_json::Number::from_f64(v).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Node::Leaf(Value::Number(number)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Node, E> {
        Ok(Node::Leaf(v.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Node, D::Error> {
        Node::deserialize(from)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Node>()? {
            list.push(plain(item));
        }
        Ok(Node::Leaf(Value::Array(list)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let node = entries.next_value::<Node>()?;
            map.push((key.value, At { line: key.referenced.line(), node }));
        }
        Ok(Node::Map(map))
    }
}

/// Inside a list lines are not kept: the list as a whole is one leaf.
fn plain(node: Node) -> Value {
    match node {
        Node::Leaf(value) => value,
        Node::Map(entries) => entries.into_iter().map(|(key, at)| (key, plain(at.node))).collect(),
    }
}
