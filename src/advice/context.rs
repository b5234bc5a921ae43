//! What is known around an error when advice is asked for.

use crate::catalog::HologresVersion;
use crate::config::Language;
use crate::protection::{ComputingResource, Encoding, Reason};

/// Why a failed statement was not run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotRetried {
    /// The operator switched running again off.
    SwitchedOff,
    /// It ran in a transaction that was not kept from its begin, or that had failed before.
    InTransaction,
    /// Rows had already gone to the client.
    RowsSent,
    /// It writes.
    Writes,
    /// It calls a function that is not known to be harmless to run twice.
    UnknownFunction,
    /// It was too long to be kept.
    TooLarge,
    /// The client had not yet sent the end of its cycle (Sync), and may be waiting for the answer.
    CycleNotComplete,
    /// The client had already sent what comes after it.
    Pipelined,
    /// It was run again, and failed again.
    FailedAgain,
    /// It writes, was run again, and then what it makes existed already.
    LeftBehind,
    /// The second run was answered differently than the first.
    AnsweredDifferently,
    /// The client sets the route itself.
    ClientSetRoute,
    /// The route was right already.
    RouteWasSet,
    /// The route could not be set.
    RouteNotSet,
    /// What stands in front of it in its own text undoes the setting of the route.
    RouteUndone,
    /// Nothing in it was known to lead to MaxCompute.
    NotKnown,
}

impl NotRetried {
    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::SwitchedOff,
        Self::InTransaction,
        Self::RowsSent,
        Self::Writes,
        Self::UnknownFunction,
        Self::TooLarge,
        Self::CycleNotComplete,
        Self::Pipelined,
        Self::FailedAgain,
        Self::LeftBehind,
        Self::AnsweredDifferently,
        Self::ClientSetRoute,
        Self::RouteWasSet,
        Self::RouteNotSet,
        Self::RouteUndone,
        Self::NotKnown,
    ];

    /// The name of the reason in metrics' labels, and the key of its words in the table.
    pub fn label(self) -> &'static str {
        match self {
            Self::SwitchedOff => "switched_off",
            Self::InTransaction => "in_transaction",
            Self::RowsSent => "rows_sent",
            Self::Writes => "writes",
            Self::UnknownFunction => "unknown_function",
            Self::TooLarge => "too_large",
            Self::CycleNotComplete => "cycle_not_complete",
            Self::Pipelined => "pipelined",
            Self::FailedAgain => "failed_again",
            Self::LeftBehind => "left_behind",
            Self::AnsweredDifferently => "answered_differently",
            Self::ClientSetRoute => "client_set_route",
            Self::RouteWasSet => "route_was_set",
            Self::RouteNotSet => "route_not_set",
            Self::RouteUndone => "route_undone",
            Self::NotKnown => "not_known",
        }
    }
}

/// What is known around a fault.
#[derive(Debug, Clone, Copy, Default)]
pub struct AdviceContext<'a> {
    /// The database's name as the catalog has it, without `@warehouse`.
    pub database: &'a str,
    /// Why the statement was taken to be protected, if it was.
    pub reason: Option<&'a Reason>,
    /// The client has set the route itself.
    pub client_set_route: bool,
    /// The route for encrypted data was set when the statement ran, by Osprey or by the database.
    pub route_was_set: bool,
    /// Osprey has learned from this very failure: the same statement would be steered now.
    pub learned: bool,
    /// Where the session's queries run; `None`: nobody knows.
    pub computing_resource: Option<ComputingResource>,
    /// The upstream's version, if known.
    pub version: Option<HologresVersion>,
    /// Why it was not run again; `None`: nothing to say about that.
    pub not_retried: Option<NotRetried>,
    /// The codes of the rules that are only offered, and that the operator has switched on.
    pub switched_on: &'a [&'a str],
    /// True if the pangu path is to be replaced in what Hologres said.
    pub redact: bool,
    /// The language of the texts.
    pub language: Language,
    /// The encoding in which the client is told.
    pub encoding: Encoding,
    /// The address under which the pages can be read, without a slash at its end; `None`: the
    /// directory of the sources.
    pub docs: Option<&'a str>,
    /// The id under which the whole of Hologres' text goes into the log if it is long, so that the
    /// client gets its beginning and its end; `None`: the client gets all of it.
    pub log_id: Option<&'a str>,
}
