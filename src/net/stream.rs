//! One connection, plaintext or TLS: both look the same to a session.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::event_loop::poll_share;
use super::sizes::{ONCE, at_once};
use super::transport::Transport;

thread_local! {
    /// Where a thread reads what is appended to a buffer.
    static SCRATCH: RefCell<[u8; 4 << 10]> = const { RefCell::new([0; 4 << 10]) };
}

/// A connection to a client or to Hologres. As a [`Transport`], no `try_…` method waits.
#[derive(Debug)]
pub enum Stream<T> {
    /// Plaintext.
    Plain(T),
    /// TLS, in either role; boxed, since it is large and rare beside the socket.
    Tls(Box<Tls<T>>),
}

/// TLS over a transport, past its handshake.
#[derive(Debug)]
pub struct Tls<T> {
    transport: T,
    connection: Connection,
    /// `close_notify` is among what waits to be sent.
    closing: bool,
}

impl<T: Transport> Stream<T> {
    /// True over TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The ALPN protocol that the handshake agreed upon.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.connection.alpn_protocol(),
        }
    }

    /// Performs the server's side of a TLS handshake.
    ///
    /// # Errors
    ///
    /// The handshake failed; the peer has been sent an alert that says why, if it can be.
    pub async fn accept(transport: T, config: Arc<ServerConfig>) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(invalid)?;
        Self::handshake(transport, connection.into()).await
    }

    /// Performs the client's side of a TLS handshake.
    ///
    /// # Errors
    ///
    /// As [`Stream::accept`].
    pub async fn begin(
        transport: T,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let connection = ClientConnection::new(config, name).map_err(invalid)?;
        Self::handshake(transport, connection.into()).await
    }

    async fn handshake(transport: T, connection: Connection) -> io::Result<Self> {
        let mut tls = Box::new(Tls {
            transport,
            connection,
            closing: false,
        });
        std::future::poll_fn(|context| tls.poll_handshake(context)).await?;
        Ok(Self::Tls(tls))
    }

    fn transport_mut(&mut self) -> &mut T {
        match self {
            Self::Plain(transport) => transport,
            Self::Tls(tls) => &mut tls.transport,
        }
    }

    /// Reads into `buffer`; 0 is the end.
    ///
    /// # Errors
    ///
    /// Those of [`Transport::try_read`], and of TLS.
    #[inline]
    pub fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = at_once(buffer.len());
        let buffer = &mut buffer[..room];
        match self {
            Self::Plain(transport) => transport.try_read(buffer),
            Self::Tls(tls) => tls.try_read(buffer),
        }
    }

    /// Writes some of `bytes`.
    ///
    /// # Errors
    ///
    /// Those of [`Transport::try_write`], and of TLS.
    #[inline]
    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..at_once(bytes.len())];
        match self {
            Self::Plain(transport) => transport.try_write(bytes),
            Self::Tls(tls) => tls.try_write(&[IoSlice::new(bytes)]),
        }
    }

    /// Writes some of several pieces.
    ///
    /// # Errors
    ///
    /// Those of [`Stream::try_write`].
    pub fn try_write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if ONCE.is_some() {
            let first = pieces.iter().find(|piece| !piece.is_empty());
            return self.try_write(first.map_or(&[], |piece| piece));
        }
        match self {
            Self::Plain(transport) => transport.try_write_vectored(pieces),
            Self::Tls(tls) => tls.try_write(pieces),
        }
    }

    /// Sends what TLS holds back of what was written.
    ///
    /// # Errors
    ///
    /// Those of [`Stream::try_write`].
    pub fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }

    /// Says that nothing more will be written: FIN, over TLS behind `close_notify`.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: to be called again once the stream is writable; or the connection is gone.
    pub fn try_shut_down(&mut self) -> io::Result<()> {
        if let Self::Tls(tls) = self {
            if !tls.closing {
                tls.connection.send_close_notify();
                tls.closing = true;
            }
            tls.flush()?;
        }
        self.transport_mut().shut_down()
    }

    /// True if [`Stream::try_read`] may have something to say.
    #[inline]
    pub fn may_read(&mut self) -> bool {
        match self {
            Self::Plain(transport) => transport.may_read(),
            Self::Tls(tls) => tls.may_read(),
        }
    }

    /// True if what was received lies within TLS already, where no socket tells of it.
    pub fn holds_plaintext(&mut self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.has_plaintext(),
        }
    }

    /// Ready once [`Stream::may_read`] is true.
    #[inline]
    pub fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(transport) => transport.poll_readable(context),
            Self::Tls(tls) => tls.poll_readable(context),
        }
    }

    /// Ready once [`Stream::try_write`] may succeed or fail for good.
    pub fn poll_writable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.transport_mut().poll_writable(context)
    }

    /// See [`Transport::poll_ended`].
    pub fn poll_ended(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.transport_mut().poll_ended(context)
    }

    /// Ends the connection with a RST.
    pub fn reset(self) {
        match self {
            Self::Plain(transport) => transport.reset(),
            Self::Tls(tls) => tls.transport.reset(),
        }
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    ///
    /// Those of [`Stream::try_write`], less `WouldBlock`.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        std::future::poll_fn(|context| {
            while !rest.is_empty() {
                match self.try_write(rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(error) => ready!(self.wait(error, context, Self::poll_writable))?,
                }
            }
            self.poll_until_done(context, Self::try_flush)
        })
        .await
    }

    /// Appends what can be read to `buffer`, a few KiB at most; 0 is the end. May be given up: what
    /// has been read is in `buffer`.
    ///
    /// # Errors
    ///
    /// Those of [`Stream::try_read`], less `WouldBlock`.
    pub async fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.receive_at_most(buffer, usize::MAX).await
    }

    /// As [`Stream::receive`], but not a byte more than `room`.
    ///
    /// # Errors
    ///
    /// Those of [`Stream::receive`].
    pub async fn receive_at_most(
        &mut self,
        buffer: &mut Vec<u8>,
        room: usize,
    ) -> io::Result<usize> {
        std::future::poll_fn(|context| {
            // A peer that sends without end must let the task's time limits have their turn.
            ready!(poll_share(context));
            loop {
                let received = SCRATCH.with_borrow_mut(|scratch| {
                    let room = room.min(scratch.len());
                    let received = self.try_read(&mut scratch[..room])?;
                    buffer.extend_from_slice(&scratch[..received]);
                    Ok(received)
                });
                match received {
                    Ok(received) => return Poll::Ready(Ok(received)),
                    Err(error) => ready!(self.wait(error, context, Self::poll_readable))?,
                }
            }
        })
        .await
    }

    /// Waits for the first byte to come, which stays to be read; `None` is the end.
    ///
    /// # Errors
    ///
    /// Those of [`Transport::try_peek`], less `WouldBlock`.
    pub async fn first_byte(&mut self) -> io::Result<Option<u8>> {
        std::future::poll_fn(|context| {
            loop {
                let mut first = [0];
                match self.transport_mut().try_peek(&mut first) {
                    Ok(peeked) => return Poll::Ready(Ok((peeked > 0).then_some(first[0]))),
                    Err(error) => ready!(self.wait(error, context, Self::poll_readable))?,
                }
            }
        })
        .await
    }

    /// True if the peer has sent something that was not read yet.
    pub fn has_unread(&mut self) -> bool {
        matches!(self.transport_mut().try_peek(&mut [0]), Ok(1..))
    }

    /// Says that nothing more will be written.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub async fn shut_down(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_until_done(context, Self::try_shut_down)).await
    }

    /// Tries what writes until it need not wait.
    fn poll_until_done<R>(
        &mut self,
        context: &mut Context<'_>,
        mut attempt: impl FnMut(&mut Self) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            match attempt(self) {
                Ok(done) => return Poll::Ready(Ok(done)),
                Err(error) => ready!(self.wait(error, context, Self::poll_writable))?,
            }
        }
    }

    /// Ready with `Ok` once what would have blocked is worth another try; with any other error at
    /// once.
    fn wait(
        &mut self,
        error: io::Error,
        context: &mut Context<'_>,
        until: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<()>,
    ) -> Poll<io::Result<()>> {
        if error.kind() == io::ErrorKind::WouldBlock {
            until(self, context).map(Ok)
        } else {
            Poll::Ready(Err(error))
        }
    }
}

