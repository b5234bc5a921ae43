//! Chance, so that processes do not do the same at the same time.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// A number from 0 to 1, another one each time.
pub(crate) fn fraction() -> f64 {
    let draw = RandomState::new().hash_one(0) >> 32;
    f64::from(draw as u32) / f64::from(u32::MAX)
}

/// Half of `time` to all of it.
pub(crate) fn half_or_more(time: Duration) -> Duration {
    time.mul_f64(0.5 + fraction() / 2.0)
}
