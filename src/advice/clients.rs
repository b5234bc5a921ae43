//! What programs read in an error: Osprey's texts never hold it, and an error that does is left
//! as it came.
//!
//! The vendor's client library and the connectors built on it decide by substrings of message,
//! detail, hint and context whether they try again, reconnect, or take a row for bad data; drivers
//! and pools decide by SQLSTATE.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use crate::wire::backend::ErrorFields;

/// The substrings that decide something in a client, in lower case.
pub(super) const WORDS: &[&str] = &[
    // Reconnect and try again.
    "this connection has been closed",
    "kconnecterror",
    "connection refused",
    "erpc_error_connection_closed",
    "invalid expire_time",
    // Try again: read only, busy, too many.
    "not allowed in readonly mode",
    "resource busy",
    "fail to fetch table group meta from store master",
    "get rundown is not allowed in recovering state",
    "the workers or shards are unhealthy",
    "too many clients already",
    "remaining connection slots are reserved",
    "too many wal senders already",
    "exceeds max_wal_senders",
    // The table is not what the client takes it for.
    "invalid table id",
    "refresh meta timeout",
    "mismatches the version of the table",
    "could not open relation with oid",
    "replay not finished yet",
    "fail to execute query table not found",
    "table not found, table id",
    "from storemaster",
    "can not found",
    // Bad data, and what is not supported.
    "violates partition constraint",
    "could not generate fixed plan",
    "invalid character data was found",
    "发现不合法的字元",
    // Others: a cancel, what is there already or not there, logins, streams.
    "canceling statement due to user request",
    "already exists",
    "relation \"hologres.hg_partitioning_config\" does not exist",
    "function instance_max_connections() does not exist",
    "invalid username",
    "incorrect password",
    "type=fixed",
    "unrecognized configuration parameter \"type\"",
    "database connection failed when",
    "queryid:",
];

static MATCHER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .build(WORDS)
        .expect("a few short words make a small automaton")
});

/// The word in a text that a client decides by, if there is one.
pub(super) fn decide_by(text: impl AsRef<[u8]>) -> Option<&'static str> {
    let found = MATCHER.find(text.as_ref())?;
    Some(WORDS[found.pattern()])
}

/// True if a client decides something by this error as it is: then it stays as it is.
pub(super) fn act_on(error: ErrorFields<'_>) -> bool {
    acted_on(&String::from_utf8_lossy(error.sqlstate()))
        || error
            .iter()
            .filter(|(code, _)| matches!(code, b'M' | b'D' | b'H' | b'W'))
            .any(|(_, value)| decide_by(value).is_some())
}

/// True for the SQLSTATEs by which drivers and pools reconnect, evict a connection, prepare anew or
/// try again.
pub(super) fn acted_on(sqlstate: &str) -> bool {
    sqlstate == "0A000"
        || ["08", "53", "57P0"]
            .iter()
            .any(|class| sqlstate.starts_with(class))
}
