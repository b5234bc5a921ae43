//! The sockets of one loop: for each, what it is worth trying, and who is to be woken. Edge-triggered:
//! what was tried and would have blocked is not worth trying before the system says so again.
//!
//! The loop counts a socket's events, and whoever has the socket keeps in mind up to which one there is
//! nothing more to move: each writes words of its own, so that no event is lost and neither waits for
//! the other. A task of the loop that waits to read is woken by its number alone; everybody else (who
//! waits to write, and wakers of another kind or on another thread) is rare, and behind a lock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use slab::Slab;

use super::calls::Calls;

/// Room for so many sockets stays where there is none any more.
const KEPT: usize = 2048;

/// The peer has ended its direction, or the connection is broken. This stays so.
const ENDED: u64 = 1;
/// What counts the events.
const EVENT: u64 = 2;

/// There may be somebody among those who are woken by a waker.
const WAKERS: usize = 1;
/// The task that reads is none of the loop's.
const NOBODY: usize = usize::MAX >> 1;

thread_local! {
    /// The sockets of the loop that this thread runs, by their numbers.
    static ALL: RefCell<Slab<Arc<State>>> = const { RefCell::new(Slab::new()) };
}

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

/// What the sockets of one loop share.
#[derive(Debug)]
pub(in crate::net) struct Sockets {
    epoll: OwnedFd,
    calls: Arc<Calls>,
    rare: Mutex<Rare>,
}

#[derive(Debug, Default)]
struct Rare {
    /// Who is woken by a waker: one that reads by each event, one that writes once.
    wakers: BTreeMap<(usize, Way), Waker>,
    /// What other threads have done: sockets that somebody waits for, and those that are gone.
    waiting: Vec<usize>,
    gone: Vec<usize>,
}

/// One socket, as the loop knows it.
#[derive(Debug)]
struct State {
    /// How many events have said that it may be read, and [`ENDED`]. The loop alone writes it.
    input: AtomicU64,
    /// How many have said that it may be written. The same.
    output: AtomicU64,
    /// Twice the task that reads it, or [`NOBODY`], and [`WAKERS`]. Written behind the lock.
    waits: AtomicUsize,
    number: usize,
    sockets: Arc<Sockets>,
}

/// A socket that a loop watches, until this is dropped.
#[derive(Debug)]
pub(in crate::net) struct Watched {
    state: Arc<State>,
    /// The events after which nothing more could be read, for now.
    read: u64,
    /// The events after which nothing more could be written, for now.
    written: u64,
    /// Who is woken when there is something to read.
    reader: Option<Waker>,
}

impl Sockets {
    pub(super) fn new(calls: Arc<Calls>) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            calls,
            rare: Mutex::default(),
        })
    }

    #[inline]
    pub(super) fn epoll(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Watches something else, whose events have this number.
    pub(super) fn watch(&self, descriptor: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::ET;
        let data = EventData::new_u64(number);
        Ok(epoll::add(&self.epoll, descriptor, data, flags)?)
    }

    /// Watches a socket, on the loop's thread; `connected`: it may be written at once.
    pub(in crate::net) fn add(
        self: &Arc<Self>,
        socket: impl AsFd,
        connected: bool,
    ) -> io::Result<Watched> {
        let state = ALL.with_borrow_mut(|all| {
            let entry = all.vacant_entry();
            let state = Arc::new(State {
                input: AtomicU64::new(0),
                output: AtomicU64::new(if connected { EVENT } else { 0 }),
                waits: AtomicUsize::new(NOBODY << 1 | WAKERS),
                number: entry.key(),
                sockets: Arc::clone(self),
            });
            entry.insert(Arc::clone(&state));
            state
        });
        let data = EventData::new_u64(state.number as u64);
        let watched = Watched {
            state,
            read: 0,
            written: 0,
            reader: None,
        };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, socket, data, flags)?;
        Ok(watched)
    }

    /// Other threads may have said something.
    pub(super) fn take_up(&self, called: &mut Vec<usize>) {
        let mut rare = self.rare();
        if rare.waiting.is_empty() && rare.gone.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut rare.waiting);
        let gone = std::mem::take(&mut rare.gone);
        drop(rare);
        ALL.with_borrow(|all| {
            // What has come before they were known has told nobody.
            for state in waiting.into_iter().filter_map(|number| all.get(number)) {
                state.wake(true, true, called);
            }
        });
        for number in gone {
            forget(number);
        }
    }

    fn rare(&self) -> MutexGuard<'_, Rare> {
        self.rare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the sockets of this thread of their events: `called` are the tasks that are to be polled for
