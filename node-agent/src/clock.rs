//! Milliseconds of this process, for the core; and wall time, for people.

use common::units::{Millis, UnixMs};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Starts at an hour, so that "long ago" can be told from "at the start" by subtraction. Cheap to copy.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

const AT_START: Millis = Millis::from_secs(3600);

impl Clock {
    pub fn start() -> Clock {
        Clock { start: Instant::now() }
    }

    pub fn now(&self) -> Millis {
        AT_START.plus(Millis(self.start.elapsed().as_millis() as u64))
    }

    /// Wall time of a moment of this clock.
    pub fn wall(&self, at: Millis) -> UnixMs {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMs((since_1970.as_millis() as u64).saturating_sub(self.now().since(at).0))
    }
}
