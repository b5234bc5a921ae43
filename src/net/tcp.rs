//! TCP: connections of sessions, which their worker's loop watches, and those of everything else, which
//! tokio does. What is read, written and said to the peer is the same.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use tokio::io::Interest;

use super::descriptors;
use super::event_loop;
use super::event_loop::sockets::{Watched, Way};
use super::transport::{Network, SocketOptions, Transport};

/// A socket, with whoever knows what it is worth trying.
pub trait Socket: AsFd + Send + Sync + Unpin + 'static {
    /// See [`Transport::WAKES_AGAIN`].
    const WAKES_AGAIN: bool = false;

    /// Tries a way, if it is worth it. `call` says what it has moved of what there was room for: what
    /// came short, or would block, is all that can be moved for now, so that no call is spent on
    /// hearing it: the next one waits for the socket.
    ///
    /// # Errors
    ///
    /// `WouldBlock`, and those of `call`.
    fn attempt(
        &mut self,
        way: Way,
        room: usize,
        call: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize>;

    /// True if a way is worth a try.
    fn may(&self, way: Way) -> bool;

    /// Ready once it is.
    fn poll(&mut self, way: Way, context: &mut Context<'_>) -> Poll<()>;

    /// See [`Transport::poll_ended`].
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()>;
}

/// A socket that the loop of this thread watches.
#[derive(Debug)]
pub struct OnLoop {
    // Closed before its number is given back.
    socket: TcpStream,
    watched: Watched,
}

/// A socket that tokio watches.
#[derive(Debug)]
pub struct OnTokio {
    socket: tokio::net::TcpStream,
    /// There may be something to read of which the reactor was made to forget.
    unreported: bool,
}

/// A socket that connections come from, which the loop of this thread watches.
#[derive(Debug)]
pub(crate) struct TcpAcceptor {
    // Closed before its number is given back.
    socket: TcpListener,
    watched: Watched,
}

/// A TCP connection.
#[derive(Debug)]
pub struct Tcp<S = OnLoop> {
    socket: S,
    /// The peer's RST was taken from the socket while it was not read.
    reset: bool,
}

impl Tcp {
    /// A connection that was accepted, on the thread of a loop.
    ///
    /// # Errors
    ///
    /// The loop cannot watch it, or there is none.
    pub(crate) fn accepted(socket: TcpStream, options: SocketOptions) -> io::Result<Self> {
        Ok(Self::new(OnLoop::new(socket, true)?, options))
    }
}

impl<S: Socket> Tcp<S> {
    /// Sets the socket up as all are: no delay, and a peer that vanished is noticed.
    fn new(socket: S, options: SocketOptions) -> Self {
        if let Err(error) = tune(&socket, options) {
            // The peer may have gone already; then reading will say so.
            tracing::debug!(%error, "cannot set socket options");
        }
        Self {
            socket,
            reset: false,
        }
    }

    /// A write that meets the peer's RST takes it off the socket: it is kept in mind for reading.
    #[inline]
    fn note_reset(&mut self, written: io::Result<usize>) -> io::Result<usize> {
        if let Err(error) = &written {
            self.reset |= error.kind() == io::ErrorKind::ConnectionReset;
        }
        written
    }
}

/// The calls are the system's own: the C library's pay for being cancellation points.
#[inline]
fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
    was_reset: bool,
) -> rustix::io::Result<usize> {
    match rustix::net::recv(socket, buffer, flags) {
        Ok((0, _)) if was_reset => Err(Errno::CONNRESET),
        received => received.map(|(bytes, _)| bytes),
    }
}

impl<S: Socket> Transport for Tcp<S> {
    const WAKES_AGAIN: bool = S::WAKES_AGAIN;

