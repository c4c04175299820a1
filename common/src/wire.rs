//! The envelope of every record and message: `{ "v": version, "b": body }` in named MessagePack.
//!
//! Tolerant by design: unknown fields are ignored, new fields are optional, so version N reads N-1 and
//! the other way round. A version beyond [`READABLE`] is refused, not guessed at.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version this build writes.
pub const WRITTEN: u32 = 1;
/// Newest version this build can read.
pub const READABLE: u32 = 2;

#[derive(Serialize)]
struct Out<'a, T> {
    v: u32,
    b: &'a T,
}

#[derive(Deserialize)]
struct Head {
    v: u32,
}

#[derive(Deserialize)]
struct In<T> {
    b: T,
}

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("record of format {found}, this build reads up to {READABLE}: upgrade this program")]
    TooNew { found: u32 },
    #[error("not a record of ours: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    #[error("can not be written: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
}

pub fn encode<T: Serialize>(body: &T) -> Result<Vec<u8>, WireError> {
    Ok(rmp_serde::to_vec_named(&Out { v: WRITTEN, b: body })?)
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let head: Head = rmp_serde::from_slice(bytes)?;
    if head.v > READABLE {
        return Err(WireError::TooNew { found: head.v });
    }
    let envelope: In<T> = rmp_serde::from_slice(bytes)?;
    Ok(envelope.b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Old {
        a: u32,
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct New {
        a: u32,
        #[serde(default)]
        b: Option<String>,
    }

    #[test]
    fn neighbours_in_time_read_each_other() {
        let from_new = encode(&New { a: 1, b: Some("x".into()) }).unwrap();
        assert_eq!(decode::<Old>(&from_new).unwrap(), Old { a: 1 });
        let from_old = encode(&Old { a: 1 }).unwrap();
        assert_eq!(decode::<New>(&from_old).unwrap(), New { a: 1, b: None });
    }

    #[test]
    fn a_format_from_far_ahead_is_refused_by_name() {
        let bytes = rmp_serde::to_vec_named(&Out { v: READABLE + 1, b: &Old { a: 1 } }).unwrap();
        assert!(matches!(decode::<Old>(&bytes), Err(WireError::TooNew { found }) if found == READABLE + 1));
        assert!(matches!(decode::<Old>(b"garbage"), Err(WireError::Decode(_))));
    }
}
