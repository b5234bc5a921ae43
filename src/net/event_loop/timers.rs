//! The timers of one loop. One clock of the system's is set to the earliest of them, and to a later one
//! only once it has rung: a timer that never comes to its end, as most, costs no call.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::time::Instant;

/// The timers of one loop.
#[derive(Debug)]
pub(in crate::net) struct Timers {
    clock: OwnedFd,
    set: Mutex<Set>,
}

#[derive(Debug, Default)]
struct Set {
    /// By when they are due, and a number that tells them apart.
    waiting: BTreeMap<(Instant, u64), Waker>,
    next: u64,
    /// When the clock rings.
    rings: Option<Instant>,
}

/// One timer.
#[derive(Debug)]
pub(in crate::net) struct Timer {
    at: Instant,
    /// Its number, while it is among those that wait.
    number: Option<u64>,
    timers: Arc<Timers>,
}

impl Timers {
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self {
            clock: timerfd_create(TimerfdClockId::Monotonic, flags)?,
            set: Mutex::default(),
        })
    }

    /// Each time it rings is an event of its own, edge-triggered: it is never read.
    pub(super) fn clock(&self) -> BorrowedFd<'_> {
        self.clock.as_fd()
    }

    /// The clock has rung: wakes whoever is due.
    #[inline(never)]
    pub(super) fn fire(&self) {
        let mut set = self.set();
        let now = Instant::now();
        let later = set.waiting.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut set.waiting, later);
        set.rings = None;
        self.arm(&mut set, now);
        drop(set);
        due.into_values().for_each(Waker::wake);
    }

    /// Sets the clock, if it does not ring early enough.
    fn arm(&self, set: &mut Set, now: Instant) {
        let Some((&(first, _), _)) = set.waiting.first_key_value() else {
            return;
        };
        if set.rings.is_some_and(|rings| rings <= first) {
            return;
        }
        // Nothing at all would stop the clock.
        let left = first.saturating_duration_since(now);
        let left = left.max(Duration::from_nanos(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            },
        };
        match timerfd_settime(&self.clock, TimerfdTimerFlags::empty(), &once) {
            Ok(_) => set.rings = Some(first),
            Err(error) => tracing::error!(%error, "a timer cannot be set"),
        }
    }

    fn set(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timer {
    pub(in crate::net) fn new(at: Instant, timers: Arc<Timers>) -> Self {
        Self {
            at,
            number: None,
            timers,
        }
    }

    /// When it is due.
    pub(in crate::net) fn deadline(&self) -> Instant {
        self.at
    }

    /// Ready once it is due.
    pub(in crate::net) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut set = self.timers.set();
        if let Some(number) = self.number {
            let Some(waker) = set.waiting.get_mut(&(self.at, number)) else {
                self.number = None;
                return Poll::Ready(());
            };
            waker.clone_from(context.waker());
            return Poll::Pending;
        }
        let now = Instant::now();
        if self.at <= now {
            return Poll::Ready(());
        }
        let number = set.next;
        set.next += 1;
        set.waiting
            .insert((self.at, number), context.waker().clone());
        self.timers.arm(&mut set, now);
        drop(set);
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.timers.set().waiting.remove(&(self.at, number));
        }
    }
}
