//! A connection that reads no more of one reply than it should: what a hostile or broken server
//! announces is refused before anything is kept for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The largest reply: a page of facts, each of the greatest size, is well below.
const MAX_REPLY: u64 = 4 << 20;
/// The most elements in one.
const MAX_ELEMENTS: u64 = 20_000;
/// The longest line of a header, a status or an error.
const MAX_LINE: usize = 4 << 10;

/// A connection that is guarded.
pub(super) struct Guarded<S> {
    stream: S,
    guard: Guard,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            guard: Guard::default(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = &buffer.filled()[before..];
        let outcome = self.guard.see(read);
        Poll::Ready(outcome.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Where in a reply the bytes stand (RESP2, *Redis serialization protocol specification*).
#[derive(Default)]
struct Guard {
    /// Bytes of a bulk string, with its CR LF, that are still to come.
    body: u64,
    /// The line that is being read.
    line: Vec<u8>,
    /// Elements of the present reply that are still to come; 0: a reply begins.
    left: u64,
    /// What the present reply has announced so far.
    bytes: u64,
    elements: u64,
}

impl Guard {
    fn see(&mut self, mut read: &[u8]) -> Result<(), &'static str> {
        while !read.is_empty() {
            if self.body > 0 {
                let passes = self.body.min(read.len() as u64);
                self.body -= passes;
                read = &read[passes as usize..];
                continue;
            }
            let end = memchr::memchr(b'\n', read);
            let part = &read[..end.map_or(read.len(), |at| at + 1)];
            if self.line.len() + part.len() > MAX_LINE {
                return Err("a line of the reply is too long");
            }
            self.line.extend_from_slice(part);
            read = &read[part.len()..];
            if end.is_some() {
                self.header()?;
                self.line.clear();
            }
        }
        Ok(())
    }

    fn header(&mut self) -> Result<(), &'static str> {
        if self.left == 0 {
            (self.left, self.bytes, self.elements) = (1, 0, 0);
        }
        let Some((kind, rest)) = self.line.split_first() else {
            return Err("a reply has no type");
        };
        let number = || {
            let text = std::str::from_utf8(rest).unwrap_or_default().trim_end();
            text.parse::<i64>()
                .map_err(|_| "a length in the reply is no number")
        };
        self.left -= 1;
        self.elements += 1;
        self.bytes += self.line.len() as u64;
        match kind {
            b'$' | b'=' | b'!' => {
                // -1 is a null.
                if let Ok(length) = u64::try_from(number()?) {
                    self.bytes = self.bytes.saturating_add(length);
                    self.body = length.saturating_add(2);
                }
            }
            b'*' | b'~' | b'>' | b'%' => {
                let count = u64::try_from(number()?).unwrap_or(0);
                let count = count.saturating_mul(if *kind == b'%' { 2 } else { 1 });
                self.left = self.left.saturating_add(count);
            }
            _ => {}
        }
        if self.bytes > MAX_REPLY || self.elements.saturating_add(self.left) > MAX_ELEMENTS {
            return Err("the reply is larger than any that was asked for");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn see(replies: &[u8], step: usize) -> Result<(), &'static str> {
        let mut guard = Guard::default();
        replies.chunks(step).try_for_each(|part| guard.see(part))
    }

    #[test]
    fn ordinary_replies_pass_however_they_are_cut() {
        let page: Vec<u8> = (0..500)
            .flat_map(|_| b"*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nf\r\n$5\r\na\r\nbc\r\n".to_vec())
            .collect();
        let page = [b"*500\r\n".to_vec(), page].concat();
        for replies in [
            b"+OK\r\n:12\r\n$-1\r\n*-1\r\n*0\r\n-ERR no\r\n$0\r\n\r\n".to_vec(),
            [page.clone(), page].concat(),
            // Many of them one after the other are no large one.
            b"$1000\r\n"
                .iter()
                .chain(&[b'x'; 1000])
                .chain(b"\r\n")
                .copied()
                .collect::<Vec<_>>()
                .repeat(10_000),
        ] {
            for step in [1, 7, 4096] {
                assert_eq!(see(&replies, step), Ok(()));
            }
        }
    }

    #[test]
    fn what_is_announced_too_large_is_refused_at_once() {
        for reply in [
            "$536870912\r\n",
            "$9223372036854775807\r\n",
            "*1000000000\r\n",
            "%9223372036854775807\r\n",
            "*2\r\n$3\r\nabc\r\n$5000000\r\n",
            "$x\r\n",
        ] {
            assert!(see(reply.as_bytes(), 3).is_err(), "{reply:?}");
        }
        assert!(see(&[b'+'; MAX_LINE + 1], 1000).is_err());
        let nested = b"*2\r\n*100\r\n".repeat(250);
        assert!(see(&nested, 1000).is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_keep_much(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1..40_usize) {
            let mut guard = Guard::default();
            let _ = bytes.chunks(step).try_for_each(|part| guard.see(part));
            prop_assert!(guard.line.len() <= MAX_LINE);
        }
    }
}
