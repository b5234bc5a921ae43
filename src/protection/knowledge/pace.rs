//! How often the catalogs are read.

use std::time::Duration;

/// How long after DDL the catalogs are read once more: Hologres' front ends lag behind one another.
pub(super) const FOLLOW_UP: Duration = Duration::from_secs(1);
/// How much longer than a reading took the catalogs are left alone behind it, so that under
/// unending DDL they are being read at most a fifth of the time.
pub(super) const REST_PER_WORK: u32 = 4;
/// The first wait after a failed reading; each further one is twice as long, up to the refresh
/// interval.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_secs(1);
