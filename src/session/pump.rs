//! Moving bytes: both sockets, one task, both directions in turns that never wait.
//!
//! A read buffer is taken when a socket has data and given back when it is drained, so an idle
//! session holds none. What a turn has read is written in that turn. One direction never waits for
//! the other; a direction that cannot write does not read, which is the back-pressure.

use std::cell::RefCell;
use std::io;
use std::task;

use crate::core::{Core, Op, Outbox, Progress, Queue, World};
use crate::net::sizes::{HELD, LARGE, ONCE, SMALL};
use crate::net::{Stream, Transport};

/// Reads of one direction before others have their turn.
const TURNS: usize = 8;
/// Small buffers kept per worker.
const POOLED: usize = 64;
/// Pieces of one vectored write.
const PIECES: usize = 16;

thread_local! {
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

fn take_buffer() -> Box<[u8]> {
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

/// Whose messages a lane carries, in PostgreSQL's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// The client's, to the server.
    Frontend,
    /// The server's, to the client.
    Backend,
}

/// How a peer has ended what it sends, and how the other side is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// In good order: FIN.
    Fin,
    /// RST, or a connection that is lost.
    Reset,
}

/// One direction of a session. In `buffer`, the core has dealt with `[head, seen)`, which waits to
/// be written (the [`Queue`] says how), and `[seen, tail)` waits to be looked at.
///
/// What is kept is bounded: the buffer grows beyond [`LARGE`] only as far as the core wants to see
/// at once, and by reading ahead of a sink that takes nothing or a core that holds back only up to
/// [`HELD`], or to what [`Lane::look_ahead`] allows.
#[derive(Debug, Default)]
pub(super) struct Lane {
    buffer: Option<Box<[u8]>>,
    head: usize,
    seen: usize,
    tail: usize,
    /// The core wants to see this many bytes at once.
    wanted: usize,
    /// The core takes nothing before the other lane has moved.
    blocked: bool,
    /// The sink took nothing when it was last asked.
    stalled: bool,
    /// What was read ahead of a sink that took nothing was not looked at yet.
    unwalked: bool,
    /// The last read filled the buffer: use a larger one.
    full: bool,
    /// The source has ended.
    ended: Option<Close>,
    /// The sink does not take any more.
    broken: bool,
    unflushed: bool,
    /// Bytes that may be read ahead while nothing can be passed on, beyond the usual.
    allowance: usize,
    waits: Waits,
    /// The sink has taken something since [`Lane::take_passed_on`] was last asked.
    passed_on: bool,
    /// The source will wake the task: it has been asked to, and has had nothing to read since.
    asked: bool,
    /// Bytes read, for the metrics.
    pub(super) bytes: u64,
}

/// What a lane waits for after a turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Waits {
    /// True if the lane waits for its source to be readable.
    pub(super) readable: bool,
    /// True if the lane waits for its sink to be writable.
    pub(super) writable: bool,
    /// True if the lane does not read, since what it would read could not be passed on.
    pub(super) held: bool,
}

/// What decides about the bytes of both lanes.
pub(super) struct Judge<'a, W> {
    pub(super) core: &'a mut Core,
    pub(super) world: &'a W,
    pub(super) out: &'a mut Outbox,
}

/// What a lane did in its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing: it waits, see [`Lane::waits`].
    Idle,
    /// It moved something, and waits.
    Moved,
    /// It could go on, but others have their turn first.
    Busy,
}

impl Lane {
    /// A lane that begins with what was read during login.
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

    /// What the lane waits for since its last turn.
    pub(super) fn waits(&self) -> Waits {
        self.waits
    }

    /// How the source has ended, if it has.
    pub(super) fn ended(&self) -> Option<Close> {
        self.ended
    }

