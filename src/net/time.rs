//! Waiting for a moment: by the timers of the loop that the thread runs, or, where it runs none, by
//! tokio's, as in the simulation, whose clock is its own.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::event_loop::{self, timers::Timer};
use super::moment::far;

/// The time that something had is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("its time is over")
    }
}

impl std::error::Error for Elapsed {}

/// Resolves at a moment.
#[derive(Debug)]
pub(crate) struct Sleep(By);

#[derive(Debug)]
enum By {
    Loop(Timer),
    Tokio(Pin<Box<tokio::time::Sleep>>),
}

/// Waits until `at`.
pub(crate) fn sleep_until(at: Instant) -> Sleep {
    Sleep(match event_loop::timers() {
        Some(timers) => By::Loop(Timer::new(at, timers)),
        None => By::Tokio(Box::pin(tokio::time::sleep_until(at))),
    })
}

/// Waits for a while.
pub(crate) fn sleep(duration: Duration) -> Sleep {
    sleep_until(after(duration))
}

/// The moment after so long; a far one, where that is beyond the clock.
fn after(duration: Duration) -> Instant {
    Instant::now().checked_add(duration).unwrap_or_else(far)
}

impl Sleep {
    /// The moment.
    pub(crate) fn deadline(&self) -> Instant {
        match &self.0 {
            By::Loop(timer) => timer.deadline(),
            By::Tokio(sleep) => sleep.deadline(),
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.get_mut().0 {
            By::Loop(timer) => timer.poll(context),
            By::Tokio(sleep) => sleep.as_mut().poll(context),
        }
    }
}

pin_project! {
    /// See [`timeout`].
    pub(crate) struct Timeout<F> {
        #[pin]
        future: F,
        limit: Sleep,
    }
}

/// What `future` comes to, if it does within `limit`.
pub(crate) fn timeout<F: Future>(limit: Duration, future: F) -> Timeout<F> {
    timeout_at(after(limit), future)
}

/// What `future` comes to, if it does by `deadline`.
pub(crate) fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout {
        future,
        limit: sleep_until(deadline),
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(context) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.limit).poll(context).map(|()| Err(Elapsed))
    }
}
