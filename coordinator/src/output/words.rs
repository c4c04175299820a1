//! Times and numbers for people.

use common::units::{Millis, UnixMs};

/// `4 min 03 s`; `-` when there is none.
pub fn duration(ms: Option<u64>) -> String {
    ms.map_or_else(dash, |ms| Millis(ms).to_string())
}

/// `+12 min`: a time from now.
pub fn from_now(ms: u64) -> String {
    match ms {
        0 => "now".to_owned(),
        ms => format!("+{}", Millis(ms)),
    }
}

/// `3 min 20 s ago`.
pub fn ago(now: UnixMs, then: UnixMs) -> String {
    match now.0.saturating_sub(then.0) {
        0..1000 => "just now".to_owned(),
        ms => format!("{} ago", Millis(ms)),
    }
}

/// `12:03:41` of the UTC day, for lines that follow each other.
pub fn clock(at: UnixMs) -> String {
    let s = at.0 / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", s / 3600, s % 3600 / 60, s % 60)
}

/// Four decimals; `-` for what has no meaning here.
pub fn figure(value: Option<f64>) -> String {
    value.map_or_else(dash, |v| format!("{v:.4}"))
}

/// A loss: as many decimals as say something.
pub fn loss(value: f64) -> String {
    match value.abs() {
        a if a >= 100.0 => format!("{value:.1}"),
        a if a >= 0.001 || a == 0.0 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    }
}

/// `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn plural(n: usize, word: &str) -> String {
    if n == 1 { format!("{n} {word}") } else { format!("{n} {word}s") }
}

pub fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_short_texts() {
        assert_eq!(duration(Some(243_000)), "4 min 03 s");
        assert_eq!((from_now(0), from_now(61_000)), ("now".into(), "+1 min 01 s".into()));
        assert_eq!(ago(UnixMs(10_000), UnixMs(9_500)), "just now");
        assert_eq!(ago(UnixMs(10_000), UnixMs(1_000)), "9 s ago");
        assert_eq!(clock(UnixMs(1_795_466_744_123)), "20:45:44");
        assert_eq!(
            (loss(0.02149), loss(1234.56), loss(0.0000123)),
            ("0.0215".into(), "1234.6".into(), "1.2e-5".into())
        );
        assert_eq!(
            (count(7), count(999_999), count(1_234_567)),
            ("7".into(), "999,999".into(), "1,234,567".into())
        );
        assert_eq!((plural(1, "job"), plural(0, "job")), ("1 job".into(), "0 jobs".into()));
    }
}
