//! How much is read, kept and written at once.
//!
//! Built with the feature `tiny-io`, for the tests, everything is tiny: what happens once in a
//! thousand sessions, a message that ends in the middle of a header or of an answer of ours, then
//! happens at every byte.

#[cfg(not(feature = "tiny-io"))]
mod chosen {
    /// Bytes of one read or write, at most, if there is a limit.
    pub(crate) const ONCE: Option<usize> = None;
    /// Bytes of a session's first buffer; it is replaced by a larger one while reads fill it.
    pub(crate) const SMALL: usize = 16 << 10;
    /// Bytes of the largest buffer that full reads lead to.
    pub(crate) const LARGE: usize = 128 << 10;
    /// Bytes read ahead while the core holds a direction back: enough to notice that a client is
    /// gone.
    pub(crate) const HELD: usize = 64 << 10;
}

#[cfg(feature = "tiny-io")]
mod chosen {
    pub(crate) const ONCE: Option<usize> = Some(1);
    pub(crate) const SMALL: usize = 32;
    pub(crate) const LARGE: usize = 32;
    pub(crate) const HELD: usize = 32;
}

pub(crate) use chosen::{HELD, LARGE, ONCE, SMALL};

/// How many of so many bytes are read or written at once.
#[inline]
pub(crate) fn at_once(bytes: usize) -> usize {
    match ONCE {
        Some(once) => bytes.min(once),
        None => bytes,
    }
}
