//! A TCP connection that the simulation owns: two directions with a send buffer, bytes in flight and
//! a receive window each. Osprey holds one end as a [`Transport`]; the other end is a model's.
//!
//! Nothing moves by itself: what was written is in flight until the simulation lets some of it
//! arrive, so that a connection can be slow, stall, shrink and end between any two bytes. The rules
//! of an end are TCP's: a FIN arrives behind what was sent before it, a RST overtakes it; who closes
//! with unread bytes, or receives bytes after it has closed, answers with a RST; what has arrived
//! in front of a RST can still be read.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::net::{SocketOptions, Transport};

use super::line::{Fin, Line, Read, Towards, Way, front};
use super::random::Random;

/// A model's end of a connection, and the simulation's hand on the whole of it.
#[derive(Debug, Clone)]
pub(super) struct Peer(Arc<Mutex<Line>>);

/// Osprey's end of a connection.
#[derive(Debug)]
pub(super) struct Wire(Arc<Mutex<Line>>);

/// Makes a connection: Osprey's end and a model's.
pub(super) fn connection(options: SocketOptions, random: Random) -> (Wire, Peer) {
    let line = Arc::new(Mutex::new(Line {
        to_osprey: Way::new(),
        to_peer: Way::new(),
        reset_for_osprey: false,
        reset_for_peer: false,
        osprey_closed: false,
        peer_closed: false,
        cut_since: None,
        options,
        random,
        wakers: [const { None }; 3],
    }));
    (Wire(Arc::clone(&line)), Peer(line))
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Peer {
    fn line(&self) -> MutexGuard<'_, Line> {
        lock(&self.0)
    }

    /// How the system's buffers are, in both directions: of the receiver and of the sender.
    pub(super) fn set_buffers(&self, window: usize, buffer: usize) {
        let mut line = self.line();
        for towards in [Towards::Osprey, Towards::Peer] {
            let way = line.way(towards);
            (way.window, way.buffer) = (window, buffer);
        }
    }

    /// Nothing arrives in this direction for a while.
    pub(super) fn stall(&self, towards: Towards, time: Duration) {
        self.line().way(towards).stalled_until = Some(Instant::now() + time);
    }

    /// From here on nothing passes, and nobody says so.
    pub(super) fn cut(&self) {
        let mut line = self.line();
        line.cut_since.get_or_insert_with(Instant::now);
    }

    /// Writes what there is room for; `None`: the connection is gone.
    pub(super) fn write(&self, bytes: &[u8]) -> Option<usize> {
        let mut line = self.line();
        if line.reset_for_peer || line.peer_closed || line.to_osprey.fin != Fin::Open {
            return None;
        }
        let written = bytes.len().min(line.to_osprey.room());
        line.to_osprey.write(&bytes[..written]);
        Some(written)
    }

    /// Appends some of what has arrived.
    pub(super) fn read(&self, into: &mut Vec<u8>, most: usize) -> Read {
        let mut line = self.line();
        let count = most.min(line.to_peer.arrived.len());
        if count > 0 {
            into.extend_from_slice(&front(&line.to_peer.arrived, count));
            line.to_peer.arrived.drain(..count);
            return Read::Bytes(count);
        }
        if line.reset_for_peer {
            Read::Reset
        } else if line.to_peer.arrived.is_empty() && line.to_peer.fin == Fin::Arrived {
            Read::Fin
        } else {
            Read::Nothing
        }
    }

    /// True if [`Peer::read`] has something to say.
    pub(super) fn may_read(&self) -> bool {
        let line = self.line();
        let way = &line.to_peer;
        !way.arrived.is_empty() || way.fin == Fin::Arrived || line.reset_for_peer
    }

    /// True if [`Peer::write`] would take something.
    pub(super) fn may_write(&self) -> bool {
        let line = self.line();
        line.reset_for_peer || line.to_osprey.room() > 0
    }

    /// Sends a FIN.
    pub(super) fn shut_down(&self) {
        self.line().to_osprey.finish();
    }

    /// Closes: a FIN, or a RST if something was not read.
    pub(super) fn close(&self) {
        let mut line = self.line();
        if line.to_peer.arrived.is_empty() {
            line.to_osprey.finish();
            line.peer_closed = true;
        } else {
            drop(line);
            self.reset();
        }
    }

    /// Sends a RST.
    pub(super) fn reset(&self) {
        let mut line = self.line();
        line.peer_closed = true;
        if line.cut_since.is_none() {
            line.to_osprey.in_flight.clear();
            line.to_peer.in_flight.clear();
            line.reset_for_osprey = true;
            line.wake();
        }
    }

    /// True once this end is closed or reset by the model, as far as Osprey can know: where the
    /// connection is cut or stalls, it cannot.
    pub(super) fn is_gone_for_osprey(&self, now: Instant) -> bool {
        let line = self.line();
        let way = &line.to_osprey;
        let stalled = way.stalled_until.is_some_and(|until| now < until);
        line.reset_for_osprey
            || (line.peer_closed && !stalled && line.cut_since.is_none())
            || line.osprey_closed
    }

    /// True once Osprey has let go of its end.
    pub(super) fn osprey_closed(&self) -> bool {
        self.line().osprey_closed
    }

    /// True if something can arrive now.
    pub(super) fn can_move(&self, towards: Towards, now: Instant) -> bool {
        let mut line = self.line();
        line.cut_since.is_none() && line.way(towards).can_move(now)
    }

    /// When a stalled direction moves again.
    pub(super) fn moves_again(&self) -> Option<Instant> {
        let line = self.line();
        let ways = [&line.to_osprey, &line.to_peer];
        let stalled = ways.into_iter().filter_map(|way| way.stalled_until);
        let cut = line.cut_since.and_then(|since| line.given_up(since));
        stalled.chain(cut).filter(|at| *at > Instant::now()).min()
    }

    /// Lets some of what is in flight arrive; says how much.
    pub(super) fn deliver(&self, towards: Towards, part: impl FnOnce(usize) -> usize) -> usize {
        let mut guard = self.line();
        let line = &mut *guard;
        let way = line.way(towards);
        let count = part(way.may_arrive());
        way.unmoved_since = Instant::now();
        let moved = front(&way.in_flight, count);
        way.in_flight.drain(..count);
        way.arrived.extend(&moved);
        if way.in_flight.is_empty() && way.fin == Fin::Sent {
            way.fin = Fin::Arrived;
        }
        let closed = match towards {
            Towards::Osprey => line.osprey_closed,
            Towards::Peer => line.peer_closed,
        };
        if closed && count > 0 {
            // Whoever has closed answers with a RST.
            match towards {
                Towards::Osprey => {
                    line.to_osprey.arrived.clear();
                    line.to_peer.in_flight.clear();
                    line.reset_for_peer = true;
                }
                Towards::Peer => {
                    line.to_peer.arrived.clear();
                    line.to_osprey.in_flight.clear();
                    line.reset_for_osprey = true;
                }
            }
        }
        line.wake();
        count
    }

    /// What the system does as time passes: keepalive, and the user time-out where it is set.
    pub(super) fn time_passes(&self, now: Instant) {
        let mut line = self.line();
        let given_up = line.cut_since.and_then(|since| line.given_up(since));
        let unheard = line.options.user_timeout.is_some_and(|limit| {
            let way = &line.to_peer;
            !line.osprey_closed && !way.in_flight.is_empty() && now >= way.unmoved_since + limit
        });
        if given_up.is_some_and(|at| now >= at) || unheard {
            line.cut_since = None;
            line.reset_both();
        }
    }
}

