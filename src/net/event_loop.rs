//! What a worker's thread runs: the tasks of its sessions, their sockets and their timers, around one
//! epoll. A task that is woken is polled once, and then the others have their turn; a socket says what
//! it is worth trying by bits that one look at an event sets.
//!
//! Everything is the thread's own; what other threads may touch (a waker, a timer that is dropped)
//! stands behind locks that nobody else wants.

pub(super) mod calls;
pub(super) mod sockets;
pub(super) mod timers;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{self, Poll, Waker};

use futures::future::BoxFuture;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::time::Timespec;
use slab::Slab;

use calls::{Call, Calls};
use sockets::Sockets;
use timers::Timers;

/// Events taken at once.
const EVENTS: usize = 256;
/// Room for so many tasks stays where there is none any more.
const KEPT: usize = 1024;
/// What other threads call for.
const CALLED: u64 = u64::MAX;
/// A timer is due.
const DUE: u64 = u64::MAX - 1;
/// The number of the main task, which is no other's.
const MAIN: usize = usize::MAX;

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// The loop that this thread runs, as its tasks see it.
struct Here {
    sockets: Arc<Sockets>,
    timers: Arc<Timers>,
    /// Tasks that are to be begun.
    begun: VecDeque<BoxFuture<'static, ()>>,
}

/// A loop that was made and does not run yet.
pub(crate) struct EventLoop {
    calls: Arc<Calls>,
    sockets: Arc<Sockets>,
    timers: Arc<Timers>,
}

/// One task.
struct Task {
    future: BoxFuture<'static, ()>,
    call: Arc<Call>,
    waker: Waker,
}

impl EventLoop {
    /// Makes a loop.
    ///
    /// # Errors
    ///
    /// There are no file descriptors left.
    pub(crate) fn new() -> io::Result<Self> {
        let made = Self {
            calls: Arc::new(Calls::new()?),
            sockets: Arc::new(Sockets::new()?),
            timers: Arc::new(Timers::new()?),
        };
        made.sockets.watch(made.calls.bell(), CALLED)?;
        made.sockets.watch(made.timers.clock(), DUE)?;
        Ok(made)
    }

    /// Runs `main` and what is spawned here until `main` has ended; what is left then is dropped.
    ///
    /// # Errors
    ///
    /// The system does not wait for events.
    pub(crate) fn run(self, main: impl Future<Output = ()>) -> io::Result<()> {
        let _lives_here = Lives::here(&self);
        let mut tasks = Tasks::default();
        let mut main = pin!(main);
        let main_call = Call::new(MAIN, &self.calls);
        let main_waker = Waker::from(Arc::clone(&main_call));
        main_waker.wake_by_ref();
        let mut called = Vec::new();
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            calls::take_woken_here(&mut called);
            for number in called.drain(..) {
                if number == MAIN {
                    main_call.is_answered();
                    calls::renew_share();
                    let mut context = task::Context::from_waker(&main_waker);
                    if main.as_mut().poll(&mut context).is_ready() {
                        return Ok(());
                    }
                } else {
                    tasks.poll(number);
                }
            }
            while let Some(future) = take_begun() {
                tasks.begin(future, &self.calls);
            }
            let now = Timespec::default();
            let wait = calls::is_any_woken_here().then_some(&now);
            match epoll::wait(self.sockets.epoll(), spare_capacity(&mut events), wait) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            self.sockets.tell(events.drain(..), |other| {
                if other == DUE {
                    self.timers.fire();
                } else {
                    self.calls.take_up();
                }
            });
        }
    }
}

/// The tasks of a loop, by their numbers.
#[derive(Default)]
struct Tasks(Slab<Task>);

impl Tasks {
    /// Takes a task on, and polls it for the first time.
    fn begin(&mut self, future: BoxFuture<'static, ()>, calls: &Arc<Calls>) {
        let entry = self.0.vacant_entry();
        let number = entry.key();
        let call = Call::new(number, calls);
        let waker = Waker::from(Arc::clone(&call));
        entry.insert(Task {
            future,
            call,
            waker,
        });
        self.poll(number);
    }

    /// Polls a task, unless it has ended meanwhile.
    #[inline]
    fn poll(&mut self, number: usize) {
        let Some(task) = self.0.get_mut(number) else {
            return;
        };
        task.call.is_answered();
        let mut context = task::Context::from_waker(&task.waker);
        calls::renew_share();
        // A panic ends the task alone; it has been logged when it began.
        let polled = catch_unwind(AssertUnwindSafe(|| task.future.as_mut().poll(&mut context)));
        if !matches!(polled, Ok(Poll::Pending)) {
            self.end(number);
        }
    }

    fn end(&mut self, number: usize) {
        self.0.remove(number).end();
        if self.0.is_empty() && self.0.capacity() > KEPT {
            self.0 = Slab::new();
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.drain().for_each(Task::end);
    }
}

impl Task {
    /// Lets go of what the task holds; a panic there is its alone, too.
    fn end(self) {
        self.call.is_void();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(self)));
    }
}

/// While it lives, this thread runs a loop.
struct Lives(());

impl Lives {
    fn here(event_loop: &EventLoop) -> Self {
        event_loop.calls.are_answered_here();
        let here = Here {
            sockets: Arc::clone(&event_loop.sockets),
            timers: Arc::clone(&event_loop.timers),
            begun: VecDeque::new(),
        };
        HERE.set(Some(here));
        super::moment::runs_a_loop(true);
        Self(())
    }
}

impl Drop for Lives {
    fn drop(&mut self) {
        super::moment::runs_a_loop(false);
        calls::none_are_answered_here();
        drop(HERE.take());
    }
}

fn take_begun() -> Option<BoxFuture<'static, ()>> {
    HERE.with_borrow_mut(|here| here.as_mut()?.begun.pop_front())
}

/// The sockets of the loop that this thread runs, if it runs one.
pub(super) fn sockets() -> Option<Arc<Sockets>> {
    HERE.with_borrow(|here| Some(Arc::clone(&here.as_ref()?.sockets)))
}

/// The timers of the loop that this thread runs, if it runs one.
pub(super) fn timers() -> Option<Arc<Timers>> {
    HERE.with_borrow(|here| Some(Arc::clone(&here.as_ref()?.timers)))
}

/// Begins a task beside the one that asks for it: in this thread's loop, or, where it runs none (in
/// tests), in tokio's.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    let left = HERE.with_borrow_mut(|here| match here {
        Some(here) => {
            here.begun.push_back(Box::pin(future));
            None
        }
        None => Some(future),
    });
    if let Some(future) = left {
        tokio::spawn(future);
    }
}

/// Ready, unless the task has had its share of the present turn: then it is woken for the next one. For
/// whoever loops over what may be there for ever.
pub(super) fn poll_share(context: &mut task::Context<'_>) -> Poll<()> {
    if HERE.with_borrow(Option::is_none) {
        return tokio::task::coop::poll_proceed(context).map(|share| share.made_progress());
    }
    if calls::take_share() {
        return Poll::Ready(());
    }
    context.waker().wake_by_ref();
    Poll::Pending
}

/// Waits for the next turn if the task has had its share of this one.
pub(crate) async fn share() {
    std::future::poll_fn(poll_share).await;
}

#[cfg(test)]
mod tests;
