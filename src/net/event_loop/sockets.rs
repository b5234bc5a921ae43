//! The sockets of one loop: for each, what it is worth trying, and who is to be woken. Edge-triggered:
//! what was tried and would have blocked is not worth trying before the system says so again.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use slab::Slab;

/// Room for so many sockets stays where there is none any more.
const KEPT: usize = 2048;

/// It may be read.
const READABLE: u32 = 1;
/// It may be written.
const WRITABLE: u32 = 2;
/// The peer has ended its direction, or the connection is broken. This stays so.
const ENDED: u32 = 4;
/// What counts the events.
const EVENT: u32 = 8;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

impl Way {
    /// The bits of which one says that it is worth a try.
    const fn bits(self) -> u32 {
        match self {
            Self::In => READABLE | ENDED,
            Self::Out => WRITABLE,
        }
    }
}

/// The sockets of one loop.
#[derive(Debug)]
pub(in crate::net) struct Sockets {
    epoll: OwnedFd,
    all: Mutex<Slab<Entry>>,
}

/// One socket, as the loop knows it.
#[derive(Debug)]
struct Entry {
    state: Arc<State>,
    /// Woken by each event until another takes its place.
    reader: Option<Waker>,
    /// Woken once.
    writer: Option<Waker>,
}

/// The bits above, and how many events there have been: what is cleared is cleared only if none has come
/// meanwhile.
#[derive(Debug)]
struct State(AtomicU32);

/// A socket that a loop watches, until this is dropped.
#[derive(Debug)]
pub(in crate::net) struct Watched {
    state: Arc<State>,
    /// Who is woken when there is something to read.
    reader: Option<Waker>,
    number: usize,
    sockets: Arc<Sockets>,
}

