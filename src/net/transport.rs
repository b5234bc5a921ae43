//! What a session needs of a connection, and of the network that makes one. Sessions are generic
//! over both, so that a test can put pipes and a clock of its own in their place; the real ones are in
//! [`tcp`](super::tcp).

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

/// One connection, never waiting: what cannot be done now fails with
/// [`io::ErrorKind::WouldBlock`], and the `poll_…` methods say when it is worth another try.
pub trait Transport: Send + Sync + Unpin + 'static {
    /// True if who has asked for a wakeup by [`Transport::poll_readable`] is woken by every event, until
    /// another task asks; else by the next one.
    const WAKES_AGAIN: bool = false;

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

/// When a silent peer counts as gone, by `[limits]`, and what else is asked of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketOptions {
    /// Silence after which the peer is asked whether it is there (four times, 15 s apart).
    pub keepalive: Option<Duration>,
    /// How long sent data may stay unacknowledged (tcp(7), `TCP_USER_TIMEOUT`).
    pub user_timeout: Option<Duration>,
    /// It may take one of the file descriptors that sessions leave to others.
    pub may_take_reserve: bool,
}
