//! Moving bytes: both sockets, one task, one future that polls both directions.
//!
//! A read buffer is lent when a socket has data and given back when it is drained, so an idle
//! session holds none. What a turn has read is written in that turn. One direction never waits for
//! the other; a direction that cannot write does not read, which is the back-pressure.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll};

use crate::core::{Core, Op, Outbox, Progress, Queue, World};

use super::sizes::{HELD, LARGE, SMALL};
use super::stream::Stream;

/// Reads of one direction before others have their turn.
const TURNS: usize = 8;
/// Small buffers kept per worker.
const POOLED: usize = 64;
/// Pieces of one vectored write.
const PIECES: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

fn lend() -> Box<[u8]> {
    POOL.with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| vec![0; SMALL].into_boxed_slice())
}

fn give_back(buffer: Box<[u8]>) {
    if buffer.len() == SMALL {
        POOL.with_borrow_mut(|pool| {
            if pool.len() < POOLED {
                pool.push(buffer);
            }
        });
    }
}

/// Which way a lane goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the client to the server.
    Frontend,
    /// From the server to the client.
    Backend,
}

/// One direction. In `buffer`, `[head, seen)` is dealt with by the core and waits to be written
/// (the [`Queue`] says how), `[seen, tail)` waits to be looked at.
#[derive(Debug, Default)]
pub(super) struct Lane {
    buffer: Option<Box<[u8]>>,
    head: usize,
    seen: usize,
    tail: usize,
    /// The core wants to see this many bytes at once.
    wanted: usize,
    blocked: bool,
    /// The last read filled the buffer: use a larger one.
    full: bool,
    /// The source may have more without the socket saying so (TLS).
    more: bool,
    /// The source has ended.
    pub(super) ended: bool,
    /// The sink does not take any more.
    pub(super) broken: bool,
    unflushed: bool,
    /// Bytes read, for the metrics.
    pub(super) bytes: u64,
}

/// What decides about the bytes of both lanes.
pub(super) struct Mind<'a, W> {
    pub(super) core: &'a mut Core,
    pub(super) world: &'a W,
    pub(super) out: &'a mut Outbox,
}

/// What a lane did in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It waits for a socket or for the other lane.
    Waits,
    /// It moved something.
    Moved,
}

impl Lane {
    /// Begins with what was read during login.
    pub(super) fn with(leftover: &[u8]) -> Self {
        let mut lane = Self::default();
        if !leftover.is_empty() {
            let mut buffer = vec![0; leftover.len().max(SMALL)].into_boxed_slice();
            buffer[..leftover.len()].copy_from_slice(leftover);
            lane.buffer = Some(buffer);
            lane.tail = leftover.len();
        }
        lane
    }

    /// True if nothing is on its way in this direction.
    pub(super) fn is_drained(&self, queue: &Queue) -> bool {
        self.head == self.tail && queue.is_empty() && !self.unflushed
    }

    /// True if what the other lane did may let this one go on without its sockets saying so.
    pub(super) fn has_work(&self, queue: &Queue) -> bool {
        self.blocked || !queue.is_empty()
    }

    /// True once everything that came before the end of the source has been delivered, as far as
    /// it can be: a message cut off by the end is delivered cut off.
    pub(super) fn is_finished(&self, queue: &Queue) -> bool {
        let held_back = self.blocked && self.seen < self.tail;
        self.broken || (self.ended && queue.is_empty() && !self.unflushed && !held_back)
    }

