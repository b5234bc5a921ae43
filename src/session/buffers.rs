//! The read buffers of a worker, which its lanes take while a socket has data.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;

use crate::net::sizes::SMALL;

/// Small buffers kept per worker, beside the one in use.
const POOLED: usize = 64;

thread_local! {
    /// The worker's buffer: nearly always whoever takes it gives it back in the same turn. It is left to
    /// the system when the thread ends, which a worker does with the process.
    static BUFFER: Cell<Option<ManuallyDrop<Box<[u8]>>>> = const { Cell::new(None) };
    /// Those beside it.
    static POOL: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`SMALL`] bytes; what is in it means nothing.
#[inline]
pub(super) fn take_buffer() -> Box<[u8]> {
    BUFFER
        .take()
        .map_or_else(take_another, ManuallyDrop::into_inner)
}

#[cold]
#[inline(never)]
fn take_another() -> Box<[u8]> {
    POOL.with_borrow_mut(Vec::pop)
        .unwrap_or_else(|| vec![0; SMALL].into_boxed_slice())
}

/// Takes a buffer back, of whichever size.
#[inline]
pub(super) fn give_back(buffer: Box<[u8]>) {
    if buffer.len() == SMALL
        && let Some(other) = BUFFER.replace(Some(ManuallyDrop::new(buffer)))
    {
        give_back_another(ManuallyDrop::into_inner(other));
    }
}

#[cold]
#[inline(never)]
fn give_back_another(buffer: Box<[u8]>) {
    POOL.with_borrow_mut(|pool| {
        if pool.len() < POOLED {
            pool.push(buffer);
        }
    });
}
