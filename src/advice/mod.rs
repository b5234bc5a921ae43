//! Hologres' errors about encrypted MaxCompute data, turned into messages that say what to do.
//!
//! [`recognize`] tells such an error from all others, [`advise`] chooses the case by what is known
//! and fills in its text. Every case has a stable code, `OSP-1xxx`, explained in `docs/errors.md`;
//! the texts live in one table per language.

mod case;
mod chinese;
mod english;
mod recognize;
mod redact;

use std::time::SystemTime;

pub use case::Case;
pub use recognize::{Fault, FaultKind, recognize};
pub use redact::redact_path;

use crate::catalog::HologresVersion;
use crate::config::Language;
use crate::keys::{Encryption, KmsKey};
use crate::protection::Reason;

/// The setting that lets SQE, not HQE, read foreign tables.
const ORC_VIA_HOLO: &str = "hg_experimental_enable_access_odps_orc_via_holo";
/// The setting that chooses the common-table route, and the value that does.
const CATALOG_ROUTING: &str = "hg_experimental_external_catalog_routing";
const COMMON_TABLE: &str = "odps:common_table,dlf:hqe";

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
    /// The second run was answered differently than the first.
    AnsweredDifferently,
    /// The client sets the route itself.
    ClientSetRoute,
    /// The route was right already.
    RouteWasSet,
    /// The route could not be set.
    RouteNotSet,
}

impl NotRetried {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::SwitchedOff,
        Self::InTransaction,
        Self::RowsSent,
        Self::Writes,
        Self::UnknownFunction,
        Self::TooLarge,
        Self::CycleNotComplete,
        Self::Pipelined,
        Self::FailedAgain,
        Self::AnsweredDifferently,
        Self::ClientSetRoute,
        Self::RouteWasSet,
        Self::RouteNotSet,
    ];

    /// For metrics' labels.
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
            Self::AnsweredDifferently => "answered_differently",
            Self::ClientSetRoute => "client_set_route",
            Self::RouteWasSet => "route_was_set",
            Self::RouteNotSet => "route_not_set",
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
    /// The upstream's version, if known.
    pub version: Option<HologresVersion>,
    /// Why it was not run again; `None`: nothing to say about that.
    pub not_retried: Option<NotRetried>,
    /// The DETAIL that Hologres sent with the error; empty if none.
    pub original_detail: &'a str,
    /// The HINT that Hologres sent with it; empty if none.
    pub original_hint: &'a str,
    /// Replace the pangu path in what Hologres said.
    pub redact: bool,
    /// The language of the texts.
    pub language: Language,
}

/// The fields of the error that the client gets. SQLSTATE and severity stay as Hologres sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// The case's stable code, e.g. `OSP-1001`.
    pub code: &'static str,
    /// One sentence that says what happened, one that says what to do.
    pub message: String,
    /// The code, why the statement was not run again, and what Hologres said.
    pub detail: String,
    /// The exact statement or step, and how to verify it.
    pub hint: String,
}

/// What a language's table is given to fill its texts with.
struct Facts<'a> {
    /// What could not be read, in the language's words.
    relation: Option<&'a str>,
    project: Option<&'a str>,
    key: Option<&'a KmsKey>,
    version: Option<HologresVersion>,
    /// The database's name as SQL spells it.
    database: String,
}

/// One case in one language.
struct Text {
    happened: String,
    to_do: String,
    hint: String,
}

/// The message, detail and hint for `fault`, of which Hologres said `original_message`.
pub fn advise(fault: &Fault, original_message: &str, context: &AdviceContext<'_>) -> Advice {
    let case = Case::choose(fault, context, SystemTime::now());
    let reason = context.reason;
    let record = reason.and_then(|reason| reason.key.as_deref());
    let facts = Facts {
        relation: reason.map(|reason| reason.relation.as_str()),
        project: reason
            .and_then(|reason| reason.project.as_deref())
            .or(fault.project.as_deref()),
        key: record.and_then(|record| match &record.encryption {
            Encryption::Kms(key) => Some(key),
            _ => None,
        }),
        version: context.version,
        database: quote_identifier(context.database),
    };
    let said = [
        ("", original_message),
        ("\nDETAIL: ", context.original_detail),
        ("\nHINT: ", context.original_hint),
    ];
    let original: String = said
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .flat_map(|(name, text)| {
            let text = if context.redact {
                redact_path(text)
            } else {
                text.into()
            };
            [name.into(), text]
        })
        .collect();
    let (text, detail) = match context.language {
        Language::English => (
            english::text(case, &facts),
            english::detail(case, context.not_retried, &original),
        ),
        Language::Chinese => (
            chinese::text(case, &facts),
            chinese::detail(case, context.not_retried, &original),
        ),
    };
    let space = if context.language == Language::Chinese {
        ""
    } else {
        " "
    };
    Advice {
        code: case.code(),
        message: format!("{}{space}{}", text.happened, text.to_do),
        detail,
        hint: text.hint,
    }
}

/// An identifier as SQL spells it, always in quotes.
fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Facts<'_> {
    fn alter_database_to_sqe(&self) -> String {
        format!(
            "ALTER DATABASE {} SET {ORC_VIA_HOLO} = false;",
            self.database
        )
    }

    fn alter_database_to_common_table(&self) -> String {
        format!(
            "ALTER DATABASE {} SET {CATALOG_ROUTING} = '{COMMON_TABLE}';",
            self.database
        )
    }

    fn key_id(&self) -> Option<&str> {
        self.key?.id.as_deref()
    }

    fn version_is_before(&self, needed: HologresVersion) -> bool {
        self.version.is_some_and(|version| version < needed)
    }
}

#[cfg(test)]
mod tests;
