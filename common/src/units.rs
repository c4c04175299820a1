//! Quantities with their unit in the type.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Mebibytes of memory. Integers only: fractions of a card were what over-committed it elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mib(pub u64);

impl Mib {
    pub fn from_bytes_ceil(bytes: u64) -> Mib {
        Mib(bytes.div_ceil(1024 * 1024))
    }

    pub fn checked_sub(self, other: Mib) -> Option<Mib> {
        self.0.checked_sub(other.0).map(Mib)
    }

    pub fn saturating_sub(self, other: Mib) -> Mib {
        Mib(self.0.saturating_sub(other.0))
    }

    pub fn saturating_add(self, other: Mib) -> Mib {
        Mib(self.0.saturating_add(other.0))
    }

    /// `self` × `permille` / 1000, rounded down: a cap may never round up.
    pub fn permille(self, permille: u32) -> Mib {
        Mib((self.0 as u128 * permille as u128 / 1000) as u64)
    }
}

impl std::iter::Sum for Mib {
    fn sum<I: Iterator<Item = Mib>>(items: I) -> Mib {
        items.fold(Mib(0), Mib::saturating_add)
    }
}

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{} MiB", self.0))
    }
}

/// Milliseconds on the clock of one process. Two machines' values are never compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    pub const fn from_secs(secs: u64) -> Millis {
        Millis(secs.saturating_mul(1000))
    }

    pub fn plus(self, other: Millis) -> Millis {
        Millis(self.0.saturating_add(other.0))
    }

    /// Time since `earlier`; 0 when `earlier` lies ahead.
    pub fn since(self, earlier: Millis) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0 / 1000;
        let text = match s {
            0 => format!("{} ms", self.0),
            1..60 => format!("{s} s"),
            60..3600 => format!("{} min {:02} s", s / 60, s % 60),
            _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
        };
        f.pad(&text)
    }
}

/// Wall-clock time in milliseconds since 1970, for people and for ordering plans of one admin. Never
/// compared to judge a lease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub u64);

impl fmt::Display for UnixMs {
    /// RFC 3339 in UTC, `2026-11-23T20:45:44Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, secs) = (self.0 / 86_400_000, self.0 / 1000 % 86_400);
        let (y, m, d) = civil_from_days(days);
        write!(f, "{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}Z", secs / 3600, secs % 3600 / 60, secs % 60)
    }
}

/// Days since 1970-01-01 to the proleptic Gregorian date, by the 400-year cycle of 146,097 days with
/// years that begin in March (so that the leap day comes last).
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cap_rounds_down() {
        assert_eq!(Mib(24_564).permille(900), Mib(22_107));
        assert_eq!(Mib(1).permille(999), Mib(0));
    }

    #[test]
    fn wall_time_prints_as_rfc_3339() {
        assert_eq!(UnixMs(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(UnixMs(951_826_154_000).to_string(), "2000-02-29T12:09:14Z");
        assert_eq!(UnixMs(1_795_466_744_123).to_string(), "2026-11-23T20:45:44Z");
    }
}
