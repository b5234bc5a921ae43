//! What a reading of the catalogs can fail with, and what the operator can do about each.

use std::io;
use std::time::Duration;

use super::bounded::TooLarge;
use crate::net::Unreachable;
use crate::observe::secrets;

/// What kind of failure a reading ended in; each has its own remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection to the upstream.
    Unreachable,
    /// The upstream and Osprey could not agree on TLS.
    Tls,
    /// The service account was refused.
    Login,
    /// No connection slot was free.
    TooManyConnections,
    /// There is no such database.
    NoDatabase,
    /// Who reads may not read what it must.
    Permission,
    /// It took too long.
    Timeout,
    /// The catalogs are larger than what is read of them.
    TooLarge,
    /// Anything else that the server answered.
    Server,
}

impl Failure {
    /// What the operator can do about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Unreachable => "check upstream.address, and that the instance runs",
            Self::Tls => "check upstream.tls: its mode, its CA file and its server name",
            Self::Login => {
                "check catalog.user and its password (OSPREY_CATALOG_PASSWORD or \
                 catalog.password_file), and the instance's IP address whitelist"
            }
            Self::TooManyConnections => {
                "free connections on the instance, or raise the service account's CONNECTION LIMIT"
            }
            Self::NoDatabase => "nothing, if a client merely misspelt the database's name",
            Self::Permission => {
                "let who reads (catalog.user, else the sessions' users) connect to the database \
                 and read pg_catalog"
            }
            Self::Timeout => "check the instance's load; the next reading is tried by itself",
            Self::TooLarge => {
                "name what is encrypted under [protect], by tables' patterns: these need no catalogs"
            }
            Self::Server => "see the reason; if it stays, set table patterns under [protect]",
        }
    }

    /// The same, where it was the operator who has named the database.
    pub fn remedy_of_named(self) -> &'static str {
        match self {
            Self::NoDatabase => "check the database's name",
            _ => self.remedy(),
        }
    }

    /// A short name for metrics' labels and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Login => "login",
            Self::TooManyConnections => "too_many_connections",
            Self::NoDatabase => "no_database",
            Self::Permission => "permission",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Server => "server",
        }
    }
}

/// A reading that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ReadError {
    /// Its kind.
    pub failure: Failure,
    /// What was said, for logs.
    pub reason: String,
}

impl ReadError {
    /// The failure that an ErrorResponse reports.
    pub(crate) fn said(sqlstate: &str, message: &str) -> Self {
        let failure = match sqlstate {
            "3D000" => Failure::NoDatabase,
            "42501" => Failure::Permission,
            "53300" => Failure::TooManyConnections,
            "57014" => Failure::Timeout,
            _ if sqlstate.starts_with("28") => Failure::Login,
            _ => Failure::Server,
        };
        Self {
            failure,
            reason: format!("{} (SQLSTATE {sqlstate})", secrets::hide(message, &[])),
        }
    }

    /// True if an error of this SQLSTATE says that what is asked for is not there, or not for this user:
    /// no such setting, function or relation, no privilege, or not supported. Any other says nothing
    /// about that.
    pub(crate) fn means_none(sqlstate: &str) -> bool {
        matches!(sqlstate, "42501" | "42704" | "42883" | "42P01" | "0A000")
    }

    /// What was being done took longer than `limit`.
    pub(crate) fn timeout(doing: &str, limit: Duration) -> Self {
        let reason = format!("{doing} took longer than {} s", limit.as_secs_f64());
        Self {
            failure: Failure::Timeout,
            reason,
        }
    }
}

impl From<&Unreachable> for ReadError {
    fn from(error: &Unreachable) -> Self {
        let failure = match error {
            Unreachable::Connect { .. }
            | Unreachable::NotHologres { .. }
            | Unreachable::Itself { .. }
            | Unreachable::Refused { .. } => Failure::Unreachable,
            Unreachable::Timeout { .. } => Failure::Timeout,
            Unreachable::NoTls { .. } | Unreachable::Tls { .. } => Failure::Tls,
        };
        Self {
            failure,
            reason: error.to_string(),
        }
    }
}

impl From<&tokio_postgres::Error> for ReadError {
    fn from(error: &tokio_postgres::Error) -> Self {
        if let Some(said) = error.as_db_error() {
            return Self::said(said.code().code(), said.message());
        }
        let mut reason = error.to_string();
        let mut source = std::error::Error::source(error);
        let mut too_large = false;
        while let Some(cause) = source {
            let own = cause.downcast_ref().and_then(io::Error::get_ref);
            if let Some(own) = own {
                too_large |= own.is::<TooLarge>();
            }
            let text = cause.to_string();
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            source = cause.source();
        }
        // tokio-postgres keeps the kind of such an error to itself; its first words are the kind.
        let failure = if too_large {
            Failure::TooLarge
        } else if reason.starts_with("error performing TLS handshake") {
            Failure::Tls
        } else if reason.starts_with("authentication error") || reason.contains("password missing")
        {
            Failure::Login
        } else {
            Failure::Unreachable
        };
        Self { failure, reason }
    }
}
