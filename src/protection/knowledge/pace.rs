//! How often the catalogs are read.

use std::time::Duration;

/// When to read once more after DDL: Hologres' front ends lag behind one another.
pub(super) const FOLLOW_UP: Duration = Duration::from_secs(1);
/// Under unending DDL a database's catalogs are being read at most a fifth of the time.
pub(super) const REST_PER_WORK: u32 = 4;
/// The first wait after a failed reading; each further one is twice as long, up to the refresh
/// interval.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_secs(1);
