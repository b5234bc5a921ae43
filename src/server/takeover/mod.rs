//! A restart in which the next process takes the listening sockets over, and this one serves its
//! sessions to their end: no connection is refused, and none is lost.
//!
//! Both name the same Unix socket (`takeover.socket`). The next process connects to it before it
//! listens anywhere and is given the sockets themselves (`SCM_RIGHTS`, unix(7)), so that connections
//! that wait in the kernel wait for whoever accepts first. It says so once it accepts; only then does
//! this one stop. Should it fail before, nothing has changed.
//!
//! | file | holds |
//! |---|---|
//! | `link` | the messages, and the descriptors beside them |
//! | `giving` | the process that has the sockets |
//! | `taking` | the one that takes them over |
//! | `reporting` | what the first tells of its last sessions, to whoever listens at the socket by then |
//! | `successor` | starting the next process, at SIGUSR2 |

pub(super) mod giving;
pub(super) mod link;
pub(super) mod reporting;
pub(super) mod successor;
pub(super) mod taking;