    #[inline]
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (room, was_reset) = (buffer.len(), self.reset);
        self.socket.attempt(Way::In, room, |socket| {
            receive(socket, buffer, RecvFlags::empty(), was_reset)
        })
    }

    fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let was_reset = self.reset;
        match receive(&self.socket, buffer, RecvFlags::PEEK, was_reset) {
            // It is asked once more so that note is taken that there is nothing to read.
            Err(Errno::WOULDBLOCK) => self.socket.attempt(Way::In, 0, |socket| {
                receive(socket, buffer, RecvFlags::PEEK, was_reset)
            }),
            peeked => Ok(peeked?),
        }
    }

    #[inline]
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.socket.attempt(Way::Out, bytes.len(), |socket| {
            rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)
        });
        self.note_reset(written)
    }

    fn try_write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let room = pieces.iter().map(|piece| piece.len()).sum();
        let written = self
            .socket
            .attempt(Way::Out, room, |socket| rustix::io::writev(socket, pieces));
        self.note_reset(written)
    }

    #[inline]
    fn may_read(&self) -> bool {
        self.socket.may(Way::In)
    }

    #[inline]
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.socket.poll(Way::In, context)
    }

    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.socket.poll(Way::Out, context)
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let ended = self.socket.poll_ended(context);
        if ended.is_ready() {
            // A reset is kept as the socket's error. Reading would not show it before everything in
            // front of it was read.
            let error = rustix::net::sockopt::socket_error(&self.socket);
            self.reset |= !matches!(error, Ok(Ok(())));
        }
        ended
    }

    fn shut_down(&mut self) -> io::Result<()> {
        Ok(rustix::net::shutdown(
            &self.socket,
            rustix::net::Shutdown::Write,
        )?)
    }

    fn reset(self) {
        // This can fail only if the socket is gone already.
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}

impl OnLoop {
    fn new(socket: TcpStream, connected: bool) -> io::Result<Self> {
        let watched = watch(&socket, connected)?;
        Ok(Self { socket, watched })
    }

    /// Connects.
    async fn connect(address: SocketAddr) -> io::Result<Self> {
        use socket2::{Domain, Protocol, Type};
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        match socket.connect(&address.into()) {
            Ok(()) => return Self::new(socket.into(), true),
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        let mut connecting = Self::new(socket.into(), false)?;
        std::future::poll_fn(|context| connecting.watched.poll(Way::Out, context)).await;
        match connecting.socket.take_error()? {
            Some(error) => Err(error),
            None => Ok(connecting),
        }
    }
}

impl AsFd for OnLoop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Socket for OnLoop {
    const WAKES_AGAIN: bool = true;

    #[inline]
    fn attempt(
        &mut self,
        way: Way,
        room: usize,
        call: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        self.watched
            .attempt(way, room, || call(self.socket.as_fd()))
    }

    #[inline]
    fn may(&self, way: Way) -> bool {
        self.watched.may(way)
    }

