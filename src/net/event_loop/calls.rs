//! How a task is woken: on its own thread by a place in the list of those who are polled next, from
//! other threads by a list behind a lock and a bell that the loop hears.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use rustix::event::{EventfdFlags, eventfd};

/// What a task may take of one turn, by [`take_share`].
const SHARE: u32 = 128;

thread_local! {
    static HERE: Here = const {
        Here {
            answers: Cell::new(0),
            woken: RefCell::new(Vec::new()),
            share: Cell::new(0),
        }
    };
}

struct Here {
    /// Whose calls are answered by this thread; 0: nobody's.
    answers: Cell<u64>,
    /// Who is polled next.
    woken: RefCell<Vec<usize>>,
    /// What is left of the present task's share.
    share: Cell<u32>,
}

/// The calls from other threads for one loop's tasks.
pub(super) struct Calls {
    number: u64,
    called: Mutex<Vec<usize>>,
    bell: OwnedFd,
}

impl Calls {
    pub(super) fn new() -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Ok(Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            called: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Each ring is an event of its own, edge-triggered: it is never read.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// From now on this thread polls what these calls are for.
    pub(super) fn are_answered_here(&self) {
        HERE.with(|here| here.answers.set(self.number));
    }

    /// The bell has rung: whoever was called for is polled next.
    pub(super) fn take_up(&self) {
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        HERE.with(|here| here.woken.borrow_mut().append(&mut called));
    }

    #[inline(never)]
    fn ring_for(&self, task: usize) {
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        called.push(task);
        if called.len() == 1 {
            // It fails only after 2^64 rings.
            let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
        }
    }
}

/// The waker of one task.
pub(super) struct Call {
    task: usize,
    /// The task is to be polled already, or has ended.
    made: AtomicBool,
    calls: Arc<Calls>,
}

impl Call {
    pub(super) fn new(task: usize, calls: &Arc<Calls>) -> Arc<Self> {
        Arc::new(Self {
            task,
            made: AtomicBool::new(false),
            calls: Arc::clone(calls),
        })
    }

    /// The task is polled now: what happens from here on is worth another call.
    #[inline]
    pub(super) fn is_answered(&self) {
        // With what those did who found that it was made already.
        self.made.swap(false, Ordering::AcqRel);
    }

    /// The task has ended: nobody is called any more.
    pub(super) fn is_void(&self) {
        self.made.store(true, Ordering::Relaxed);
    }
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.made.swap(true, Ordering::AcqRel) {
            return;
        }
        // A thread that is ending has no list any more.
        let is_here = HERE.try_with(|here| {
            let is_here = here.answers.get() == self.calls.number;
            if is_here {
                here.woken.borrow_mut().push(self.task);
            }
            is_here
        });
        if is_here != Ok(true) {
            self.calls.ring_for(self.task);
        }
    }
}

/// Takes the list of those who are to be polled; `into` is empty.
#[inline]
pub(super) fn take_woken_here(into: &mut Vec<usize>) {
    HERE.with(|here| std::mem::swap(&mut *here.woken.borrow_mut(), into));
}

/// True if somebody is to be polled.
#[inline]
pub(super) fn is_any_woken_here() -> bool {
    HERE.with(|here| !here.woken.borrow().is_empty())
}

/// The thread's loop has ended.
pub(super) fn none_are_answered_here() {
    HERE.with(|here| {
        here.answers.set(0);
        here.woken.take();
    });
}

/// A task begins its turn.
#[inline]
pub(super) fn renew_share() {
    HERE.with(|here| here.share.set(SHARE));
}

/// Takes a part of the present task's share; false: it has had all of it.
pub(super) fn take_share() -> bool {
    HERE.with(|here| {
        let left = here.share.get();
        here.share.set(left.saturating_sub(1));
        left > 0
    })
}
