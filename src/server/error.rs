//! Why a server does not start.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::net::tls;

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error(
        "cannot listen on {address} for {what}: choose another address with {flag}, or end what uses it"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Clients or metrics.
        what: &'static str,
        /// How to choose another.
        flag: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A Unix socket, of the console or of the takeover, cannot be opened.
    #[error("cannot open the socket {}", path.display())]
    UnixSocket {
        /// Its path.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Another process is to be taken over from, and that fails.
    #[error(
        "cannot take over from the process that listens at {}: end it, and start this one again",
        path.display()
    )]
    Takeover {
        /// `takeover.socket`
        path: PathBuf,
        /// What it says, or the system's answer.
        source: std::io::Error,
    },
    /// A TLS file cannot be used.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// Traces cannot be sent.
    #[error("cannot send traces (observe.traces): {0}")]
    Traces(String),
    /// The system refuses threads, timers or the like.
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
}
