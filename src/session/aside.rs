//! Clients who ask for a database that is not the upstreams': whoever serves them gets their connection
//! at the end of the greeting.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::admission::Place;
use crate::config::Settings;
use crate::net::{Stream, Transport};

/// What serves clients beside the sessions.
pub(crate) trait Aside: Send + Sync {
    /// True if a client that asks for this database is one of those, by these settings.
    fn takes(&self, database: &[u8], settings: &Settings) -> bool;

    /// Serves one to its end.
    fn serve(&self, visitor: Visitor) -> BoxFuture<'static, ()>;
}

/// A client that has said what it wants.
pub(crate) struct Visitor {
    /// Its connection, from the startup packet on.
    pub(crate) client: Box<dyn Duplex>,
    pub(crate) peer: SocketAddr,
    pub(crate) is_tls: bool,
    /// Its place among the greetings.
    pub(crate) place: Place,
}

/// A connection of any kind, for those who need not be fast.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + Sync {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync> Duplex for T {}

/// A stream as tokio's traits have it.
pub(super) struct Reading<T> {
    stream: Stream<T>,
    /// What was read of it before, and how much of that has been read again.
    read: Vec<u8>,
    again: usize,
}

impl<T: Transport> Reading<T> {
    /// `read` is what has been read of it already.
    pub(super) fn new(stream: Stream<T>, read: &[u8]) -> Self {
        Self {
            stream,
            read: read.to_owned(),
            again: 0,
        }
    }

    /// Tries until it works, or until it is worth another try.
    fn poll_write_with<O>(
        &mut self,
        context: &mut Context<'_>,
        mut attempt: impl FnMut(&mut Stream<T>) -> io::Result<O>,
    ) -> Poll<io::Result<O>> {
        loop {
            match attempt(&mut self.stream) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_writable(context));
                }
                done => return Poll::Ready(done),
            }
        }
    }
}

impl<T: Transport> AsyncRead for Reading<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = &this.read[this.again..];
        if !rest.is_empty() {
            let part = &rest[..rest.len().min(buffer.remaining())];
            buffer.put_slice(part);
            this.again += part.len();
            return Poll::Ready(Ok(()));
        }
        loop {
            match this.stream.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    ready!(this.stream.poll_readable(context));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<T: Transport> AsyncWrite for Reading<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream| stream.try_write(bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_with(context, Stream::try_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_with(context, Stream::try_shut_down)
    }
}
