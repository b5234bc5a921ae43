//! Chance, so that replicas do not do the same at the same time.

/// A number from 0 to 1, another one each time.
pub(crate) fn fraction() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};

    let draw = RandomState::new().hash_one(0) >> 32;
    f64::from(draw as u32) / f64::from(u32::MAX)
}
