//! Moving bytes: both sockets, one task, both directions in turns that never wait.
//!
//! A read buffer is taken when a socket has data and given back when it is drained, so an idle
//! session holds none. What a turn has read is written in that turn. One direction never waits for
//! the other; a direction that cannot write does not read, which is the back-pressure.

use std::io;
use std::task;

use bitflags::bitflags;

use crate::core::{Core, Op, Outbox, Progress, Queue, World};
use crate::net::sizes::{HELD, LARGE, SMALL, at_once};
use crate::net::{Stream, Transport};

use super::buffers::{give_back, take_buffer};

/// Reads of one direction before others have their turn.
const TURNS: usize = 8;
/// Pieces of one vectored write.
const PIECES: usize = 16;

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

bitflags! {
    /// What is so of a lane.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    struct State: u16 {
        /// The core takes nothing before the other lane has moved.
        const BLOCKED = 1 << 0;
        /// The sink took nothing when it was last asked.
        const STALLED = 1 << 1;
        /// What was read ahead of a sink that took nothing was not looked at yet.
        const UNWALKED = 1 << 2;
        /// The last read filled the buffer: use a larger one.
        const FULL = 1 << 3;
        /// The source has ended in good order.
        const FIN = 1 << 4;
        /// The source is lost.
        const RESET = 1 << 5;
        /// The sink does not take any more.
        const BROKEN = 1 << 6;
        /// TLS may hold back some of what was written.
        const UNFLUSHED = 1 << 7;
        /// The lane waits for its source to be readable.
        const READABLE = 1 << 8;
        /// The lane does not read, since what it would read could not be passed on.
        const HELD = 1 << 9;
        /// The sink has taken something since [`Lane::take_passed_on`] was last asked.
        const PASSED_ON = 1 << 10;
        /// The source will wake the task: it has been asked to and, unless it goes on doing so, has had nothing
        /// to read since.
        const ASKED = 1 << 11;

        /// The source has ended.
        const ENDED = Self::FIN.bits() | Self::RESET.bits();
        /// What holds for one turn.
        const OF_A_TURN = Self::UNWALKED.bits() | Self::READABLE.bits() | Self::HELD.bits();
        /// More than reading is to be done, even where nothing is kept.
        const UNREST = Self::ENDED.bits() | Self::STALLED.bits() | Self::UNFLUSHED.bits();
    }
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
    /// Bytes that may be read ahead while nothing can be passed on, beyond the usual.
    allowance: usize,
    state: State,
    /// Bytes read, for the metrics.
    pub(super) bytes: u64,
}

