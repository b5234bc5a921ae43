//! One connection, plaintext or TLS, polled by hand.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::sizes::ONCE;

/// A connection to a client or to Hologres.
#[derive(Debug)]
pub enum Stream {
    /// Plaintext.
    Plain(TcpStream),
    /// TLS, in either role; boxed, since it is large and rare beside the socket.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// True over TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Ready once the socket has something to read, so that no buffer is needed to wait for it.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_read_ready(context)
    }

    /// Reads into `buffer`; 0 is the end.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let room = buffer.len().min(ONCE);
        let buffer = &mut buffer[..room];
        let tls = match self {
            Self::Plain(socket) => {
                return once(socket, context, Interest::READABLE, room, || {
                    rustix::net::recv(&*socket, &mut *buffer, RecvFlags::empty())
                        .map(|(got, _)| got)
                });
            }
            Self::Tls(tls) => tls,
        };
        let mut buffer = ReadBuf::new(buffer);
        match ready!(Pin::new(tls.as_mut()).poll_read(context, &mut buffer)) {
            // A peer that leaves without close_notify is as gone as one that says so.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(0)),
            Err(error) => Poll::Ready(Err(error)),
            Ok(()) => Poll::Ready(Ok(buffer.filled().len())),
        }
    }

    /// Writes some of `bytes`.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = &bytes[..bytes.len().min(ONCE)];
        match self {
            Self::Plain(socket) => once(socket, context, Interest::WRITABLE, bytes.len(), || {
                rustix::net::send(&*socket, bytes, SendFlags::empty())
            }),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write(context, bytes),
        }
    }

    /// Writes some of several pieces; plaintext only has a use for it.
    pub(super) fn poll_write_vectored(
        &mut self,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if ONCE == 1 {
            let first = pieces.iter().find(|piece| !piece.is_empty());
            return self.poll_write(context, first.map_or(&[], |piece| piece));
        }
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, pieces),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_write_vectored(context, pieces),
        }
    }

    /// Sends what TLS holds back.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(context),
        }
    }

    /// Says that nothing more will be written.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(context),
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        for bytes in bytes.chunks(ONCE) {
            match self {
                Self::Plain(socket) => socket.write_all(bytes).await?,
                Self::Tls(tls) => {
                    tls.write_all(bytes).await?;
                    tls.flush().await?;
                }
            }
        }
        Ok(())
    }

    /// Appends what can be read to `buffer`; 0 is the end.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub async fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let mut buffer = buffer.limit(ONCE);
        match self {
            Self::Plain(socket) => socket.read_buf(&mut buffer).await,
            Self::Tls(tls) => match tls.read_buf(&mut buffer).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                result => result,
            },
        }
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub async fn shut_down(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_shutdown(context)).await
    }
}

/// One receive or send of at most `room` bytes. As in tokio's own, what came short is taken to be all
/// that could be moved, so that no call is spent on hearing it: the next one waits for the socket.
/// The calls are the system's own: the C library's pay for being cancellation points of threads.
fn once(
    socket: &TcpStream,
    context: &mut Context<'_>,
    interest: Interest,
    room: usize,
    mut call: impl FnMut() -> rustix::io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(if interest.is_readable() {
            socket.poll_read_ready(context)
        } else {
            socket.poll_write_ready(context)
        })?;
        let mut short = 0;
        let moved = socket.try_io(interest, || {
            let moved = call()?;
            if moved > 0 && moved < room {
                short = moved;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(moved)
        });
        match moved {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if short > 0 {
                    return Poll::Ready(Ok(short));
                }
            }
            moved => return Poll::Ready(moved),
        }
    }
}

/// What every session's sockets are set to: no delay, and a peer that vanished is noticed.
pub(crate) fn tune(socket: &TcpStream) -> io::Result<()> {
    use std::time::Duration;
    socket.set_nodelay(true)?;
    let socket = socket2::SockRef::from(socket);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_mins(1))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_mins(2)))?;
    Ok(())
}
