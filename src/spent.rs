//! What a test has taken of the processor: a bound on work must not depend on what else the machine does.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The processor's time that this thread has taken so far.
pub(crate) fn by_this_thread() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

/// What it has taken since it had taken so much.
pub(crate) fn since(start: Duration) -> Duration {
    by_this_thread().saturating_sub(start)
}