impl Sockets {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            all: Mutex::default(),
        })
    }

    pub(super) fn epoll(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Watches something else, whose events have this number.
    pub(super) fn watch(&self, descriptor: BorrowedFd<'_>, number: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::ET;
        let data = EventData::new_u64(number);
        Ok(epoll::add(&self.epoll, descriptor, data, flags)?)
    }

    /// Watches a socket; `connected`: it may be written at once.
    pub(in crate::net) fn add(
        self: &Arc<Self>,
        socket: impl AsFd,
        connected: bool,
    ) -> io::Result<Watched> {
        let state = Arc::new(State(AtomicU32::new(if connected { WRITABLE } else { 0 })));
        let number = self.all().insert(Entry {
            state: Arc::clone(&state),
            reader: None,
            writer: None,
        });
        let watched = Watched {
            state,
            reader: None,
            number,
            sockets: Arc::clone(self),
        };
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let data = EventData::new_u64(number as u64);
        epoll::add(&self.epoll, socket, data, flags)?;
        Ok(watched)
    }

    /// Tells the sockets of their events, and `others` of those that have numbers of no socket.
    #[inline]
    pub(super) fn tell(&self, events: impl Iterator<Item = Event>, mut others: impl FnMut(u64)) {
        let mut all = self.all();
        for event in events {
            let number = event.data.u64();
            // The socket may have been closed meanwhile. If another one has its number now, that is
            // tried once for nothing.
            match usize::try_from(number).ok().and_then(|at| all.get_mut(at)) {
                Some(entry) => entry.tell(event.flags),
                None => others(number),
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, Slab<Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    #[inline]
    fn tell(&mut self, flags: EventFlags) {
        const OVER: EventFlags = EventFlags::HUP.union(EventFlags::ERR);
        const READ: EventFlags = OVER.union(EventFlags::IN).union(EventFlags::RDHUP);
        const END: EventFlags = OVER.union(EventFlags::RDHUP);
        const WRITE: EventFlags = OVER.union(EventFlags::OUT);
        let bit = |of: EventFlags, bit| if flags.intersects(of) { bit } else { 0 };
        let set = bit(READ, READABLE) | bit(END, ENDED) | bit(WRITE, WRITABLE);
        self.state.set(set);
        if set & Way::In.bits() != 0
            && let Some(reader) = &self.reader
        {
            reader.wake_by_ref();
        }
        if set & WRITABLE != 0
            && let Some(writer) = self.writer.take()
        {
            writer.wake();
        }
    }
}

impl State {
    /// An event has come.
    #[inline]
    fn set(&self, bits: u32) {
        let mut before = self.0.load(Ordering::Relaxed);
        while let Err(changed) = self.0.compare_exchange_weak(
            before,
            (before | bits).wrapping_add(EVENT),
            Ordering::AcqRel,
            Ordering::Relaxed,
        ) {
            before = changed;
        }
    }

    #[inline]
    fn has(&self, bits: u32) -> bool {
        self.0.load(Ordering::Acquire) & bits != 0
    }

    /// Ready if one of these bits is there.
    #[inline]
    fn poll(&self, bits: u32) -> Poll<()> {
        if self.has(bits) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Watched {
    /// True if this way is worth a try.
    #[inline]
    pub(in crate::net) fn may(&self, way: Way) -> bool {
        self.state.has(way.bits())
    }

    /// Ready once this way is worth a try. Of each way one task can wait.
    #[inline]
    pub(in crate::net) fn poll(&mut self, way: Way, context: &mut Context<'_>) -> Poll<()> {
        match way {
            Way::In => self.poll_in(way.bits(), context),
            Way::Out => self.poll_out(context),
        }
    }

    /// Ready once the peer has ended its direction or the connection is broken; takes the place of who
    /// waits to read.
    pub(in crate::net) fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_in(ENDED, context)
    }

    #[inline]
    fn poll_in(&mut self, bits: u32, context: &mut Context<'_>) -> Poll<()> {
        let reader = self.reader.as_ref();
        if !reader.is_some_and(|reader| reader.will_wake(context.waker())) {
            if self.state.has(bits) {
                return Poll::Ready(());
            }
            self.read_by(context.waker());
        }
        // If the waker has just come: perhaps the event has come before it.
        self.state.poll(bits)
    }

    /// This one is woken from now on.
    #[inline(never)]
    fn read_by(&mut self, waker: &Waker) {
        self.reader = Some(waker.clone());
        let mut all = self.sockets.all();
        let before = all
            .get_mut(self.number)
            .and_then(|entry| entry.reader.replace(waker.clone()));
        drop(all);
        drop(before);
    }

    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.state.has(WRITABLE) {
            return Poll::Ready(());
        }
        let mut all = self.sockets.all();
        let before = all
            .get_mut(self.number)
            .and_then(|entry| entry.writer.replace(context.waker().clone()));
        drop(all);
        drop(before);
        // The event may have come before the waker was there.
        self.state.poll(WRITABLE)
    }

    /// Tries a way, if it is worth it. `call` says what it has moved of what there was room for: what
    /// came short, or would block, was all that could be moved for now.
    #[inline]
    pub(in crate::net) fn attempt(
        &self,
        way: Way,
        room: usize,
        call: impl FnOnce() -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let before = self.state.0.load(Ordering::Acquire);
        if before & way.bits() == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let moved = call();
        let is_all = match moved {
            Ok(moved) => moved > 0 && moved < room,
            Err(error) => error == rustix::io::Errno::WOULDBLOCK,
        };
        if is_all {
            let clear = way.bits() & !ENDED;
            // Not if an event has come since.
            let _ = self.state.0.compare_exchange(
                before,
                before & !clear,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
        Ok(moved?)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // The system forgets a socket that is closed; whoever drops this closes it.
        let mut all = self.sockets.all();
        let entry = all.try_remove(self.number);
        if all.is_empty() && all.capacity() > KEPT {
            *all = Slab::new();
        }
        drop(all);
        drop(entry);
    }
}