/// it. `others` hears of events that have numbers of no socket.
#[inline]
pub(super) fn tell(events: &[Event], called: &mut Vec<usize>, mut others: impl FnMut(u64)) {
    ALL.with_borrow(|all| {
        for event in events {
            let number = event.data.u64();
            // The socket may have been closed meanwhile. If another one has its number now, that is
            // tried once for nothing.
            match usize::try_from(number).ok().and_then(|at| all.get(at)) {
                Some(state) => state.tell(event.flags, called),
                None => others(number),
            }
        }
    });
}

/// Forgets a socket of this thread's; false: this is not the time.
fn forget(number: usize) -> bool {
    let forgotten = ALL.try_with(|all| {
        let mut all = all.try_borrow_mut().ok()?;
        let state = all.try_remove(number);
        if all.is_empty() && all.capacity() > KEPT {
            *all = Slab::new();
        }
        drop(all);
        state
    });
    matches!(forgotten, Ok(Some(_)))
}

/// The thread's loop has ended.
pub(super) fn none_are_here() {
    ALL.take();
}

impl State {
    /// An event has come.
    #[inline]
    fn tell(&self, flags: EventFlags, called: &mut Vec<usize>) {
        const OVER: EventFlags = EventFlags::HUP.union(EventFlags::ERR);
        const READ: EventFlags = OVER.union(EventFlags::IN).union(EventFlags::RDHUP);
        const END: EventFlags = OVER.union(EventFlags::RDHUP);
        const WRITE: EventFlags = OVER.union(EventFlags::OUT);
        // No other thread writes these two, so that nothing can come between load and store.
        let writable = flags.intersects(WRITE);
        if writable {
            let before = self.output.load(Ordering::Relaxed);
            self.output.store(before + EVENT, Ordering::Release);
        }
        let readable = flags.intersects(READ);
        if readable {
            let ended = if flags.intersects(END) { ENDED } else { 0 };
            let before = self.input.load(Ordering::Relaxed);
            self.input
                .store((before + EVENT) | ended, Ordering::Release);
        }
        let waits = self.waits.load(Ordering::Relaxed);
        if waits & WAKERS != 0 {
            self.wake(readable, writable, called);
        } else if readable {
            called.push(waits >> 1);
        }
    }

    /// Wakes whoever waits for it, where that is not the loop's task alone.
    #[cold]
    #[inline(never)]
    fn wake(&self, readable: bool, writable: bool, called: &mut Vec<usize>) {
        let mut rare = self.sockets.rare();
        let task = self.waits.load(Ordering::Relaxed) >> 1;
        let (mut reader, mut writer) = (None, None);
        if writable {
            writer = rare.wakers.remove(&(self.number, Way::Out));
            self.note(task, &rare);
        }
        if readable && task == NOBODY {
            reader = rare.wakers.get(&(self.number, Way::In)).cloned();
        }
        drop(rare);
        if readable && task != NOBODY {
            called.push(task);
        }
        reader.into_iter().chain(writer).for_each(Waker::wake);
    }

    /// Notes who waits, with the lock.
    fn note(&self, task: usize, rare: &Rare) {
        let writes = rare.wakers.contains_key(&(self.number, Way::Out));
        let wakers = if writes || task == NOBODY { WAKERS } else { 0 };
        self.waits.store(task << 1 | wakers, Ordering::Relaxed);
    }