/// For libraries that wait by themselves.
impl<T: Transport> AsyncRead for Stream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) => ready!(this.wait(error, context, Self::poll_readable))?,
            }
        }
    }
}

/// See [`AsyncRead`].
impl<T: Transport> AsyncWrite for Stream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .poll_until_done(context, |this| this.try_write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_until_done(context, Self::try_flush)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_until_done(context, Self::try_shut_down)
    }
}

impl<T> Stream<T> {
    /// The channel binding data `tls-server-end-point` (RFC 5929) of the server that this is
    /// connected to; `None` in plaintext, and where its certificate has none.
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => {
                super::tls::server_end_point(tls.connection.peer_certificates()?.first()?)
            }
        }
    }
}

impl<T: Transport> Tls<T> {
    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.flush() {
                Ok(()) if self.connection.is_handshaking() => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.transport.poll_writable(context));
                    continue;
                }
                flushed => return Poll::Ready(flushed),
            }
            match self.take_in() {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.transport.poll_readable(context));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Reads records from the transport and decrypts them; 0 is the transport's end.
    fn take_in(&mut self) -> io::Result<usize> {
        let read = self.connection.read_tls(&mut Bytes(&mut self.transport))?;
        if let Err(error) = self.connection.process_new_packets() {
            // Sends the alert that says why, as far as it goes out at once.
            let _ = self.flush();
            return Err(invalid(error));
        }
        Ok(read)
    }

    #[inline(never)]
    fn try_read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A peer that leaves without close_notify is as gone as one that says so.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            self.take_in()?;
            // TLS has something to say of its own: the answer to a key update, or a refusal. If the
            // peer takes no more, whoever writes next hears of that; what the peer said before is
            // still to be read.
            let _ = self.flush();
        }
    }

    /// Takes some of the pieces, at most what the connection buffers; takes none before what it
    /// has taken is sent.
    #[inline(never)]
    fn try_write(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush()?;
        let taken = self.connection.writer().write_vectored(pieces)?;
        if taken == 0 && pieces.iter().any(|piece| !piece.is_empty()) {
            // The keys are used up and cannot be renewed, so that nothing can ever be written
            // again.
            return Err(io::ErrorKind::WriteZero.into());
        }
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut Bytes(&mut self.transport))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn may_read(&mut self) -> bool {
        self.has_plaintext() || self.transport.may_read()
    }

    #[inline(never)]
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.has_plaintext() {
            return Poll::Ready(());
        }
        self.transport.poll_readable(context)
    }

    fn has_plaintext(&mut self) -> bool {
        use std::io::BufRead as _;
        !matches!(self.connection.reader().fill_buf(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// A transport as rustls reads and writes it.
struct Bytes<'t, T>(&'t mut T);

impl<T: Transport> Read for Bytes<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl<T: Transport> Write for Bytes<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