    /// True if the sink does not take any more.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Bytes of memory that it holds.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.buffer.as_deref().map_or(0, <[u8]>::len)
    }

    /// True if the sink has taken something since the last call.
    pub(super) fn take_passed_on(&mut self) -> bool {
        std::mem::take(&mut self.passed_on)
    }

    /// True if nothing is on its way in this direction.
    pub(super) fn is_drained(&self, queue: &Queue) -> bool {
        self.head == self.tail && self.is_written(queue)
    }

    /// True if everything that the core has dealt with has been delivered.
    pub(super) fn is_written(&self, queue: &Queue) -> bool {
        queue.is_empty() && !self.unflushed
    }

    /// True if what the other lane did may let this one go on without its sockets saying so.
    pub(super) fn has_work(&self, queue: &Queue) -> bool {
        self.blocked || !queue.is_empty()
    }

    /// True once everything that came before the end of the source has been delivered, as far as
    /// it can be: a message cut off by the end is delivered cut off.
    pub(super) fn is_finished(&self, queue: &Queue) -> bool {
        let held_back = self.blocked && self.seen < self.tail;
        let unseen = held_back || self.unwalked || self.stalled;
        self.broken || (self.ended.is_some() && self.is_written(queue) && !unseen)
    }

    /// While nothing can be passed on, up to `bytes` are read all the same: the end of the source
    /// may lie behind what it has sent, where nothing else tells of it. 0: as usual.
    pub(super) fn look_ahead(&mut self, bytes: usize) {
        self.allowance = bytes;
    }

    /// Takes one turn: looks at what was read, writes what is due, reads, and again, as long as it
    /// goes.
    #[inline]
    pub(super) fn turn<T: Transport>(
        &mut self,
        sender: Sender,
        from: &mut Stream<T>,
        to: &mut Stream<T>,
        judge: &mut Judge<'_, impl World>,
    ) -> Turn {
        if self.is_at_rest(queue_of(sender, judge.out)) && !from.may_read() {
            // Of the two lanes, nearly always one has nothing to do.
            self.unwalked = false;
            self.full = false;
            self.waits = Waits {
                readable: true,
                ..Waits::default()
            };
            return Turn::Idle;
        }
        self.work(sender, from, to, judge)
    }

    #[inline(never)]
    fn work<T: Transport>(
        &mut self,
        sender: Sender,
        from: &mut Stream<T>,
        to: &mut Stream<T>,
        judge: &mut Judge<'_, impl World>,
    ) -> Turn {
        let mut turn = Turn::Idle;
        self.waits = Waits::default();
        // The last read has taken all that there was.
        let mut dry = false;
        if self.is_at_rest(queue_of(sender, judge.out)) {
            // Nothing to look at, and nothing to write.
            self.unwalked = false;
            if !self.read_on(sender, from, &mut dry) {
                return turn;
            }
            turn = Turn::Moved;
        }
        for _ in 0..TURNS {
            if !self.stalled && self.walk(sender, judge) {
                turn = Turn::Moved;
            }
            let was_stalled = self.stalled;
            self.stalled = !self.write(to, queue_of(sender, judge.out));
            self.waits.writable = self.stalled;
            self.unwalked = was_stalled && !self.stalled;
            if self.unwalked {
                // What was read ahead is looked at now.
                continue;
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
            if self.ended.is_some() {
                return turn;
            }
            if !self.may_keep_more() {
                self.waits.held = true;
                return turn;
            }
            if dry {
                self.wait_for_more();
                return turn;
            }
            if !self.read_on(sender, from, &mut dry) {
                return turn;
            }
            turn = Turn::Moved;
        }
        Turn::Busy
    }

    /// True if it holds nothing, and nothing is due.
    fn is_at_rest(&self, queue: &Queue) -> bool {
        self.buffer.is_none() && self.is_written(queue) && !self.stalled && self.ended.is_none()
    }

    /// Reads what has come, or notes how the source has ended; false: nothing has come, and the lane
    /// waits for it.
    #[inline]
    fn read_on<T: Transport>(
        &mut self,
        sender: Sender,
        from: &mut Stream<T>,
        dry: &mut bool,
    ) -> bool {
        if !from.may_read() {
            self.wait_for_more();
            return false;
        }
        match self.read(from) {
            Ok((0, _)) => self.ended = Some(Close::Fin),
            Ok((read, short)) => {
                self.bytes += read as u64;
                *dry = short;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wait_for_more();
                return false;
            }
            Err(error) => {
                tracing::debug!(?sender, %error, "a connection was lost");
                self.ended = Some(Close::Reset);
            }
        }
        true
    }

    /// True once there may be something to read. A source that has not been readable since it was last
    /// asked still has the waker: nobody has to ask it again.
    pub(super) fn poll_source<T: Transport>(
        &mut self,
        from: &mut Stream<T>,
        task: &mut task::Context<'_>,
    ) -> bool {
        if self.asked && !from.may_read() {
            return false;
        }
        let ready = from.poll_readable(task).is_ready();
        self.asked = !ready;
        ready
    }

    /// Another task, or none that is known, is to be woken from now on.
    pub(super) fn ask_anew(&mut self) {
        self.asked = false;
    }

    /// Writes what is due, and nothing else; true once all of it has been delivered, as far as it
    /// can be.
    pub(super) fn deliver<T: Transport>(&mut self, to: &mut Stream<T>, queue: &mut Queue) -> bool {
        self.broken || self.write(to, queue)
    }

    /// True if what is read now can be passed on, or may be kept.
    fn may_keep_more(&self) -> bool {
        let kept = self.tail - self.head;
        if self.stalled {
            kept < self.allowance
        } else {
            !self.blocked || kept < HELD.max(self.allowance)
        }
    }

    fn wait_for_more(&mut self) {
        self.waits.readable = true;
        if self.tail == 0 {
            self.full = false;
            if let Some(buffer) = self.buffer.take() {
                give_back(buffer);
            }
        }
    }

    /// Lets the core look at what was read. True if it got any further.
    fn walk(&mut self, sender: Sender, judge: &mut Judge<'_, impl World>) -> bool {
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
        } = match sender {
            Sender::Frontend => judge.core.on_frontend(input, judge.world, judge.out),
            Sender::Backend => judge.core.on_backend(input, judge.world, judge.out),
        };
        self.seen += consumed;
        self.wanted = wanted;
        self.blocked = blocked;
        if self.broken {
            // Nobody takes it any more; it is read so that the other side can finish.
            self.discard(queue_of(sender, judge.out));
        }
        consumed > 0
    }

    fn discard(&mut self, queue: &mut Queue) {
        *queue = Queue::default();
        self.head = self.seen;
    }

    /// Reads once, into a buffer that is taken where there is none. True beside the number of bytes if
    /// that was less than there was room for: then there is nothing more, as far as can be told, and
    /// whoever waits for the source finds out. What TLS has decrypted no socket tells of, so that it is
    /// always asked again.
    fn read<T: Transport>(&mut self, from: &mut Stream<T>) -> io::Result<(usize, bool)> {
        self.asked = false;
        if self.buffer.is_some() {
            self.make_room();
        }
        let buffer = self.buffer.get_or_insert_with(take_buffer);
        let room = buffer.len() - self.tail;
        let read = from.try_read(&mut buffer[self.tail..])?;
        self.full = read == room;
        self.tail += read;
        Ok((read, read < room.min(ONCE) && !from.is_tls()))
    }

    /// Makes sure that there is room behind `tail`, for as much as the core wants at least.
    fn make_room(&mut self) {
        let held = self.tail - self.head;
        let needed = (self.seen - self.head) + self.wanted;
        let Some(buffer) = &mut self.buffer else {
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
        let grown = if self.allowance > buffer.len() {
            // The buffer grows to this size at once, lest two large buffers stand beside each
            // other; pages of it that are not used cost nothing.
            self.allowance.next_multiple_of(SMALL)
        } else if needed > buffer.len() {
            needed.next_multiple_of(SMALL)
        } else if self.tail == buffer.len() || (self.full && buffer.len() < LARGE) {
            buffer.len() * 2
        } else {
            return;
        };
        let mut larger = vec![0; grown].into_boxed_slice();
        larger[..self.tail].copy_from_slice(&buffer[..self.tail]);
        if let Some(old) = self.buffer.replace(larger) {
            give_back(old);
        }
    }

    /// Writes what the queue says. True when nothing is left to write; false: the sink takes no more
    /// for now.
    #[inline]
    fn write<T: Transport>(&mut self, to: &mut Stream<T>, queue: &mut Queue) -> bool {
        self.is_written(queue) || self.write_out(to, queue)
    }

    fn write_out<T: Transport>(&mut self, to: &mut Stream<T>, queue: &mut Queue) -> bool {
        while !queue.is_empty() {
            let buffer = self.buffer.as_deref().unwrap_or_default();
            let pending = &buffer[self.head..self.seen];
            let written = match queue.only_forward() {
                Some(bytes) => to.try_write(&pending[..bytes]),
                None => write_pieces(to, queue, pending),
            };
            match written {
                Ok(written) => {
                    self.passed_on |= written > 0;
                    self.head += queue.advance(written);
                    self.unflushed |= to.is_tls() && written > 0;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    tracing::debug!(%error, "a connection does not take any more");
                    self.broken = true;
                    self.unflushed = false;
                    self.discard(queue);
                    return true;
                }
            }
        }
        if self.unflushed {
            match to.try_flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                flushed => {
                    self.broken |= flushed.is_err();
                    self.unflushed = false;
                }
            }
        }
        true
    }
}

fn queue_of(sender: Sender, out: &mut Outbox) -> &mut Queue {
    match sender {
        Sender::Frontend => &mut out.to_server,
        Sender::Backend => &mut out.to_client,
    }
}

/// Several pieces, in one vectored write.
#[inline(never)]
fn write_pieces<T: Transport>(
    to: &mut Stream<T>,
    queue: &Queue,
    pending: &[u8],
) -> io::Result<usize> {
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
    if count == 0 {
        return Ok(0);
    }
    to.try_write_vectored(&pieces[..count])
}