    /// This one is woken from now on.
    #[inline(never)]
    fn wait(&self, way: Way, waker: &Waker) {
        let sockets = &*self.sockets;
        let at = (self.number, way);
        let mut rare = sockets.rare();
        let mut task = self.waits.load(Ordering::Relaxed) >> 1;
        let mut known = None;
        if way == Way::In {
            known = sockets.calls.task_of(waker);
            task = known.unwrap_or(NOBODY);
        }
        let before = match known {
            Some(_) => rare.wakers.remove(&at),
            None => rare.wakers.insert(at, waker.clone()),
        };
        self.note(task, &rare);
        let elsewhere = !sockets.calls.are_answered_here();
        if elsewhere {
            // The loop may not see in time that somebody waits, nor this thread what has come.
            rare.waiting.push(self.number);
        }
        drop(rare);
        drop(before);
        if elsewhere {
            sockets.calls.ring();
        }
    }
}

impl Watched {
    /// True if this way is worth a try.
    #[inline]
    pub(in crate::net) fn may(&self, way: Way) -> bool {
        let (now, done) = match way {
            Way::In => (&self.state.input, self.read),
            Way::Out => (&self.state.output, self.written),
        };
        now.load(Ordering::Acquire) != done
    }

    /// Ready once this way is worth a try. Of each way one task can wait.
    #[inline]
    pub(in crate::net) fn poll(&mut self, way: Way, context: &mut Context<'_>) -> Poll<()> {
        match way {
            Way::In => self.poll_in(context, |this| this.may(Way::In)),
            Way::Out => {
                if !self.may(Way::Out) {
                    self.state.wait(Way::Out, context.waker());
                }
                // The event may have come before the waker was there.
                poll_if(self.may(Way::Out))
            }
        }
    }

    /// Ready once the peer has ended its direction or the connection is broken; takes the place of who
    /// waits to read.
    pub(in crate::net) fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_in(context, |this| {
            this.state.input.load(Ordering::Acquire) & ENDED != 0
        })
    }

    #[inline]
    fn poll_in(&mut self, context: &mut Context<'_>, is_it: impl Fn(&Self) -> bool) -> Poll<()> {
        let reader = self.reader.as_ref();
        if !reader.is_some_and(|reader| reader.will_wake(context.waker())) {
            if is_it(self) {
                return Poll::Ready(());
            }
            self.read_by(context.waker());
        }
        // If the waker has just come: perhaps the event has come before it.
        poll_if(is_it(self))
    }

    /// This one is woken from now on.
    #[inline(never)]
    fn read_by(&mut self, waker: &Waker) {
        self.state.wait(Way::In, waker);
        // While it is here, no other task has a waker that looks the same.
        self.reader = Some(waker.clone());
    }

    /// Tries a way, if it is worth it. `call` says what it has moved of what there was room for: what
    /// came short, or would block, was all that could be moved for now.
    #[inline]
    pub(in crate::net) fn attempt(
        &mut self,
        way: Way,
        room: usize,
        call: impl FnOnce() -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let (now, done) = match way {
            Way::In => (&self.state.input, &mut self.read),
            Way::Out => (&self.state.output, &mut self.written),
        };
        // What comes after this look is another event.
        let before = now.load(Ordering::Acquire);
        if before == *done {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let moved = call();
        let is_all = match moved {
            Ok(moved) => moved < room && moved > 0,
            Err(error) => error == rustix::io::Errno::WOULDBLOCK,
        };
        // An end stays worth a try.
        if is_all && before & ENDED == 0 {
            *done = before;
        }
        Ok(moved?)
    }
}

/// Ready if it is so.
#[inline]
fn poll_if(it_is: bool) -> Poll<()> {
    if it_is {
        Poll::Ready(())
    } else {
        Poll::Pending
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // The system forgets a socket that is closed; whoever drops this closes it.
        let State {
            number, sockets, ..
        } = &*self.state;
        if self.state.waits.load(Ordering::Relaxed) & WAKERS != 0 {
            let mut rare = sockets.rare();
            let wakers = [Way::In, Way::Out].map(|way| rare.wakers.remove(&(*number, way)));
            drop(rare);
            drop(wakers);
        }
        if !(sockets.calls.are_answered_here() && forget(*number)) {
            sockets.rare().gone.push(*number);
            sockets.calls.ring();
        }
    }
}
