//! Counters that sessions move: one [`Shard`] per worker, so that no cache line is shared, summed
//! when scraped.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that one worker moves and the scraper reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
