//! A connection of which no more is read than there is room for: the driver keeps an answer in memory,
//! whatever it is and however long it is said to be.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsStream};

use crate::net::Stream;
use crate::net::tcp::{OnTokio, Tcp};

/// The most bytes that are read for one reading: about half a million relations.
const MAX_ANSWERS: usize = 64 << 20;

/// A stream of which no more is read than [`MAX_ANSWERS`]: then it fails with [`TooLarge`].
pub(super) struct Bounded {
    stream: Stream<Tcp<OnTokio>>,
    left: usize,
}

impl Bounded {
    pub(super) fn new(stream: Stream<Tcp<OnTokio>>) -> Self {
        Self {
            stream,
            left: MAX_ANSWERS,
        }
    }
}

/// More has come than is read.
#[derive(Debug, thiserror::Error)]
#[error("the catalogs are larger than {MAX_ANSWERS} bytes")]
pub(super) struct TooLarge;

impl AsyncRead for Bounded {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(Err(io::Error::other(TooLarge)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        this.left = this.left.saturating_sub(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl TlsStream for Bounded {
    fn channel_binding(&self) -> ChannelBinding {
        self.stream
            .server_end_point()
            .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}
