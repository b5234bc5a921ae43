//! What a session needs of a connection, and of the network that makes one. Sessions are generic
//! over both, so that a test can put pipes and a clock of its own in their place; [`Tcp`] and
//! [`TcpNetwork`] are the real ones.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// One connection, never waiting: what cannot be done now fails with
/// [`io::ErrorKind::WouldBlock`], and the `poll_…` methods say when it is worth another try.
pub trait Transport: Send + Sync + Unpin + 'static {
    /// Reads into `buffer`, which is not empty; 0 is the peer's FIN.
    ///
    /// # Errors
    ///
    /// `WouldBlock`; [`io::ErrorKind::ConnectionReset`] if the peer has reset the connection.
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// As [`Transport::try_read`], but what is read stays to be read.
    ///
    /// # Errors
    ///
    /// Those of [`Transport::try_read`].
    fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes some of `bytes`.
    ///
    /// # Errors
    ///
    /// `WouldBlock`, or the peer takes no more.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes some of several pieces.
    ///
    /// # Errors
    ///
    /// Those of [`Transport::try_write`].
    fn try_write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// True if [`Transport::try_read`] may have something to say. Costs no system call.
    fn may_read(&self) -> bool;

    /// Ready once [`Transport::may_read`] is true. Until then the waker stays where it is, however often
    /// the task is woken by something else; whoever sees that it is true has to ask again.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Ready once [`Transport::try_write`] may succeed or fail for good.
    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Ready once the peer has ended its direction or the whole connection, whether or not what it
    /// sent before has been read. For those who are not reading: it takes the place of
    /// [`Transport::poll_readable`].
    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()>;

    /// Sends a FIN: nothing more will be written.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    fn shut_down(&mut self) -> io::Result<()>;

    /// Ends the connection with a RST, which tells the peer that it did not end in good order.
    fn reset(self);
}

/// What makes connections.
pub trait Network: Send + Sync + 'static {
    /// The connections it makes.
    type Transport: Transport;

    /// The addresses of a host.
    fn resolve(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// A connection to one address.
    fn connect(
        &self,
        address: SocketAddr,
        options: SocketOptions,
    ) -> impl Future<Output = io::Result<Self::Transport>> + Send;
}

/// When a silent peer counts as gone, by `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketOptions {
    /// Silence after which the peer is asked whether it is there (four times, 15 s apart).
    pub keepalive: Option<Duration>,
    /// How long sent data may stay unacknowledged (tcp(7), `TCP_USER_TIMEOUT`).
    pub user_timeout: Option<Duration>,
}

/// A TCP connection.
#[derive(Debug)]
pub struct Tcp {
    socket: TcpStream,
    /// There may be something to read of which the reactor was made to forget.
    unreported: bool,
    /// The peer's RST was taken from the socket while it was not read.
    reset: bool,
}

impl Tcp {
    /// Sets the socket up as every session's are: no delay, and a peer that vanished is noticed.
    pub fn new(socket: TcpStream, options: SocketOptions) -> Self {
        if let Err(error) = tune(&socket, options) {
            // The peer may have gone already; then reading will say so.
            tracing::debug!(%error, "cannot set socket options");
        }
        Self {
            socket,
            unreported: false,
            reset: false,
        }
    }

    /// A write that meets the peer's RST takes it off the socket: it is kept in mind for reading.
    fn note_reset(&mut self, written: io::Result<usize>) -> io::Result<usize> {
        self.reset |= written
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
        written
    }

    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> rustix::io::Result<usize> {
        match rustix::net::recv(&self.socket, &mut *buffer, flags) {
            Ok((0, _)) if self.reset => Err(rustix::io::Errno::CONNRESET),
            received => received.map(|(bytes, _)| bytes),
        }
    }

    /// One call that moves at most `room` bytes. As in tokio's own, what came short is taken to be
    /// all that could be moved, so that no call is spent on hearing it: the next one waits for the
    /// socket. The calls are the system's own: the C library's pay for being cancellation points.
    fn once(
        &self,
        interest: Interest,
        room: usize,
        call: impl FnOnce() -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let mut short = None;
        let moved = self.socket.try_io(interest, || {
            let moved = call()?;
            if moved > 0 && moved < room {
                short = Some(moved);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(moved)
        });
        short.map_or(moved, Ok)
    }
}

impl Transport for Tcp {
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.unreported {
            match self.receive(buffer, RecvFlags::empty()) {
                Err(rustix::io::Errno::WOULDBLOCK) => self.unreported = false,
                received => return Ok(received?),
            }
        }
        let room = buffer.len();
        self.once(Interest::READABLE, room, || {
            self.receive(buffer, RecvFlags::empty())
        })
    }

    fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.receive(buffer, RecvFlags::PEEK) {
            // The socket is asked once more through the reactor, which then takes note that there
            // is nothing to read.
            Err(rustix::io::Errno::WOULDBLOCK) => self.socket.try_io(Interest::READABLE, || {
                Ok(self.receive(buffer, RecvFlags::PEEK)?)
            }),
            peeked => Ok(peeked?),
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.once(Interest::WRITABLE, bytes.len(), || {
            rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL)
        });
        self.note_reset(written)
    }

    fn try_write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let room = pieces.iter().map(|piece| piece.len()).sum();
        let written = self.once(Interest::WRITABLE, room, || {
            rustix::io::writev(&self.socket, pieces)
        });
        self.note_reset(written)
    }

    #[inline]
    fn may_read(&self) -> bool {
        self.unreported || self.socket.try_io(Interest::READABLE, || Ok(())).is_ok()
    }

    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.unreported {
            return Poll::Ready(());
        }
        // An error here comes again when the socket is read, and is reported then.
        self.socket.poll_read_ready(context).map(drop)
    }

    fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.socket.poll_write_ready(context).map(drop)
    }

    fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.socket.poll_read_ready(context).is_ready() {
            let mut now = Context::from_waker(Waker::noop());
            let ready = pin!(self.socket.ready(Interest::READABLE)).poll(&mut now);
            if matches!(ready, Poll::Ready(Err(_)))
                || matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
            {
                // A reset is kept as the socket's error. Reading would not show it before
                // everything in front of it was read.
                self.reset |= !matches!(self.socket.take_error(), Ok(None));
                self.unreported = true;
                return Poll::Ready(());
            }
            // Only data has come. The reactor is told that there is nothing to read, so that it
            // reports the next event.
            self.unreported = true;
            let _ = self.socket.try_io(Interest::READABLE, || {
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            });
        }
        Poll::Pending
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

fn tune(socket: &TcpStream, options: SocketOptions) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = socket2::SockRef::from(socket);
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

/// The system's TCP and resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpNetwork;

impl Network for TcpNetwork {
    type Transport = Tcp;

    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }

    async fn connect(&self, address: SocketAddr, options: SocketOptions) -> io::Result<Tcp> {
        Ok(Tcp::new(TcpStream::connect(address).await?, options))
    }
}
