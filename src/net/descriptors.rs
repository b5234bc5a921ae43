//! File descriptors, and those of them that sessions leave to everything else: whoever looks after a process
//! that is full can still scrape its metrics, ask for its health and use its console.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Descriptors besides those of sessions: listeners, logs, metrics, the console, catalog connections.
pub(crate) const RESERVE: u64 = 100;

/// How many files this process may open, as it was when it was first asked for; `None`: any number.
pub(crate) fn limit() -> Option<u64> {
    static LIMIT: OnceLock<Option<u64>> = OnceLock::new();
    *LIMIT.get_or_init(|| getrlimit(Resource::Nofile).current)
}

/// So many of them are left by sessions: a part, where there are few.
pub(crate) fn reserve() -> u64 {
    limit().map_or(RESERVE, |limit| RESERVE.min(limit / 8))
}

/// True if a session may not keep this socket. The system gives the lowest number that is free, so a
/// number tells how many files are open.
pub(crate) fn is_reserved(socket: &impl AsFd) -> bool {
    let number = u64::try_from(socket.as_fd().as_raw_fd()).unwrap_or_default();
    limit().is_some_and(|limit| number >= limit - reserve())
}

/// True if this process, or the system, may open no more files.
pub(crate) fn are_out(error: &io::Error) -> bool {
    let codes = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}
