//! What a connection of the simulation is made of: two directions, and who has ended what.

use std::collections::VecDeque;
use std::io;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use crate::net::SocketOptions;

use super::random::Random;

/// How long four probes of keepalive take, 15 s apart, as `Tcp` sets them.
const PROBES: Duration = Duration::from_mins(1);

/// The first bytes of a queue: whole slices at a time, which is what debug builds are quick at.
pub(super) fn front(queue: &VecDeque<u8>, count: usize) -> Vec<u8> {
    let (first, second) = queue.as_slices();
    let of_first = count.min(first.len());
    [&first[..of_first], &second[..count - of_first]].concat()
}

/// How a direction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fin {
    Open,
    Sent,
    Arrived,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Towards {
    /// From a client or a server to Osprey.
    Osprey,
    /// From Osprey to a client or a server.
    Peer,
}

/// What a model reads from its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Nothing yet.
    Nothing,
    /// So many bytes were appended.
    Bytes(usize),
    /// Osprey's FIN.
    Fin,
    /// Osprey's RST.
    Reset,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) in_flight: VecDeque<u8>,
    pub(super) arrived: VecDeque<u8>,
    pub(super) fin: Fin,
    /// Bytes that the receiver's system keeps.
    pub(super) window: usize,
    /// Bytes that the sender's system keeps.
    pub(super) buffer: usize,
    /// Nothing arrives before.
    pub(super) stalled_until: Option<Instant>,
    /// Since when what is in flight has not been acknowledged.
    pub(super) unmoved_since: Instant,
}

impl Way {
    pub(super) fn new() -> Self {
        Self {
            in_flight: VecDeque::new(),
            arrived: VecDeque::new(),
            fin: Fin::Open,
            window: 1 << 16,
            buffer: 1 << 16,
            stalled_until: None,
            unmoved_since: Instant::now(),
        }
    }

    pub(super) fn room(&self) -> usize {
        self.buffer.saturating_sub(self.in_flight.len())
    }

    pub(super) fn may_arrive(&self) -> usize {
        let window = self.window.saturating_sub(self.arrived.len());
        self.in_flight.len().min(window)
    }

    pub(super) fn can_move(&self, now: Instant) -> bool {
        let stalled = self.stalled_until.is_some_and(|until| now < until);
        let end_is_next = self.in_flight.is_empty() && self.fin == Fin::Sent;
        !stalled && (self.may_arrive() > 0 || end_is_next)
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.in_flight.is_empty() {
            self.unmoved_since = Instant::now();
        }
        self.in_flight.extend(bytes);
    }

    pub(super) fn finish(&mut self) {
        if self.fin == Fin::Open {
            self.fin = Fin::Sent;
        }
    }
}

/// Both directions, and who has ended what.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) to_osprey: Way,
    pub(super) to_peer: Way,
    pub(super) reset_for_osprey: bool,
    pub(super) reset_for_peer: bool,
    pub(super) osprey_closed: bool,
    pub(super) peer_closed: bool,
    /// Nothing passes any more, and nobody says so.
    pub(super) cut_since: Option<Instant>,
    pub(super) options: SocketOptions,
    pub(super) random: Random,
    pub(super) wakers: [Option<Waker>; 3],
}

impl Line {
    /// Wakes whoever waits for anything. Who waits for something to read is woken for nothing, too, but
    /// is not forgotten for that.
    pub(super) fn wake(&mut self) {
        for waker in self.wakers.iter().flatten() {
            waker.wake_by_ref();
        }
        let waits_on = self.wakers[0].take().filter(|_| !self.osprey_may_read());
        self.wakers = [waits_on, None, None];
    }

    pub(super) fn way(&mut self, towards: Towards) -> &mut Way {
        match towards {
            Towards::Osprey => &mut self.to_osprey,
            Towards::Peer => &mut self.to_peer,
        }
    }

    /// Both ends hear of a RST; what is in flight is lost.
    pub(super) fn reset_both(&mut self) {
        self.reset_for_osprey = true;
        self.reset_for_peer = true;
        self.to_osprey.in_flight.clear();
        self.to_peer.in_flight.clear();
        self.wake();
    }

    pub(super) fn osprey_may_read(&self) -> bool {
        let way = &self.to_osprey;
        !way.arrived.is_empty() || way.fin == Fin::Arrived || self.reset_for_osprey
    }

    pub(super) fn osprey_reads(&mut self, buffer: &mut [u8], takes: bool) -> io::Result<usize> {
        let way = &mut self.to_osprey;
        if way.arrived.is_empty() {
            if self.reset_for_osprey {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            return match way.fin {
                Fin::Arrived => Ok(0),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        if takes && self.random.one_in(16) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let most = buffer.len().min(way.arrived.len());
        let read = self.random.part(most);
        buffer[..read].copy_from_slice(&front(&way.arrived, read));
        if takes {
            way.arrived.drain(..read);
        }
        Ok(read)
    }

    pub(super) fn osprey_room(&mut self) -> io::Result<usize> {
        if self.reset_for_osprey {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        match self.to_peer.room() {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            room => Ok(self.random.part(room)),
        }
    }
}

impl Line {
    pub(super) fn given_up(&self, since: Instant) -> Option<Instant> {
        let keepalive = self.options.keepalive?;
        Some(since + keepalive + PROBES)
    }
}