impl Wire {
    fn line(&self) -> MutexGuard<'_, Line> {
        lock(&self.0)
    }

    fn poll(&self, slot: usize, context: &mut Context<'_>, ready: fn(&Line) -> bool) -> Poll<()> {
        let mut line = self.line();
        if ready(&line) {
            return Poll::Ready(());
        }
        line.wakers[slot] = Some(context.waker().clone());
        Poll::Pending
    }

    /// Writes what goes out at once.
    pub(super) fn say(&self, frame: &[u8]) {
        self.line().to_peer.write(frame);
    }

    /// The socket options, which are known only where the connection is taken on.
    pub(super) fn with_options(self, options: SocketOptions) -> Self {
        self.line().options = options;
        self
    }
}

impl Transport for Wire {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.line().osprey_reads(buffer, true)
    }

    fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.line().osprey_reads(buffer, false)
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    fn try_write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut line = self.line();
        let mut room = line.osprey_room()?;
        let before = room;
        for piece in pieces {
            let part = room.min(piece.len());
            line.to_peer.write(&piece[..part]);
            room -= part;
        }
        Ok(before - room)
    }

    fn may_read(&self) -> bool {
        self.line().osprey_may_read()
    }

    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.poll(0, context, Line::osprey_may_read)
    }

    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.poll(1, context, |line| {
            line.reset_for_osprey || line.to_peer.room() > 0
        })
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.poll(2, context, |line| {
            line.reset_for_osprey || line.to_osprey.fin == Fin::Arrived
        })
    }

    fn shut_down(&mut self) -> io::Result<()> {
        let mut line = self.line();
        if line.reset_for_osprey {
            return Err(io::ErrorKind::NotConnected.into());
        }
        line.to_peer.finish();
        Ok(())
    }

    fn reset(self) {
        let mut line = self.line();
        line.osprey_closed = true;
        line.to_peer.in_flight.clear();
        line.reset_for_peer |= line.cut_since.is_none();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut line = self.line();
        if std::mem::replace(&mut line.osprey_closed, true) {
            return;
        }
        if line.to_osprey.arrived.is_empty() {
            line.to_peer.finish();
        } else if line.cut_since.is_none() {
            // Unread bytes: the system sends a RST.
            line.to_peer.in_flight.clear();
            line.reset_for_peer = true;
        }
    }
}
