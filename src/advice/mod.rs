//! Hologres' errors, turned into messages that say what to do.
//!
//! Everything is in one table, `rules.toml`: what an error looks like, what it means, what to do in
//! English and Chinese, and whether Osprey does it by itself. [`recognize`] tells such an error from
//! all others, [`advise`] chooses the row by what is known and fills in its text. Every row has a
//! stable code, `OSP-NNNN`, with a section in `docs/errors.md`, which is generated from the table.

mod clients;
mod condition;
mod pattern;
mod reader;
mod recognize;
mod redact;
mod rules;
mod words;

use std::fmt;
use std::time::SystemTime;

pub use recognize::{Fault, recognize};
pub use redact::redact_path;
pub use rules::{Cure, Rule, Rules};

use crate::catalog::HologresVersion;
use crate::config::Language;
use crate::keys::Origin;
use crate::keys::cloud::timestamp;
use crate::protection::Reason;
use crate::wire::backend::ErrorFields;
use crate::wire::compose;

/// Characters of a message, at most: what an error box shows.
const MESSAGE_LIMIT: usize = 200;
/// Where the pages are, if nothing else is said.
const DOCS: &str = "docs";

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

    /// For metrics' labels, and the key of its words in the table.
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

/// One row of the table, by its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Case(&'static str);

impl Case {
    /// Every row of the table in force.
    pub const ALL: Cases = Cases;

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.0
    }
}

/// The rows of the table in force: [`Case::ALL`].
#[derive(Debug, Clone, Copy)]
pub struct Cases;

impl Cases {
    /// One after the other.
    pub fn iter(self) -> impl Iterator<Item = Case> {
        Rules::in_force().iter().map(|rule| Case(rule.code()))
    }
}

/// Where a session's queries run: its `hg_computing_resource`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ComputingResource {
    /// Nobody knows.
    #[default]
    Unknown,
    /// On the instance's own resources.
    Local,
    /// On serverless resources.
    Serverless,
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
    /// Where the session's queries run.
    pub computing_resource: ComputingResource,
    /// The upstream's version, if known.
    pub version: Option<HologresVersion>,
    /// Why it was not run again; `None`: nothing to say about that.
    pub not_retried: Option<NotRetried>,
    /// Replace the pangu path in what Hologres said.
    pub redact: bool,
    /// The language of the texts.
    pub language: Language,
    /// The address under which the pages can be read, without a slash at its end; `None`: the
    /// directory of the sources.
    pub docs: Option<&'a str>,
}

/// The fields of the error that the client gets. SQLSTATE and severity stay as Hologres sent them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice<'r> {
    /// The row's stable code, e.g. `OSP-1001`.
    pub code: &'r str,
    /// One sentence that says what happened, one that says what to do.
    pub message: String,
    /// The code and its page, why the statement was not run again, and what Hologres said.
    pub detail: String,
    /// One statement or command that helps; `None`: there is none, and Hologres' own hint stays.
    pub hint: Option<String>,
    /// The client gets the error as it came: programs act on its words or its SQLSTATE, or the row
    /// is not for this version.
    pub untouched: bool,
}

/// The message, detail and hint for `fault`, which `error` reported.
pub fn advise<'r>(
    fault: &Fault<'r>,
    error: ErrorFields<'_>,
    context: &AdviceContext<'_>,
) -> Advice<'r> {
    let now = SystemTime::now();
    let holds = |conditions: &[condition::Condition]| {
        conditions
            .iter()
            .all(|condition| condition.holds(context, now))
    };
    let matched = fault.rule();
    let rule = fault
        .rules
        .instead_of(matched)
        .find(|rule| holds(&rule.when))
        .unwrap_or(matched);
    let for_this_version =
        |versions: &condition::Condition| context.version.is_none() || versions.holds(context, now);
    let around = &fault.rules.words().around;
    let language = context.language;
    let names = words::Names {
        relation: context.reason.map(|reason| reason.relation.as_str()),
        project: context
            .reason
            .and_then(|reason| reason.project.as_deref())
            .or(fault.project.as_deref()),
        key_id: condition::kms_key(context).and_then(|key| key.id.as_deref()),
        version: context.version,
    };
    let text = rule.texts.iter().find(|text| holds(&text.when));
    let message = text.map(|text| {
        let texts = [text.what.of(language), text.todo.of(language)];
        words::message(texts, names, around, language)
    });
    let hint = text
        .and_then(|text| text.hint.as_deref())
        .and_then(|hint| statement(hint, context.database, names.key_id));

    let mut lines = vec![words::fill(
        around.code.of(language),
        &[("code", rule.code()), ("page", &page(rule, context))],
        language,
    )];
    if let Some(why) = context.not_retried.filter(|_| fault.is_curable()) {
        let words = &fault.rules.words().not_retried;
        let why = words.iter().find(|known| known.label == why.label());
        lines.extend(why.map(|why| {
            let values = [("why", why.why.of(language))];
            words::fill(around.why.of(language), &values, language)
        }));
    }
    let record = context.reason.and_then(|reason| reason.key.as_deref());
    if let Some(record) = record.filter(|record| record.origin == Origin::Cloud)
        && rule.code() != matched.code()
        && rule.when.iter().any(|condition| condition.is_of_key())
    {
        let time = timestamp::format(record.looked_up);
        let values = [("time", time.as_str())];
        lines.push(words::fill(around.as_of.of(language), &values, language));
    }
    let said = said(error, hint.is_some(), context.redact);
    lines.push(words::fill(
        around.said.of(language),
        &[("said", &said)],
        language,
    ));
    Advice {
        code: rule.code(),
        message: message.unwrap_or_default(),
        detail: lines.join("\n"),
        hint,
        untouched: text.is_none()
            || clients::act_on(error)
            || !matched.versions.iter().all(for_this_version),
    }
}

