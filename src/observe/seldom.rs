//! Log lines of which there may be many at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between two log lines of a kind that clients can bring about at will.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// A log line that is written now and then, with the number of those that were left out.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// `Some(n)`: write it, `n` were left out since the last one. `None`: leave it out.
    pub(crate) fn now(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.0.is_some_and(|last| now < last + LOG_PAUSE) {
            state.1 += 1;
            return None;
        }
        let left_out = std::mem::take(&mut state.1);
        state.0 = Some(now);
        Some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_left_out_is_counted() {
        let log = Seldom::default();
        assert_eq!((log.now(), log.now(), log.now()), (Some(0), None, None));
        tokio::time::advance(LOG_PAUSE).await;
        assert_eq!(log.now(), Some(2));
    }
}
