//! The time as the key cache sees it, so that a test can move it by a day.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Where the cache takes the time from.
pub trait Clock: Send + Sync {
    /// Time since some fixed moment of this process; never goes back, whatever happens to the
    /// wall clock. Ages and deadlines are measured by it.
    fn monotonic(&self) -> Duration;

    /// The wall clock: what a record is stamped with for people and for the snapshot file.
    fn wall(&self) -> SystemTime;
}

/// What `monotonic` begins with, so that a record from before this process has its age.
const BEFORE: Duration = Duration::from_hours(24 * 3650);

/// The machine's clocks; the monotonic one is tokio's, which a test can move.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        BEFORE + self.0.elapsed()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}
