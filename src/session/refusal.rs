//! Why there is no session, and what the client is told.

use std::io;
use std::net::IpAddr;

use crate::config::show_duration;
use crate::net::Unreachable;
use crate::observe::metrics::{CloseReason, Limit};
use crate::protection::Encoding;
use crate::wire::compose;
use crate::wire::startup::BadPacket;

/// What the client of a session is told that an operator ends, as PostgreSQL says it
/// (`pg_terminate_backend`).
pub(super) const KILLED: &str = "terminating connection due to administrator command";

/// Why a connection does not become a session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The client went away; scanners and health checks do.
    #[error("the client went away before it had logged in")]
    Gone,
    /// A socket failed.
    #[error("the connection failed during login: {0}")]
    Io(#[from] io::Error),
    /// TLS with the client could not be begun; TLS itself has told it.
    #[error("the TLS handshake with the client failed: {0}")]
    Handshake(io::Error),
    /// What came is no startup packet; as PostgreSQL does, nothing is said to whoever sent it.
    #[error("{0}")]
    NoStartup(BadPacket),
    /// The client left when it was offered no channel binding, or asked for its password instead.
    #[error(
        "the client left when it was offered no channel binding or was asked for its password; one \
         that insists on channel binding must, because Osprey ends its TLS: it can log in with \
         channel_binding=prefer or channel_binding=disable"
    )]
    NoBinding,
    /// The client broke the protocol; it is told so.
    #[error("{0}")]
    Protocol(String),
    /// The server refused; it has been relayed.
    #[error("Hologres refused the login: {0}")]
    Refused(String),
    /// A bound of Osprey's is reached.
    #[error("sorry, too many clients already: Osprey's {setting} is {most}")]
    Full {
        /// Which one.
        limit: Limit,
        /// As the client knows it: the setting's name.
        setting: String,
        /// Its value.
        most: usize,
    },
    /// The listener lets in nobody from there.
    #[error("Osprey lets in no client from {address} here: see {setting} of the listener")]
    Network {
        /// Which list, as the metrics count it.
        limit: Limit,
        /// Its key.
        setting: &'static str,
        /// The client's.
        address: IpAddr,
    },
    /// Osprey refuses; SQLSTATE, message, hint.
    #[error("{message}")]
    Own {
        /// SQLSTATE
        sqlstate: &'static str,
        /// What the client is told.
        message: String,
        /// And what it can do.
        hint: Option<&'static str>,
    },
    /// Osprey is going to end.
    #[error("Osprey is shutting down")]
    ShuttingDown,
    /// An operator ended it, by the console.
    #[error("{KILLED}")]
    Killed,
    /// The login took too long.
    #[error("canceling authentication due to timeout: Osprey's limits.login_timeout is {}", show_duration(*.0))]
    TimedOut(std::time::Duration),
    /// Hologres cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
}

impl Refusal {
    /// The bound `setting` (`limits.…`) is reached.
    pub(super) fn full(limit: Limit, most: usize) -> Self {
        let setting = match limit {
            Limit::OpenFiles => "limit of open files (LimitNOFILE, ulimit -n)",
            limit => limit.name(),
        };
        Self::Full {
            limit,
            setting: setting.to_owned(),
            most,
        }
    }

    /// The server's connection failed in the middle of a login, which is no fault of the client's.
    #[allow(clippy::needless_pass_by_value)] // for map_err
    pub(super) fn lost(why: impl ToString) -> Self {
        Self::Own {
            sqlstate: "08006",
            message: format!(
                "Hologres ended the connection during login: {}",
                why.to_string()
            ),
            hint: None,
        }
    }

    /// The limit that refuses, as the metrics count it; `None`: it is no limit of Osprey's.
    pub(super) fn limit(&self) -> Option<Limit> {
        match self {
            Self::Full { limit, .. } | Self::Network { limit, .. } => Some(*limit),
            Self::ShuttingDown => Some(Limit::Draining),
            _ => None,
        }
    }

    /// The FATAL that a client gets which reads this encoding; `None`: it has been told, or is not to
    /// be told anything.
    pub(super) fn fatal(&self, encoding: Encoding) -> Option<Vec<u8>> {
        let (sqlstate, hint) = match self {
            Self::Gone
            | Self::Io(_)
            | Self::Handshake(_)
            | Self::NoStartup(_)
            | Self::NoBinding
            | Self::Refused(_) => return None,
            Self::Protocol(_) => ("08P01", None),
            Self::Full { .. } => ("53300", None),
            Self::Network { .. } => ("28000", None),
            Self::Killed => ("57P01", None),
            Self::ShuttingDown => (
                "57P03",
                Some("Connect again: another instance may take over."),
            ),
            Self::Own { sqlstate, hint, .. } => (*sqlstate, *hint),
            Self::TimedOut(_) => ("57014", None),
            Self::Unreachable(error) => ("08006", Some(error.hint())),
        };
        let mut frame = Vec::new();
        let message = self.to_string();
        compose::fatal(&mut frame, sqlstate, encoding.to_client(&message), hint);
        Some(frame)
    }

    /// The reason under which a session that did not come about is counted.
    pub(super) fn reason(&self) -> CloseReason {
        match self {
            Self::Gone | Self::Io(_) | Self::Handshake(_) | Self::NoBinding => CloseReason::Client,
            Self::NoStartup(_) | Self::Protocol(_) => CloseReason::ProtocolError,
            Self::Refused(_)
            | Self::Full { .. }
            | Self::Network { .. }
            | Self::ShuttingDown
            | Self::Own { .. } => CloseReason::LoginFailed,
            Self::Killed => CloseReason::Killed,
            Self::TimedOut(_) => CloseReason::Timeout,
            Self::Unreachable(_) => CloseReason::Unreachable,
        }
    }
}