/// What Hologres said, with its detail, and with its hint if another takes that one's place.
fn said(error: ErrorFields<'_>, with_hint: bool, redact: bool) -> String {
    [("", b'M'), ("\nDETAIL: ", b'D'), ("\nHINT: ", b'H')]
        .into_iter()
        .filter(|&(_, code)| code != b'H' || with_hint)
        .map(|(name, code)| (name, String::from_utf8_lossy(error.get(code))))
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| {
            if redact {
                format!("{name}{}", redact_path(&text))
            } else {
                format!("{name}{text}")
            }
        })
        .collect()
}

/// The statement of a rule; `None` if it names a key and none is known that can stand in a command, or
/// if the database's name is a word that clients decide by.
fn statement(hint: &str, database: &str, key_id: Option<&str>) -> Option<String> {
    let plain = |id: &&str| {
        !id.is_empty()
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_:/.".contains(&b))
    };
    let key_id = key_id.filter(plain);
    if hint.contains("{key_id}") && key_id.is_none() {
        return None;
    }
    let database = quote_identifier(database);
    let values = [
        ("database", database.as_str()),
        ("key_id", key_id.unwrap_or_default()),
    ];
    let statement = words::fill(hint, &values, Language::English);
    clients::decide_by(&statement)
        .is_none()
        .then_some(statement)
}

/// Where a rule is explained: its section of Osprey's pages, or the vendor's page for a rule of the
/// operator's that tells no more.
fn page(rule: &Rule, context: &AdviceContext<'_>) -> String {
    if rule.story.is_none() {
        return rule.vendor().to_owned();
    }
    let base = context.docs.unwrap_or(DOCS);
    let directory = match context.language {
        Language::English => "",
        Language::Chinese => "/zh",
    };
    format!(
        "{base}{directory}/errors#{}",
        rule.code().to_ascii_lowercase()
    )
}

/// An identifier as SQL spells it, always in quotes.
fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl Advice<'_> {
    /// The whole ErrorResponse for the client: Hologres' own, with this message, detail and hint.
    /// Severity, SQLSTATE, position, file, line, routine and all else stay as Hologres sent them.
    pub fn frame(&self, error: ErrorFields<'_>) -> Vec<u8> {
        let mut frame = Vec::new();
        if self.untouched {
            compose::error(&mut frame, error.iter());
            return frame;
        }
        let hint = self.hint.as_ref().map(|hint| (b'H', hint.as_bytes()));
        let ours = [
            (b'M', self.message.as_bytes()),
            (b'D', self.detail.as_bytes()),
        ];
        let replaced = |code: u8| matches!(code, b'M' | b'D') || code == b'H' && hint.is_some();
        let (before, after): (Vec<_>, Vec<_>) = error
            .iter()
            .filter(|&(code, _)| !replaced(code))
            .partition(|(code, _)| matches!(code, b'S' | b'V' | b'C'));
        let fields = before.into_iter().chain(ours).chain(hint).chain(after);
        compose::error(&mut frame, fields);
        frame
    }
}

/// As psql prints it.
impl fmt::Display for Advice<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "ERROR:  {}", self.message)?;
        writeln!(formatter, "DETAIL:  {}", self.detail)?;
        match &self.hint {
            Some(hint) => writeln!(formatter, "HINT:  {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod pages;
#[cfg(test)]
mod tests;
