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
        let once = buffer.len().min(ONCE);
        let buffer = &mut buffer[..once];
        let tls = match self {
            Self::Plain(socket) => return receive(socket, context, buffer),
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
            Self::Plain(socket) => send(socket, context, bytes),
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

/// One receive, without the cost of a thread's cancellation point that the C library's has. As tokio
/// does, what came short is taken to be all there was, so that no call is spent on hearing it.
fn receive(
    socket: &TcpStream,
    context: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_read_ready(context))?;
        let mut received = None;
        let drained = socket.try_io(Interest::READABLE, || {
            let (bytes, _) = rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?;
            received = Some(bytes);
            full_or_would_block(bytes, buffer.len())
        });
        if let Some(outcome) = outcome(received, drained) {
            return Poll::Ready(outcome);
        }
    }
}

/// One send, likewise.
fn send(socket: &TcpStream, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(context))?;
        let mut sent = None;
        let filled = socket.try_io(Interest::WRITABLE, || {
            let now = rustix::net::send(socket, bytes, SendFlags::empty())?;
            sent = Some(now);
            full_or_would_block(now, bytes.len())
        });
        if let Some(outcome) = outcome(sent, filled) {
            return Poll::Ready(outcome);
        }
    }
}

/// Makes tokio wait for the socket where less was moved than there was room for.
fn full_or_would_block(moved: usize, room: usize) -> io::Result<()> {
    if moved > 0 && moved < room {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(())
}

/// What a call has come to; `None`: it has to wait.
fn outcome(moved: Option<usize>, result: io::Result<()>) -> Option<io::Result<usize>> {
    match (moved, result) {
        (Some(bytes), _) => Some(Ok(bytes)),
        (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
        (None, Err(error)) => Some(Err(error)),
        (None, Ok(())) => Some(Ok(0)),
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