/// What a lane waits for after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        Waits {
            readable: self.state.contains(State::READABLE),
            writable: self.state.contains(State::STALLED),
            held: self.state.contains(State::HELD),
        }
    }

    /// How the source has ended, if it has.
    pub(super) fn ended(&self) -> Option<Close> {
        if self.state.contains(State::RESET) {
            Some(Close::Reset)
        } else {
            self.state.contains(State::FIN).then_some(Close::Fin)
        }
    }

    /// True if the sink does not take any more.
    pub(super) fn is_broken(&self) -> bool {
        self.state.contains(State::BROKEN)
    }

    /// Bytes of memory that it holds.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.buffer.as_deref().map_or(0, <[u8]>::len)
    }

    /// True if the sink has taken something since the last call.
    pub(super) fn take_passed_on(&mut self) -> bool {
        let passed_on = self.state.contains(State::PASSED_ON);
        self.state.remove(State::PASSED_ON);
        passed_on
    }

    /// True if nothing is on its way in this direction.
    pub(super) fn is_drained(&self, queue: &Queue) -> bool {
        self.head == self.tail && self.is_written(queue)
    }

    /// True if everything that the core has dealt with has been delivered.
    pub(super) fn is_written(&self, queue: &Queue) -> bool {
        queue.is_empty() && !self.state.contains(State::UNFLUSHED)
    }

    /// True if what the other lane did may let this one go on without its sockets saying so.
    pub(super) fn has_work(&self, queue: &Queue) -> bool {
        self.state.contains(State::BLOCKED) || !queue.is_empty()
    }

    /// True once everything that came before the end of the source has been delivered, as far as
    /// it can be: a message cut off by the end is delivered cut off.
    pub(super) fn is_finished(&self, queue: &Queue) -> bool {
        let held_back = self.state.contains(State::BLOCKED) && self.seen < self.tail;
        let unseen = held_back || self.state.intersects(State::UNWALKED | State::STALLED);
        let ended = self.state.intersects(State::ENDED);
        self.is_broken() || (ended && self.is_written(queue) && !unseen)
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
        self.state.remove(State::OF_A_TURN);
        let rests = self.is_at_rest(queue_of(sender, judge.out));
        if rests && !from.may_read() {
            // Of the two lanes, nearly always one has nothing to do.
            self.state.remove(State::FULL);
            self.state.insert(State::READABLE);
            return Turn::Idle;
        }
        match sender {
            Sender::Frontend => self.work::<_, true>(from, to, judge, rests),
            Sender::Backend => self.work::<_, false>(from, to, judge, rests),
        }
    }

    /// `rests`: it holds nothing, nothing is due, and its source may be read. Each sender has code of its
    /// own, in which that of the other's is not.
    #[inline(never)]
    fn work<T: Transport, const FRONTEND: bool>(
        &mut self,
        from: &mut Stream<T>,
        to: &mut Stream<T>,
        judge: &mut Judge<'_, impl World>,
        rests: bool,
    ) -> Turn {
        let sender = if FRONTEND {
            Sender::Frontend
        } else {
            Sender::Backend
        };
        let mut turn = Turn::Idle;
        // The last read has taken all that there was.
        let mut dry = false;
        if rests {
            match self.take_in(sender, from) {
                Some(is_all) => dry = is_all,
                None => return turn,
            }
            turn = Turn::Moved;
        }
        for _ in 0..TURNS {
            let was_stalled = self.state.contains(State::STALLED);
            if !was_stalled && self.walk(sender, judge) {
                turn = Turn::Moved;
            }
            if !self.write(to, queue_of(sender, judge.out)) {
                self.state.insert(State::STALLED);
            } else if was_stalled {
                // What was read ahead is looked at now.
                self.state.remove(State::STALLED);
                self.state.insert(State::UNWALKED);
                continue;
            }
            self.lay_down();
            if self.state.intersects(State::ENDED) {
                return turn;
            }
            if self.state.intersects(State::STALLED | State::BLOCKED) && !self.may_keep_more() {
                self.state.insert(State::HELD);
                return turn;
            }
            if dry || !from.may_read() {
                self.wait_for_more();
                return turn;
            }
            match self.take_in_more(sender, from) {
                Some(is_all) => dry = is_all,
                None => return turn,
            }
            turn = Turn::Moved;
        }
        Turn::Busy
    }

    /// Reads once. True if that was all that there is for now; `None`: nothing has come yet.
    #[expect(
        clippy::inline_always,
        reason = "each of the two senders has it in one piece, without calls"
    )]
    #[inline(always)]
    fn take_in<T: Transport>(&mut self, sender: Sender, from: &mut Stream<T>) -> Option<bool> {
        match self.read(from) {
            Ok((0, _)) => self.state.insert(State::FIN),
            Ok((read, short)) => {
                self.bytes += read as u64;
                return Some(short);
            }
            Err(error) => {
                if self.has_nothing(sender, &error) {
                    return None;
                }
            }
        }
        Some(false)
    }

    /// The same, within a turn: only more than a little comes in several pieces.
    #[inline(never)]
    fn take_in_more<T: Transport>(&mut self, sender: Sender, from: &mut Stream<T>) -> Option<bool> {
        self.take_in(sender, from)
    }

    /// True if it holds nothing, and nothing is due.
    #[inline]
    fn is_at_rest(&self, queue: &Queue) -> bool {
        self.buffer.is_none() && !self.state.intersects(State::UNREST) && queue.is_empty()
    }

    /// Gives the buffer back once everything in it has been passed on, unless the source goes on
    /// filling it.
    #[expect(
        clippy::inline_always,
        reason = "each of the two senders has it in one piece, without calls"
    )]
    #[inline(always)]
    fn lay_down(&mut self) {
        if self.head == self.tail {
            (self.head, self.seen, self.tail) = (0, 0, 0);
            if !self.state.contains(State::FULL)
                && let Some(buffer) = self.buffer.take()
            {
                give_back(buffer);
            }
        }
    }

    /// Reading has failed. True if nothing has come yet; false: the source is lost.
    #[cold]
    #[inline(never)]
    fn has_nothing(&mut self, sender: Sender, error: &io::Error) -> bool {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.wait_for_more();
            return true;
        }
        tracing::debug!(?sender, %error, "a connection was lost");
        self.state.insert(State::RESET);
        false
    }

    /// True if it waits for its source and for nothing else, and that has the waker still.
    #[inline]
    pub(super) fn is_asleep<T: Transport>(&self, from: &mut Stream<T>) -> bool {
        let waits = self.state & (State::READABLE | State::STALLED | State::ASKED);
        waits == State::READABLE | State::ASKED && !from.may_read()
    }

    /// True once there may be something to read. A source that still has the waker nobody has to ask
    /// again.
    pub(super) fn poll_source<T: Transport>(
        &mut self,
        from: &mut Stream<T>,
        task: &mut task::Context<'_>,
    ) -> bool {
        if self.state.contains(State::ASKED) && !from.may_read() {
            return false;
        }
        let ready = from.poll_readable(task).is_ready();
        self.state.set(State::ASKED, !ready);
        ready
    }

    /// Another task, or none that is known, is to be woken from now on.
    pub(super) fn ask_anew(&mut self) {
        self.state.remove(State::ASKED);
    }

    /// Writes what is due, and nothing else; true once all of it has been delivered, as far as it
    /// can be.
    pub(super) fn deliver<T: Transport>(&mut self, to: &mut Stream<T>, queue: &mut Queue) -> bool {
        self.is_broken() || self.write(to, queue)
    }

    /// True if what is read now can be passed on, or may be kept.
    fn may_keep_more(&self) -> bool {
        let kept = self.tail - self.head;
        if self.state.contains(State::STALLED) {
            kept < self.allowance
        } else {
            !self.state.contains(State::BLOCKED) || kept < HELD.max(self.allowance)
        }
    }

    #[expect(
        clippy::inline_always,
        reason = "each of the two senders has it in one piece, without calls"
    )]
    #[inline(always)]
    fn wait_for_more(&mut self) {
        self.state.insert(State::READABLE);
        if self.tail == 0 && self.buffer.is_some() {
            self.state.remove(State::FULL);
            self.lay_down();
        }
    }

    /// Lets the core look at what was read. True if it got any further.
    #[expect(
        clippy::inline_always,
        reason = "each of the two senders has it in one piece, without calls"
    )]
    #[inline(always)]
    fn walk(&mut self, sender: Sender, judge: &mut Judge<'_, impl World>) -> bool {
        self.state.remove(State::UNWALKED);
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
        self.state.set(State::BLOCKED, blocked);
        if self.is_broken() {
            // Nobody takes it any more; it is read so that the other side can finish.
            self.discard(queue_of(sender, judge.out));
        }
        consumed > 0
    }

    #[cold]
    fn discard(&mut self, queue: &mut Queue) {
        *queue = Queue::default();
        self.head = self.seen;
    }

    /// Reads once, into a buffer that is taken where there is none. True beside the number of bytes if
    /// that was less than there was room for: then there is nothing more, as far as can be told, and
    /// whoever waits for the source finds out. What TLS has decrypted no socket tells of, so that it is
    /// always asked again.
    #[expect(
        clippy::inline_always,
        reason = "each of the two senders has it in one piece, without calls"
    )]
    #[inline(always)]
    fn read<T: Transport>(&mut self, from: &mut Stream<T>) -> io::Result<(usize, bool)> {
        if self.buffer.is_some() {
            self.make_room();
        }
        self.state.remove(if T::WAKES_AGAIN {
            State::FULL
        } else {
            State::ASKED | State::FULL
        });
        let buffer = self.buffer.get_or_insert_with(take_buffer);
        let free = &mut buffer[self.tail..];
        let room = free.len();
        let read = from.try_read(free)?;
        if read == room {
            self.state.insert(State::FULL);
        }
        self.tail += read;
        Ok((read, read < at_once(room) && !from.is_tls()))
    }

    /// Makes sure that there is room behind `tail`, for as much as the core wants at least.
    #[inline(never)]
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
        } else if self.tail == buffer.len()
            || (self.state.contains(State::FULL) && buffer.len() < LARGE)
        {
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
    #[expect(
        clippy::inline_always,
        reason = "each of the two senders has it in one piece, without calls"
    )]
    #[inline(always)]
    fn write<T: Transport>(&mut self, to: &mut Stream<T>, queue: &mut Queue) -> bool {
        if let Some(bytes) = queue.only_forward()
            && !to.is_tls()
        {
            // As nearly always: one piece, which the sink takes whole.
            let pending = &self.buffer.as_deref().unwrap_or_default()[self.head..];
            let written = to.try_write(&pending[..bytes]);
            if !self.goes_on(queue, written) {
                return false;
            }
            if queue.is_empty() {
                return true;
            }
        }
        self.write_on(to, queue)
    }

    #[inline(never)]
    fn write_on<T: Transport>(&mut self, to: &mut Stream<T>, queue: &mut Queue) -> bool {
        while !queue.is_empty() {
            let pending = &self.buffer.as_deref().unwrap_or_default()[self.head..];
            let written = match queue.only_forward() {
                Some(bytes) => to.try_write(&pending[..bytes]),
                None => write_pieces(to, queue, pending),
            };
            if to.is_tls() && matches!(written, Ok(1..)) {
                self.state.insert(State::UNFLUSHED);
            }
            if !self.goes_on(queue, written) {
                return false;
            }
        }
        !self.state.contains(State::UNFLUSHED) || self.flush(to)
    }

    /// Notes what writing has come to. False: the sink takes no more for now.
    #[expect(
        clippy::inline_always,
        reason = "each of the two senders has it in one piece, without calls"
    )]
    #[inline(always)]
    fn goes_on(&mut self, queue: &mut Queue, written: io::Result<usize>) -> bool {
        match written {
            Ok(written) => {
                if written > 0 {
                    self.state.insert(State::PASSED_ON);
                }
                self.head += queue.advance(written);
                true
            }
            Err(error) => !self.is_stalled(queue, &error),
        }
    }

    /// Writing has failed. True if the sink takes no more for now; false: it does not take any more.
    #[cold]
    #[inline(never)]
    fn is_stalled(&mut self, queue: &mut Queue, error: &io::Error) -> bool {
        if error.kind() == io::ErrorKind::WouldBlock {
            return true;
        }
        tracing::debug!(%error, "a connection does not take any more");
        self.state.insert(State::BROKEN);
        self.state.remove(State::UNFLUSHED);
        self.discard(queue);
        false
    }

    #[inline(never)]
    fn flush<T: Transport>(&mut self, to: &mut Stream<T>) -> bool {
        match to.try_flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => self.state.insert(State::BROKEN),
            Ok(()) => {}
        }
        self.state.remove(State::UNFLUSHED);
        true
    }
}

#[inline]
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
