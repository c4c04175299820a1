//! Versions of nats-server.

use std::fmt;

/// The oldest server we accept. Tested with 2.15.1; 2.12.0 and 2.12.1 still have bugs that can lose
/// acknowledged writes in a crash, so newer is better.
pub const MINIMUM_VERSION: ServerVersion = ServerVersion { major: 2, minor: 12, patch: 0 };

/// `major.minor.patch`; what follows a dash (`-RC.1`) is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerVersion {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl ServerVersion {
    /// Reads `2.15.1`, `v2.15.1`, `2.12.0-RC.1` or the line `nats-server: v2.15.1`.
    pub fn parse(text: &str) -> Option<Self> {
        let last = text.split_whitespace().last()?;
        let numbers = last.trim_start_matches('v').split(['-', '+']).next()?;
        let mut numbers = numbers.split('.').map(|number| number.parse::<u32>().ok());
        let version = Self { major: numbers.next()??, minor: numbers.next()??, patch: numbers.next()?? };
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for ServerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_ordered() {
        let version = |text| ServerVersion::parse(text);
        assert_eq!(version("nats-server: v2.15.1\n"), Some(ServerVersion { major: 2, minor: 15, patch: 1 }));
        assert!(version("2.9.10") < Some(MINIMUM_VERSION));
        assert!(version("2.12.0-RC.1") >= Some(MINIMUM_VERSION));
        for bad in ["", "2.12", "two", "2.12.x", "1.2.3.4"] {
            assert_eq!(version(bad), None, "{bad:?}");
        }
    }
}
