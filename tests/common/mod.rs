//! What the integration tests share.

pub(crate) mod postgres;

use std::time::{Duration, Instant};

/// Waits until `met` is, and says how long that took.
#[allow(dead_code)] // not every test binary that shares this module needs it
pub(crate) async fn until(what: &str, mut met: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !met() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{what}: not within 20 s"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    start.elapsed()
}
