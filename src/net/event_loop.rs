//! What a worker's thread runs: the tasks of its sessions, their sockets and their timers, around one
//! epoll. A task that is woken is polled once, and then the others have their turn. What the loop does
//! for each event is little: it counts it, and puts the task that reads the socket in the list of those
//! who are polled next.
//!
//! Everything is the thread's own; what other threads may touch (a waker, a timer that is dropped)
//! stands behind locks that nobody else wants, and is rare.

pub(super) mod calls;
pub(super) mod sockets;
pub(super) mod timers;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{self, Poll, Waker};

use futures::future::BoxFuture;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::time::Timespec;
use slab::Slab;

use calls::{Call, Calls, MAIN};
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
    /// In which turn of the loop it was polled last.
    polled: u64,
}

impl EventLoop {
    /// Makes a loop.
    ///
    /// # Errors
    ///
    /// There are no file descriptors left.
    pub(crate) fn new() -> io::Result<Self> {
        let calls = Arc::new(Calls::new()?);
        let made = Self {
            sockets: Arc::new(Sockets::new(Arc::clone(&calls))?),
            calls,
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
        loop {
            main_call.is_answered();
            calls::begin_turn(MAIN, &main_waker);
            let mut context = task::Context::from_waker(&main_waker);
            if main.as_mut().poll(&mut context).is_ready() {
                return Ok(());
            }
            self.serve(&mut tasks)?;
        }
    }

    /// Turns of the loop, until the main task is woken.
    #[inline(never)]
    fn serve(&self, tasks: &mut Tasks) -> io::Result<()> {
        let mut room = [const { MaybeUninit::uninit() }; EVENTS];
        loop {
            if calls::take_news() {
                self.hear(tasks);
            }
            if tasks.poll_called() {
                return Ok(());
            }
            let now = Timespec::default();
            let wait = calls::are_there_news().then_some(&now);
            let events = match epoll::wait(self.sockets.epoll(), &mut room, wait) {
                Ok((events, _)) => events,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            sockets::tell(events, &mut tasks.called, |other| match other {
                DUE => self.timers.fire(),
                _ => self.calls.take_up(),
            });
        }
    }

    /// Begins whoever is to be begun, and calls whoever was woken.
    #[inline(never)]
    fn hear(&self, tasks: &mut Tasks) {
        self.sockets.take_up(&mut tasks.called);
        while let Some(future) = take_begun() {
            tasks.begin(future, &self.calls);
        }
        calls::take_woken_here(&mut tasks.called);
    }
}

/// The tasks of a loop.
#[derive(Default)]
struct Tasks {
    /// By their numbers.
    all: Slab<Task>,
    /// Those who are polled next.
    called: Vec<usize>,
    /// Which turn of the loop it is.
    turn: u64,
}

impl Tasks {
    /// Takes a task on, and polls it for the first time.
    fn begin(&mut self, future: BoxFuture<'static, ()>, calls: &Arc<Calls>) {
        let entry = self.all.vacant_entry();
        let number = entry.key();
        let call = Call::new(number, calls);
        let waker = Waker::from(Arc::clone(&call));
        entry.insert(Task {
            future,
            call,
            waker,
            polled: u64::MAX,
        });
        self.poll(number);
    }

    /// Polls those who were called; true if the main task is among them.
    #[inline]
    fn poll_called(&mut self) -> bool {
        self.turn += 1;
        let mut is_main = false;
        let mut at = 0;
        while let Some(&number) = self.called.get(at) {
            at += 1;
            if number == MAIN {
                is_main = true;
            } else {
                self.poll(number);
            }
        }
        self.called.clear();
        is_main
    }

    /// Polls a task, unless it has ended meanwhile or was polled in this turn: several events may have
    /// called for it.
    #[inline]
    fn poll(&mut self, number: usize) {
        let Some(task) = self.all.get_mut(number) else {
            return;
        };
        if task.polled == self.turn {
            return;
        }
        task.polled = self.turn;
        task.call.is_answered();
        calls::begin_turn(number, &task.waker);
        let mut context = task::Context::from_waker(&task.waker);
        // A panic ends the task alone; it has been logged when it began.
        let polled = catch_unwind(AssertUnwindSafe(|| task.future.as_mut().poll(&mut context)));
        if !matches!(polled, Ok(Poll::Pending)) {
            self.end(number);
        }
    }

    #[cold]
    #[inline(never)]
    fn end(&mut self, number: usize) {
        self.all.remove(number).end();
        if self.all.is_empty() && self.all.capacity() > KEPT {
            self.all = Slab::new();
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.all.drain().for_each(Task::end);
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
        event_loop.calls.answer_here();
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
        sockets::none_are_here();
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
            calls::bring_news();
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
