//! OpenTelemetry traces of sessions: one span for the session, and below it one for its login and one
//! for each cycle of statements, with what a first run took that had to be run again.
//!
//! A cycle whose statement carries a W3C trace context in a comment is part of that trace, and linked
//! to its session. Spans are sent in batches, by OTLP over HTTP with JSON, from a thread of their own:
//! no session waits for a collector, and what it does not take in time is dropped.
//!
//! They need the cargo feature `traces`; without it nothing of them is compiled but their names.

#[cfg(not(feature = "traces"))]
mod none;
#[cfg(feature = "traces")]
mod otlp;

#[cfg(not(feature = "traces"))]
pub use none::{SessionTrace, Traces};
#[cfg(feature = "traces")]
pub use otlp::{SessionTrace, Traces};

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// Whose session it is.
#[derive(Debug, Clone, Copy)]
pub struct SessionStart<'s> {
    /// Its number in Osprey's log and console.
    pub id: u64,
    /// The client.
    pub peer: SocketAddr,
    /// As whom it has logged in.
    pub user: &'s str,
    /// Into which database.
    pub database: &'s str,
    /// At which upstream.
    pub upstream: &'s str,
    /// When its login began.
    pub began: SystemTime,
}

/// What is known of a statement when it is sent.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// Its first word, in upper case: `SELECT`.
    pub operation: String,
    /// Its text without the values in it, where the configuration lets it be written anywhere.
    pub text: Option<String>,
    /// The W3C trace context in a comment of it.
    pub trace_parent: Option<String>,
    /// What is protected of what it reads: the relation.
    pub relation: Option<String>,
}

/// What is known of a cycle when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// From its first byte to its ReadyForQuery.
    pub took: Duration,
    /// The engine's label in the metrics.
    pub engine: &'static str,
    /// The protocol's label in the metrics.
    pub protocol: &'static str,
    /// How long the first run took, where that failed and there was a second.
    pub failed_after: Option<Duration>,
}
