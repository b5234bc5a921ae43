//! How a task is woken: on its own thread by a place in the list of those who are polled next, from
//! other threads by a list behind a lock and a bell that the loop hears.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use rustix::event::{EventfdFlags, eventfd};

/// The number of the main task, which is no other's.
pub(super) const MAIN: usize = usize::MAX >> 2;

/// What a task may take of one turn, by [`take_share`].
const SHARE: u32 = 128;

thread_local! {
    /// Nothing in it is ever dropped, so that a look at it costs one instruction.
    static NOW: Now = const {
        Now {
            answers: Cell::new(0),
            task: Cell::new(MAIN),
            waker: Cell::new(ptr::null()),
            share: Cell::new(0),
            news: Cell::new(false),
        }
    };
    /// Who is polled next.
    static WOKEN: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

struct Now {
    /// Whose calls are answered by this thread; 0: nobody's.
    answers: Cell<u64>,
    /// The task that is polled.
    task: Cell<usize>,
    /// What tells its waker from all others.
    waker: Cell<*const ()>,
    /// What is left of its share.
    share: Cell<u32>,
    /// Somebody was woken, or is to be begun.
    news: Cell<bool>,
}

/// The calls from other threads for one loop.
#[derive(Debug)]
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
    pub(super) fn answer_here(&self) {
        NOW.with(|now| now.answers.set(self.number));
    }

    /// True on the thread whose loop these calls are for.
    pub(super) fn are_answered_here(&self) -> bool {
        NOW.with(|now| now.answers.get()) == self.number
    }

    /// The task that this waker wakes, if that is the one that this loop polls at present.
    pub(super) fn task_of(&self, waker: &Waker) -> Option<usize> {
        let is_its = NOW.with(|now| ptr::eq(now.waker.get(), waker.data()));
        (is_its && self.are_answered_here()).then(|| NOW.with(|now| now.task.get()))
    }

    /// The bell has rung: whoever was called for is polled next.
    #[inline(never)]
    pub(super) fn take_up(&self) {
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        WOKEN.with_borrow_mut(|woken| woken.append(&mut called));
        bring_news();
    }

    /// Makes the loop look at what other threads have for it.
    pub(super) fn ring(&self) {
        // It fails only after 2^64 rings.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }

    #[inline(never)]
    fn ring_for(&self, task: usize) {
        let mut called = self.called.lock().unwrap_or_else(PoisonError::into_inner);
        called.push(task);
        let is_first = called.len() == 1;
        // Whoever is woken by it takes what is called for.
        drop(called);
        if is_first {
            self.ring();
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
        // One that is not seen here yet has its poll still before it.
        if self.made.load(Ordering::Relaxed) {
            // With what those did who found that it was made already.
            self.made.swap(false, Ordering::AcqRel);
        }
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
        let is_here = self.calls.are_answered_here()
            && WOKEN
                .try_with(|woken| woken.borrow_mut().push(self.task))
                .is_ok();
        if is_here {
            bring_news();
        } else {
            self.calls.ring_for(self.task);
        }
    }
}

/// Appends those who were woken.
pub(super) fn take_woken_here(into: &mut Vec<usize>) {
    WOKEN.with_borrow_mut(|woken| into.append(woken));
}

/// Somebody was woken, or is to be begun.
pub(super) fn bring_news() {
    NOW.with(|now| now.news.set(true));
}

/// True if somebody was woken, or is to be begun, since [`take_news`].
#[inline]
pub(super) fn are_there_news() -> bool {
    NOW.with(|now| now.news.get())
}

/// The same, and from now on only what comes is news.
#[inline]
pub(super) fn take_news() -> bool {
    NOW.with(|now| now.news.replace(false))
}

/// The thread's loop has ended.
pub(super) fn none_are_answered_here() {
    NOW.with(|now| now.answers.set(0));
    WOKEN.take();
}

/// A task begins its turn, with its share.
#[inline]
pub(super) fn begin_turn(task: usize, waker: &Waker) {
    NOW.with(|now| {
        now.task.set(task);
        now.waker.set(waker.data());
        now.share.set(SHARE);
    });
}

/// Takes a part of the present task's share; false: it has had all of it.
pub(super) fn take_share() -> bool {
    NOW.with(|now| {
        let left = now.share.get();
        now.share.set(left.saturating_sub(1));
        left > 0
    })
}
