//! When a fact was found.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// How far a replica's clock may be ahead of another's.
pub const SKEW: Duration = Duration::from_mins(5);

/// When something was found: milliseconds since 1970, by the wall clock of whoever found it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Stamp(pub u64);

impl Stamp {
    /// A time of the wall clock; a time before 1970 is 1970.
    pub fn of(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default().as_millis();
        Self(u64::try_from(since).unwrap_or(u64::MAX))
    }

    /// The same as a time of the wall clock; what no clock can show is 1970.
    pub fn time(self) -> SystemTime {
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.0));
        time.unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// This time, or the first one behind what was known when the fact was found.
    #[must_use]
    pub fn after(self, known: Self) -> Self {
        self.max(Self(known.0.saturating_add(1)))
    }

    /// So much earlier.
    #[must_use]
    pub fn less(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(milliseconds(by)))
    }

    /// So much later.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(milliseconds(by)))
    }

    /// How long ago this was at `now`.
    pub fn age(self, now: Self) -> Duration {
        Duration::from_millis(now.0.saturating_sub(self.0))
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