    /// One turn: write what is due, read, look, write.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
        from: &mut Stream,
        to: &mut Stream,
        mind: &mut Mind<'_, impl World>,
    ) -> Turn {
        let mut turn = Turn::Waits;
        for _ in 0..TURNS {
            if self.walk(direction, mind) {
                turn = Turn::Moved;
            }
            if self
                .write(context, to, queue_of(direction, mind.out))
                .is_pending()
            {
                return turn;
            }
            if self.head == self.tail
                && let Some(buffer) = self.buffer.take()
            {
                (self.head, self.seen, self.tail) = (0, 0, 0);
                if self.full {
                    self.buffer = Some(buffer);
                } else {
                    give_back(buffer);
                }
            }
            if self.ended || (self.blocked && self.tail - self.head >= HELD) {
                return turn;
            }
            match self.read(context, from) {
                Poll::Ready(Ok(0)) => {
                    self.ended = true;
                    turn = Turn::Moved;
                }
                Poll::Ready(Ok(read)) => {
                    self.bytes += read as u64;
                    turn = Turn::Moved;
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(?direction, %error, "a connection was lost");
                    self.ended = true;
                    turn = Turn::Moved;
                }
                Poll::Pending => {
                    self.give_back_if_empty();
                    return turn;
                }
            }
        }
        // Others' turn; this session's comes again at once.
        context.waker().wake_by_ref();
        turn
    }

    fn give_back_if_empty(&mut self) {
        if self.tail == 0 {
            self.full = false;
            if let Some(buffer) = self.buffer.take() {
                give_back(buffer);
            }
        }
    }

    /// Lets the core look at what was read. True if it got any further.
    fn walk(&mut self, direction: Direction, mind: &mut Mind<'_, impl World>) -> bool {
        let unseen = self.tail - self.seen;
        let Some(buffer) = self.buffer.as_deref() else {
            return false;
        };
        if unseen == 0 || unseen < self.wanted {
            return false;
        }
        let input = &buffer[self.seen..self.tail];
        let Progress {
            consumed,
            wanted,
            blocked,
        } = match direction {
            Direction::Frontend => mind.core.on_frontend(input, mind.world, mind.out),
            Direction::Backend => mind.core.on_backend(input, mind.world, mind.out),
        };
        self.seen += consumed;
        self.wanted = wanted;
        self.blocked = blocked;
        if self.broken {
            // Nobody takes it any more; it is read so that the other side can finish.
            self.discard(queue_of(direction, mind.out));
        }
        consumed > 0
    }

    fn discard(&mut self, queue: &mut Queue) {
        *queue = Queue::default();
        self.head = self.seen;
    }

    /// Reads once, into a lent buffer.
    fn read(&mut self, context: &mut Context<'_>, from: &mut Stream) -> Poll<io::Result<usize>> {
        if !self.more && from.poll_readable(context)?.is_pending() {
            return Poll::Pending;
        }
        self.make_room();
        let Some(buffer) = self.buffer.as_deref_mut() else {
            return Poll::Pending;
        };
        let room = buffer.len() - self.tail;
        match from.poll_read(context, &mut buffer[self.tail..]) {
            Poll::Ready(Ok(read)) => {
                self.full = read == room;
                self.more = from.is_tls() || read == room;
                self.tail += read;
                Poll::Ready(Ok(read))
            }
            other => {
                self.more = false;
                other
            }
        }
    }

    /// Makes sure that there is room behind `tail`, for as much as the core wants at least.
    fn make_room(&mut self) {
        let held = self.tail - self.head;
        let needed = (self.seen - self.head) + self.wanted;
        let Some(buffer) = &mut self.buffer else {
            self.buffer = Some(lend());
            return;
        };
        if self.head > 0
            && (held == 0 || self.tail == buffer.len() || needed > buffer.len() - self.head)
        {
            buffer.copy_within(self.head..self.tail, 0);
            self.seen -= self.head;
            self.tail = held;
            self.head = 0;
        }
        let grown = if needed > buffer.len() {
            needed.next_multiple_of(SMALL)
        } else if self.tail == buffer.len() || (self.full && buffer.len() < LARGE) {
            (buffer.len() * 2).max(held + SMALL)
        } else {
            return;
        };
        let mut larger = vec![0; grown].into_boxed_slice();
        larger[..self.tail].copy_from_slice(&buffer[..self.tail]);
        if let Some(old) = self.buffer.replace(larger) {
            give_back(old);
        }
    }

    /// Writes what the queue says. Ready when nothing is left to write.
    fn write(&mut self, context: &mut Context<'_>, to: &mut Stream, queue: &mut Queue) -> Poll<()> {
        while !queue.is_empty() {
            let buffer = self.buffer.as_deref().unwrap_or_default();
            let pending = &buffer[self.head..self.seen];
            let written = match queue.only_forward() {
                Some(bytes) => to.poll_write(context, &pending[..bytes]),
                None => write_pieces(context, to, queue, pending),
            };
            match written {
                Poll::Ready(Ok(written)) => {
                    self.head += queue.advance(written);
                    self.unflushed |= to.is_tls() && written > 0;
                }
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "a connection does not take any more");
                    self.broken = true;
                    self.unflushed = false;
                    self.discard(queue);
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        if self.unflushed {
            match to.poll_flush(context) {
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(_)) => {
                    self.broken = true;
                    self.unflushed = false;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }
}

fn queue_of(direction: Direction, out: &mut Outbox) -> &mut Queue {
    match direction {
        Direction::Frontend => &mut out.to_server,
        Direction::Backend => &mut out.to_client,
    }
}

/// Several pieces: one vectored write, or for TLS, which makes a record of each, one buffer.
fn write_pieces(
    context: &mut Context<'_>,
    to: &mut Stream,
    queue: &Queue,
    pending: &[u8],
) -> Poll<io::Result<usize>> {
    let mut pieces = [io::IoSlice::new(&[]); PIECES];
    let mut count = 0;
    let mut at = 0;
    for op in queue.iter() {
        let piece: &[u8] = match op {
            Op::Drop(bytes) => {
                at += bytes;
                continue;
            }
            Op::Forward(bytes) => {
                at += bytes;
                &pending[at - bytes..at]
            }
            Op::Own(bytes) => bytes,
        };
        if count == PIECES {
            break;
        }
        pieces[count] = io::IoSlice::new(piece);
        count += 1;
    }
    let pieces = &pieces[..count];
    if count == 0 {
        return Poll::Ready(Ok(0));
    }
    if to.is_tls() {
        let mut joined = Vec::with_capacity(SMALL);
        for piece in pieces {
            let room = SMALL - joined.len();
            joined.extend_from_slice(&piece[..piece.len().min(room)]);
            if joined.len() == SMALL {
                break;
            }
        }
        return to.poll_write(context, &joined);
    }
    to.poll_write_vectored(context, pieces)
}
