//! candump log files: `(1436509052.249713) can0 044#2A366C2BBA000000`. They carry no labels.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use super::collector::Collector;
use super::hex;
use crate::error::{DataError, Result};
use crate::frames::Frame;

const SHAPE: &str = "`(seconds) interface ID#DATA`";

pub(super) fn read(path: &Path, collector: &mut Collector<'_>) -> Result<()> {
    let file = File::open(path).map_err(|e| DataError::io("open", path, e))?;
    read_from(file, path, collector)
}

/// From any source, say a pipe; `path` names it in errors. Nothing waits in the collector while the source is
/// asked for more.
pub(super) fn read_from(source: impl Read, path: &Path, collector: &mut Collector<'_>) -> Result<()> {
    collector.without_labels();
    let mut reader = BufReader::with_capacity(256 * 1024, source);
    let mut text = Vec::new();
    let mut line = 0;
    loop {
        text.clear();
        if !reader.buffer().contains(&b'\n') {
            collector.flush()?;
        }
        let length = reader.read_until(b'\n', &mut text).map_err(|e| DataError::io("read", path, e))?;
        if length == 0 {
            return Ok(());
        }
        line += 1;
        if text.trim_ascii().is_empty() {
            continue;
        }
        match parse(&text) {
            Line::Frame(frame) => collector.good(frame)?,
            Line::Bad(expected) => collector.bad(line, expected, &text)?,
            Line::CanFd => return Err(DataError::CanFd { path: path.into(), line }),
        }
    }
}

enum Line {
    Frame(Frame),
    CanFd,
    Bad(&'static str),
}

fn parse(text: &[u8]) -> Line {
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let (Some(time), Some(_interface), Some(message)) = (words.next(), words.next(), words.next()) else {
        return Line::Bad(SHAPE);
    };
    let time = time.strip_prefix(b"(").and_then(|time| time.strip_suffix(b")"));
    let Some(timestamp_s) = time.and_then(hex::seconds) else {
        return Line::Bad("a time in seconds in brackets");
    };
    let Some(hash) = message.iter().position(|&byte| byte == b'#') else {
        return Line::Bad(SHAPE);
    };
    let (id, data) = (&message[..hash], &message[hash + 1..]);
    if data.starts_with(b"#") {
        return Line::CanFd;
    }
    let Some(id) = hex::id(id) else {
        return Line::Bad("a hex id of at most 29 bits before `#`");
    };
    // A remote frame asks for data and carries none.
    let data = if data.starts_with(b"R") { &[] } else { data };
    match hex::payload(data) {
        Ok((payload, len)) => Line::Frame(Frame { timestamp_s, id, payload, len, label: 0 }),
        Err(expected) => Line::Bad(expected),
    }
}
