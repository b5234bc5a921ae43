//! The clock, as what happens in every turn reckons with it.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::LazyLock;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// A moment: nanoseconds of the system's monotonic clock,
/// of which a difference is one instruction. A thread that runs a loop reads that clock; another one
/// reads tokio's, which is the same or, in the simulation, one that goes on from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(NonZeroU64);

thread_local! {
    static RUNS_A_LOOP: Cell<bool> = const { Cell::new(false) };
}

/// Says whether this thread runs a loop.
pub(super) fn runs_a_loop(it_does: bool) {
    RUNS_A_LOOP.set(it_does);
}

/// One moment by both clocks, taken once: what one says of the other's readings is off by the time between
/// these two, always by the same.
static BOTH: LazyLock<(Instant, Moment)> = LazyLock::new(|| {
    let instant = std::time::Instant::now();
    (instant.into(), Moment::of_the_system())
});

impl Moment {
    /// This moment.
    #[inline]
    pub(crate) fn now() -> Self {
        if RUNS_A_LOOP.get() {
            Self::of_the_system()
        } else {
            Self::from(Instant::now())
        }
    }

    #[inline]
    fn of_the_system() -> Self {
        // There is no system without this clock. It counts from the start, and has room for centuries.
        let time = clock_gettime(ClockId::CLOCK_MONOTONIC);
        Self::at(time.map_or(0, |time| {
            time.tv_sec().cast_unsigned() * 1_000_000_000 + time.tv_nsec().cast_unsigned()
        }))
    }

    /// A moment by its number.
    #[inline]
    pub(crate) fn at(nanoseconds: u64) -> Self {
        Self(NonZeroU64::new(nanoseconds).unwrap_or(NonZeroU64::MIN))
    }

    /// The same as a number, for [`Moment::at`].
    #[inline]
    pub(crate) fn nanoseconds(self) -> u64 {
        self.0.get()
    }

    /// The nanoseconds since an earlier moment; none, if it was not.
    #[inline]
    pub(crate) fn since(self, earlier: Self) -> u64 {
        self.0.get().saturating_sub(earlier.0.get())
    }

    /// The moment so much later; the last one, where that is beyond the clock.
    pub(crate) fn after(self, duration: Duration) -> Self {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanoseconds))
    }
}

impl From<Instant> for Moment {
    fn from(instant: Instant) -> Self {
        let (base, moment) = *BOTH;
        if let Some(later) = instant.checked_duration_since(base) {
            return moment.after(later);
        }
        let earlier = u64::try_from((base - instant).as_nanos()).unwrap_or(u64::MAX);
        Self::at(moment.0.get().saturating_sub(earlier))
    }
}

impl From<Moment> for Instant {
    fn from(moment: Moment) -> Self {
        let (base, first) = *BOTH;
        let later = Duration::from_nanos(moment.since(first));
        let earlier = Duration::from_nanos(first.since(moment));
        base.checked_add(later).map_or_else(far, |at| at - earlier)
    }
}

/// A moment that is far from now.
pub(super) fn far() -> Instant {
    const FAR: Duration = Duration::from_hours(24 * 365);
    Instant::now() + FAR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn both_clocks_tell_the_same_moment() {
        for step in [0, 1, 1_000, 86_400_000_000_000] {
            tokio::time::advance(Duration::from_nanos(step)).await;
            let now = Instant::now();
            assert_eq!(Instant::from(Moment::from(now)), now);
            assert_eq!(Moment::now(), Moment::from(now));
        }
    }

    #[test]
    fn a_thread_with_a_loop_reads_the_same_clock() {
        let before = Moment::from(Instant::now());
        runs_a_loop(true);
        let between = Moment::now();
        runs_a_loop(false);
        let after = Moment::now();
        // What joins the clocks is off by the time of a reading.
        let skew = Duration::from_millis(100);
        assert!(before <= between.after(skew));
        assert!(between <= after.after(skew));
    }

    #[test]
    fn what_is_beyond_the_clock_is_far() {
        let now = Moment::now();
        let last = now.after(Duration::MAX);
        assert!(Instant::from(last) > Instant::now() + Duration::from_hours(24 * 364));
        assert_eq!(now.since(last), 0);
    }
}