    #[inline]
    fn poll(&mut self, way: Way, context: &mut Context<'_>) -> Poll<()> {
        self.watched.poll(way, context)
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.watched.poll_ended(context)
    }
}

impl AsFd for OnTokio {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Way {
    fn interest(self) -> Interest {
        match self {
            Self::In => Interest::READABLE,
            Self::Out => Interest::WRITABLE,
        }
    }
}

impl Socket for OnTokio {
    fn attempt(
        &mut self,
        way: Way,
        room: usize,
        call: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        if way == Way::In && self.unreported {
            let moved = call(self.socket.as_fd());
            // If the reactor knows of something new, that is tried once more.
            self.unreported = moved != Err(Errno::WOULDBLOCK);
            return Ok(moved?);
        }
        let mut short = None;
        let moved = self.socket.try_io(way.interest(), || {
            let moved = call(self.socket.as_fd())?;
            if moved > 0 && moved < room {
                short = Some(moved);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(moved)
        });
        short.map_or(moved, Ok)
    }

    fn may(&self, way: Way) -> bool {
        let unreported = way == Way::In && self.unreported;
        unreported || self.socket.try_io(way.interest(), || Ok(())).is_ok()
    }

    fn poll(&mut self, way: Way, context: &mut Context<'_>) -> Poll<()> {
        if way == Way::In && self.unreported {
            return Poll::Ready(());
        }
        // An error here comes again when the socket is used, and is reported then.
        match way {
            Way::In => self.socket.poll_read_ready(context).map(drop),
            Way::Out => self.socket.poll_write_ready(context).map(drop),
        }
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.socket.poll_read_ready(context).is_ready() {
            let mut now = Context::from_waker(Waker::noop());
            let ready = pin!(self.socket.ready(Interest::READABLE)).poll(&mut now);
            self.unreported = true;
            if matches!(ready, Poll::Ready(Err(_)))
                || matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
            {
                return Poll::Ready(());
            }
            // Only data has come. The reactor is told that there is nothing to read, so that it
            // reports the next event.
            let _ = self.socket.try_io(Interest::READABLE, || {
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
        }
        Poll::Pending
    }
}

/// Has the loop of this thread watch a socket; `connected`: it may be written at once.
fn watch(socket: &impl AsFd, connected: bool) -> io::Result<Watched> {
    let sockets = event_loop::sockets().ok_or(io::ErrorKind::Unsupported)?;
    sockets.add(socket, connected)
}

fn tune(socket: &impl AsFd, options: SocketOptions) -> io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    if let Some(silence) = options.keepalive {
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(silence)
            .with_interval(Duration::from_secs(15))
            .with_retries(4);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    if options.user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    Ok(())
}

impl TcpAcceptor {
    /// Watches a socket that does not block, on the thread of a loop.
    ///
    /// # Errors
    ///
    /// The loop cannot watch it, or there is none.
    pub(crate) fn new(socket: TcpListener) -> io::Result<Self> {
        let watched = watch(&socket, false)?;
        Ok(Self { socket, watched })
    }

    /// The next connection, which nobody watches yet, and whose it is.
    ///
    /// # Errors
    ///
    /// Those of accept(2).
    pub(crate) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let accepted = std::future::poll_fn(|context| {
            // However many come, those of other sockets have their turn.
            ready!(event_loop::poll_share(context));
            loop {
                let mut accepted = None;
                let attempt = self.watched.attempt(Way::In, 0, || {
                    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                    accepted = Some(rustix::net::acceptfrom_with(&self.socket, flags)?);
                    Ok(0)
                });
                match attempt {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready!(self.watched.poll(Way::In, context));
                    }
                    attempt => return Poll::Ready(attempt.map(|_| accepted)),
                }
            }
        });
        let (socket, peer) = accepted.await?.ok_or(io::ErrorKind::WouldBlock)?;
        // A peer that has gone already may have no address any more.
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
        let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
        Ok((socket.into(), peer))
    }
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.collect())
}

/// The system's TCP and resolver, for sessions: on the thread of a loop.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpNetwork;

impl Network for TcpNetwork {
    type Transport = Tcp;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        resolve(host, port).await
    }

    async fn connect(&self, address: SocketAddr, options: SocketOptions) -> io::Result<Tcp> {
        let socket = OnLoop::connect(address).await?;
        if !options.may_take_reserve && descriptors::is_reserved(&socket) {
            return Err(Errno::MFILE.into());
        }
        Ok(Tcp::new(socket, options))
    }
}

/// The same in a runtime of tokio's, for everything else.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokioNetwork;

impl Network for TokioNetwork {
    type Transport = Tcp<OnTokio>;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        resolve(host, port).await
    }

    async fn connect(
        &self,
        address: SocketAddr,
        options: SocketOptions,
    ) -> io::Result<Tcp<OnTokio>> {
        let socket = OnTokio {
            socket: tokio::net::TcpStream::connect(address).await?,
            unreported: false,
        };
        Ok(Tcp::new(socket, options))
    }
}
