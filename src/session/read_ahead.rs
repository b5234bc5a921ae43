//! Memory for reading ahead of clients whose data cannot be passed on, for the whole process: a
//! client's end may lie behind some megabytes that it had sent, and only reading them shows it.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What one session may read ahead: the send buffer of a client's kernel (4 MiB by Linux' default,
/// `tcp_wmem`) and what Osprey's own holds besides.
const EACH: usize = 6 << 20;
/// What all sessions together may.
const TOGETHER: usize = 16 * EACH;

static GRANTED: AtomicUsize = AtomicUsize::new(0);

/// The right to read ahead, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Grant(());

impl Grant {
    /// Takes the right, if not too many have it; `None`: they have.
    pub(super) fn take() -> Option<Self> {
        if GRANTED.fetch_add(EACH, Ordering::Relaxed) + EACH > TOGETHER {
            GRANTED.fetch_sub(EACH, Ordering::Relaxed);
            return None;
        }
        Some(Self(()))
    }

    /// How much may be read ahead.
    #[allow(clippy::unused_self)] // A right to it is what is asked.
    pub(super) fn bytes(&self) -> usize {
        EACH
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        GRANTED.fetch_sub(EACH, Ordering::Relaxed);
    }
}
